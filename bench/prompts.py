"""What the streams are asked: long answers, so that a run is decoding most of the time."""

from itertools import count
from typing import Literal

Kind = Literal["short", "shared", "own"]
Chat = list[dict[str, str]]

SUBJECTS = [
    *("a lighthouse", "a river", "a clock", "a garden", "a ship", "a market", "a mountain"),
    *("a library", "a bridge", "a kitchen", "a train", "a forest", "a school", "a painter"),
    *("a winter", "a harbour", "a desert", "a mill", "a violin", "a castle", "a comet", "a bakery"),
    *("a village", "a storm", "a museum", "a theatre", "an island", "a meadow", "a lantern"),
    *("a carpenter", "an orchard", "a glacier"),
]
SENTENCE = (
    "Rule {number} of {topic}: answer in whole sentences and name the place, year and reason."
)
PREFIX_RULES = 48
"""Sentences of about 21 tokens each: a prefix of about a thousand tokens."""

_fresh = count(1)


def plain(streams: int) -> list[Chat]:
    """The same chats at every call, one a stream."""
    return [[ask(SUBJECTS[stream % len(SUBJECTS)])] for stream in range(streams)]


def chats(kind: Kind, streams: int) -> list[Chat]:
    """Chats that were never asked before; `shared` ones begin alike, `own` ones do not."""
    numbers = [next(_fresh) for _ in range(streams)]
    questions = [ask(f"{SUBJECTS[number % len(SUBJECTS)]}, number {number}") for number in numbers]
    if kind == "short":
        return [[question] for question in questions]
    topics = ["this house" if kind == "shared" else f"house {number}" for number in numbers]
    return [[rules(topic), question] for topic, question in zip(topics, questions, strict=True)]


def ask(subject: str) -> dict[str, str]:
    return {"role": "user", "content": f"Write a very long story about {subject}."}


def rules(topic: str) -> dict[str, str]:
    sentences = (SENTENCE.format(number=number, topic=topic) for number in range(PREFIX_RULES))
    return {"role": "system", "content": f"About {topic}. " + " ".join(sentences)}
