"""Thousands of damaged calls: never an exception, never a broken stream, nothing lost."""

import json
import random
import re

import pytest

from mlxd.engine.notations.table import NOTATIONS
from mlxd.events import Answer, collect
from tests.engine.notations.samples import SAMPLES
from tests.engine.texts import outcome, read, stream, words

pytestmark = pytest.mark.thorough

COUNT = 300
ALIASES = {"hermes", "laguna"}
"""Notations that are read by the same reader as another one."""

# Longer than anything a mutation copies, so that what is left of it stands where it stood.
CONTENT = "Oslofjordmuseumskvartalet"
WHOLE = ("dropped", "ends in the middle")


def mutated(chance: random.Random, text: str, scraps: list[str]) -> str:
    """`text` with one to four pieces removed, repeated, moved or put in, or cut off."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text) + 1)
        end = min(len(text), at + chance.choice((1, 1, 1, 2, 5, 20)))
        other = chance.randrange(len(text) + 1)
        match chance.randrange(7):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:at] + chance.choice("\"'\\{}[]<>|,: \n\x00é🙂a1") + text[at:]
            case 2:
                text = text[:end] + text[at:end] + text[end:]
            case 3:
                text = text[:at]
            case 4:
                text = text[:at] + chance.choice(scraps) + text[at:]
            case 5:
                text = text[:at] + chance.choice(scraps) + text[end:]
            case _:
                text = text[:at] + text[other : other + 20] + text[at:]
    return text


def pieces(chance: random.Random, text: str) -> list[str]:
    """`text` in pieces of the sizes that tokens have."""
    found = []
    while text:
        size = chance.choice((1, 2, 3, 5, 9))
        found.append(text[:size])
        text = text[size:]
    return found


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def noted(answer: Answer, *reasons: str) -> bool:
    return any(reason in note for note in answer.finished.notes for reason in reasons)


@pytest.mark.parametrize("notation", sorted(NOTATIONS.keys() - ALIASES))
def test_damaged_calls_are_read_or_stay_text(notation: str) -> None:
    samples = [sample for sample in SAMPLES if sample.notation == notation]
    for seed in range(COUNT):
        chance = random.Random(f"{notation} {seed}")
        sample = samples[seed % len(samples)]
        scraps = re.findall(r"<[^<>]{1,40}>|\[[A-Z_]+\]|```|\{|\"name\"", sample.text)
        scraps += ["<think>", "</think>", "<tool_call>", "</tool_call>"]
        text = mutated(chance, sample.text.replace("Oslo", CONTENT), scraps)
        given = sample.given._replace(reason=chance.choice(("stop", "stop", "length")))
        answer = read(text, given)
        if seed % 10 == 0:
            cut = collect(stream(pieces(chance, text), given))
            assert outcome(cut) == outcome(answer), (seed, text)
        if not noted(answer, *WHOLE):
            said = " ".join(word for part in words(answer) for word in part)
            assert said.encode().decode() == said
            assert said.count(CONTENT) >= text.count(CONTENT), (seed, text)
        if not noted(answer, "not valid JSON", "not a JSON object", "ends in the middle"):
            assert all(is_object(part.arguments) for part in answer.tool_calls), (seed, text)
