"""What the laws need to know of a dialect: how to ask in it, and how to read its answers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlxd.api.anthropic.dialect import Anthropic
from mlxd.api.azure.dialect import Azure
from mlxd.api.dialect import Dialect, Frame
from mlxd.api.ollama.dialect import Ollama
from mlxd.api.openai.chat.dialect import OpenAIChat
from mlxd.api.openai.responses.dialect import OpenAIResponses
from tests.api.support import (
    AZURE_CHAT,
    CHAT,
    HELLO,
    MESSAGES,
    OLLAMA_CHAT,
    RESPONSES,
    json_lines,
    sse_frames,
)
from tests.api.toy_ndjson import Toy

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
    alive: bytes = b": keep-alive"
    """What a stream that waits for its first block is kept alive with."""
    read: Callable[[bytes], list[Frame]] = sse_frames
    """The frames of a stream."""


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
    values = [json.loads(frame.data) for frame in frames]
    (end,) = [value["end"] for value in values if "end" in value]
    return {"lines": [value["line"] for value in values if "line" in value], "end": end}


def fold_messages(frames: Sequence[Frame]) -> Json:
    """Named events to a whole message, as Anthropic's clients add them up."""
    message: Json = {}
    pieces: list[str] = []
    for frame in frames:
        event = json.loads(frame.data)
        assert event["type"] == frame.event
        match event:
            case {"type": "message_start"}:
                message = event["message"]
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(message["content"])
                message["content"].append(block)
                pieces = []
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                assert index == len(message["content"]) - 1
                add_to_block(message["content"][index], delta, pieces)
            case {"type": "content_block_stop", "index": index}:
                block = message["content"][index]
                if block["type"] == "tool_use":
                    block["input"] = json.loads("".join(pieces) or "{}")
            case {"type": "message_delta"}:
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case _:
                assert event in ({"type": "ping"}, {"type": "message_stop"})
    return message


def add_to_block(block: Json, delta: Json, pieces: list[str]) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": text}:
            block["thinking"] += text
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "input_json_delta", "partial_json": text}:
            assert block["type"] == "tool_use"
            pieces.append(text)
        case _:
            raise AssertionError(delta)


def fold_response(frames: Sequence[Frame]) -> Json:
    """Events to a whole response: its items as they were done, which its end must repeat."""
    *told, done = frames
    assert done.data == b"[DONE]"
    events = [json.loads(frame.data) for frame in told]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    response: Json = events[-1]["response"]
    assert response["output"] == items
    for event in events:
        match event:
            case {"type": "response.output_text.done", "item_id": item_id, "text": text}:
                deltas = [
                    each["delta"]
                    for each in events
                    if each["type"] == "response.output_text.delta" and each["item_id"] == item_id
                ]
                assert "".join(deltas) == text
    return response


def fold_lines(frames: Sequence[Frame]) -> Json:
    """Lines to a whole answer, as Ollama's clients add them up."""
    *lines, last = [json.loads(frame.data) for frame in frames]
    assert [line["done"] for line in (*lines, last)] == [False] * len(lines) + [True]
    message, logprobs = last["message"], []
    for line in lines:
        logprobs += line.get("logprobs", ())
        for key, value in line["message"].items():
            if key != "role":
                message[key] = message.get(key, type(value)()) + value
    # The last line's own text is empty, and comes after all others.
    whole: Json = last | ({"logprobs": logprobs} if logprobs else {})
    return whole


OPENAI_CHAT = Face(
    dialect=OpenAIChat(),
    path=CHAT,
    body={"model": "demo", "messages": HELLO, "logprobs": True, "top_logprobs": 1},
    live={"stream": True, "stream_options": {"include_usage": True}},
    fold=fold_chat,
    is_error=lambda body: {"message", "type", "param", "code"} <= set(body.get("error", ())),
    ends_well=lambda frames: [frame.data for frame in frames].index(b"[DONE]") == len(frames) - 1,
)
OPENAI_RESPONSES = Face(
    dialect=OpenAIResponses(),
    path=RESPONSES,
    body={"model": "demo", "input": "Hello", "top_logprobs": 1},
    live={"stream": True},
    fold=fold_response,
    is_error=lambda body: {"message", "type", "param", "code"} <= set(body.get("error") or ()),
    ends_well=lambda frames: [frame.data for frame in frames].index(b"[DONE]") == len(frames) - 1,
    alive=b"event: response.in_progress",
)
ANTHROPIC = Face(
    dialect=Anthropic(),
    path=MESSAGES,
    body={
        "model": "demo",
        "max_tokens": 7,
        "messages": HELLO,
        "thinking": {"type": "adaptive"},
    },
    live={"stream": True},
    fold=fold_messages,
    is_error=lambda body: body.get("type") == "error" and set(body) >= {"error", "request_id"},
    ends_well=lambda frames: frames[-1].event in ("message_stop", "error"),
    alive=b"event: ping",
)
AZURE = replace(
    OPENAI_CHAT,
    dialect=Azure(),
    path=AZURE_CHAT,
    body={"messages": HELLO, "logprobs": True, "top_logprobs": 1},
)
OLLAMA = Face(
    dialect=Ollama(),
    path=OLLAMA_CHAT,
    body={
        **{"model": "demo", "messages": HELLO, "stream": False},
        **{"logprobs": True, "top_logprobs": 1},
    },
    live={"stream": True},
    fold=fold_lines,
    is_error=lambda body: set(body) == {"error"} and isinstance(body["error"], str),
    ends_well=lambda frames: "done" not in (last := json.loads(frames[-1].data)) or last["done"],
    alive=b'"content":""},"done":false}',
    read=json_lines,
)
TOY = Face(
    dialect=Toy(),
    path="/toy/say",
    body={"say": "Hello", "to": "demo"},
    live={"live": True},
    fold=fold_toy,
    is_error=lambda body: set(body.get("oops", ())) == {"what", "field"},
    ends_well=lambda frames: json.loads(frames[-1].data).keys() <= {"over", "oops"},
    alive=b'{"waiting":true}',
    read=json_lines,
)
ALL = (OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, AZURE, OLLAMA, TOY)
FACES = {face.dialect.name: face for face in ALL}
