"""Short ways to write Responses requests, and to see what is asked and answered; no server."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlxd.api.dialect import Caller, Frame
from mlxd.api.openai.responses.dialect import OpenAIResponses
from mlxd.api.openai.responses.format.calls import Past, ResolvedCall, UnresolvedCall
from mlxd.api.openai.responses.format.items import stored_items
from mlxd.events import Event, Failed
from mlxd.history import Item
from mlxd.messages import GenerateRequest, Message
from tests.api.support import FIXED, NOW

Json = dict[str, Any]
DIALECT = OpenAIResponses()
RESPONSE = "resp_0123456789abcdef0123456789abcdef"
FUNCTION: Json = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CUSTOM: Json = {"type": "custom", "name": "run", "description": "Runs code."}
SPACE: Json = {
    "type": "namespace",
    "name": "files",
    "description": "Files.",
    "tools": [{"type": "function", "name": "open", "parameters": None}, {**CUSTOM, "name": "sed"}],
}
SEARCH: Json = {"type": "web_search", "external_web_access": True}


def caller(**fields: Any) -> Caller:
    return Caller(FIXED.new_id(), created=NOW, **fields)


def parsed(**fields: Any) -> UnresolvedCall:
    """The call for these fields, "Hello" being the input if none is given."""
    body = {"model": "demo", "input": "Hello", **fields}
    # As it would have come over the wire.
    return DIALECT.response_call(json.loads(json.dumps(body)), caller())


def compact(**fields: Any) -> UnresolvedCall:
    """The call for a summary."""
    body = {"model": "demo", "input": "Hello", **fields}
    return DIALECT.compact_call(json.loads(json.dumps(body)), caller())


def answered(past: Sequence[Item] = (), **fields: Any) -> ResolvedCall:
    return parsed(**fields).resolve(Past(past))


def heard(past: Sequence[Item] = (), **fields: Any) -> GenerateRequest:
    """The one request that the engine gets."""
    (request,) = answered(past, **fields).requests
    return request


def said(*items: Json, past: Sequence[Item] = (), **fields: Any) -> tuple[Message, ...]:
    return heard(past, input=list(items), **fields).messages


def items(*values: Json) -> tuple[Item, ...]:
    """Items as the store has them."""
    return stored_items(json.loads(json.dumps(values)))


def bodies(found: Iterable[Item]) -> list[Json]:
    return [json.loads(item.body) for item in found]


def frames_of(script: Iterable[Event], **fields: Any) -> list[Frame]:
    """The whole stream that `script` becomes."""
    renderer = answered(**fields).renderer
    frames: list[Frame] = []
    event: Event | None = None
    for event in script:
        frames += renderer.frames(0, event)
    return frames if isinstance(event, Failed) else [*frames, *renderer.end()]


def events_of(script: Iterable[Event], **fields: Any) -> list[Json]:
    """The events of that stream, which must end in `[DONE]`."""
    *frames, done = frames_of(script, **fields)
    assert done.data == b"[DONE]"
    events = [json.loads(frame.data) for frame in frames]
    assert [event["type"] for event in events] == [frame.event for frame in frames]
    return events


def response_of(script: Iterable[Event], **fields: Any) -> Json:
    """The response after the whole of `script`."""
    renderer = answered(**fields).renderer
    for event in script:
        list(renderer.frames(0, event))
    body: Json = json.loads(json.dumps(renderer.snapshot()))
    return body


def output_of(script: Iterable[Event], **fields: Any) -> list[Json]:
    output: list[Json] = response_of(script, **fields)["output"]
    return output


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def call(name: str, number: int = 0, **fields: Any) -> Json:
    told: Mapping[str, Any] = {"arguments": "{}", **fields}
    return {"type": "function_call", "call_id": f"call_{number}", "name": name, **told}


def result(output: Any, number: int = 0) -> Json:
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": output}
