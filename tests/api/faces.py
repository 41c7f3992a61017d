"""What the laws need to know of a dialect: how to ask in it, and how to read its answers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlxd.api.dialect import Dialect, Frame
from mlxd.api.openai_chat import OpenAIChat
from tests.api.support import CHAT, HELLO
from tests.api.toy import Toy

Json = dict[str, Any]


@dataclass(frozen=True)
class Face:
    """A dialect as its clients see it."""

    dialect: Dialect
    path: str
    body: Json
    """A plain request for a whole answer."""
    live: Json
    """What makes it a request for a stream."""
    fold: Callable[[Sequence[Frame]], Json]
    """The whole answer that a stream amounts to."""
    is_error: Callable[[Json], bool]
    """Whether a body, or the data of a frame, is this dialect's envelope."""
    ends_well: Callable[[Sequence[Frame]], bool]
    """Whether a stream has the end that clients wait for, after an error too."""


def fold_chat(frames: Sequence[Frame]) -> Json:
    """Chunks to a whole answer, as OpenAI's clients add them up."""
    chunks = [json.loads(frame.data) for frame in frames[:-1]]
    choices: dict[int, Json] = {}
    usage = None
    for chunk in chunks:
        usage = chunk["usage"] or usage
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], new_choice(part["index"]))
            add_delta(choice, part)
    shared = {key: value for key, value in chunks[0].items() if key not in ("choices", "usage")}
    whole = [finish_choice(choice) for _, choice in sorted(choices.items())]
    return {**shared, "object": "chat.completion", "choices": whole, "usage": usage}


def new_choice(index: int) -> Json:
    message: Json = {"role": None, "content": "", "refusal": None, "annotations": []}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def add_delta(choice: Json, part: Json) -> None:
    message, delta = choice["message"], part["delta"]
    message["role"] = delta.get("role") or message["role"]
    for key in ("content", "reasoning_content", "reasoning"):
        if delta.get(key):
            message[key] = message.get(key, "") + delta[key]
    for call in delta.get("tool_calls", ()):
        calls = message.setdefault("tool_calls", [])
        if call["index"] == len(calls):
            calls.append({key: value for key, value in call.items() if key != "index"})
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if part["logprobs"]:
        choice["logprobs"] = choice["logprobs"] or {"content": [], "refusal": None}
        choice["logprobs"]["content"] += part["logprobs"]["content"]
    choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]


def finish_choice(choice: Json) -> Json:
    message = choice["message"]
    if "tool_calls" in message and not message["content"]:
        message["content"] = None
    return choice


def fold_toy(frames: Sequence[Frame]) -> Json:
    named = [(frame.event, json.loads(frame.data)) for frame in frames]
    lines = [data for event, data in named if event == "line"]
    (end,) = [data for event, data in named if event == "end"]
    return {"lines": lines, "end": end}


OPENAI_CHAT = Face(
    dialect=OpenAIChat(),
    path=CHAT,
    body={"model": "demo", "messages": HELLO, "logprobs": True, "top_logprobs": 1},
    live={"stream": True, "stream_options": {"include_usage": True}},
    fold=fold_chat,
    is_error=lambda body: {"message", "type", "param", "code"} <= set(body.get("error", ())),
    ends_well=lambda frames: frames[-1].data == b"[DONE]",
)
TOY = Face(
    dialect=Toy(),
    path="/toy/en/say",
    body={"say": "Hello", "to": "demo"},
    live={"live": True},
    fold=fold_toy,
    is_error=lambda body: set(body.get("oops", ())) == {"what", "field"},
    ends_well=lambda frames: frames[-1].event in ("over", "oops"),
)
FACES = {face.dialect.name: face for face in (OPENAI_CHAT, TOY)}
