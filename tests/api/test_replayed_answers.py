"""Whatever an answer holds can be sent back as history, and nothing of it is named as ignored."""

import json
from typing import Any

import pytest

from tests.api.faces import FACES
from tests.api.support import (
    AZURE_CHAT,
    CHAT,
    HELLO,
    MESSAGES,
    RESPONSES,
    bytes_of,
    front,
    sse_frames,
)
from tests.scripts import STARTED, call, finished, reasoning, text

Json = dict[str, Any]
SCRIPT = (
    *(STARTED, *reasoning(0, "Hm."), *text(1, "So."), *call(2, "f", '{"a": 1}')),
    *(*call(3, "run", '{"input": "x"}'), finished("tool_calls")),
)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CHAT_FIELDS: Json = {
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
        {"type": "custom", "custom": {"name": "run"}},
    ],
    "logprobs": True,
}
OLDER_FIELDS: Json = {"functions": [{"name": "f", "parameters": SCHEMA}]}
MESSAGES_FIELDS: Json = {
    "max_tokens": 9,
    "tools": [{"name": "f", "input_schema": SCHEMA}, {"name": "run", "input_schema": SCHEMA}],
    "thinking": {"type": "adaptive"},
}
RESPONSES_FIELDS: Json = {
    "tools": [
        {"type": "function", "name": "f", "parameters": SCHEMA},
        {"type": "custom", "name": "run"},
    ],
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
}


async def answered(path: str, body: Json, *, stream: bool) -> Any:
    response = await front(*SCRIPT).post({**body, "stream": stream}, path)
    assert response.status_code == 200, await response.get_data()
    assert "x-mlxd-ignored" not in response.headers
    data = await bytes_of(response)
    return sse_frames(data) if stream else json.loads(data)


async def silent(path: str, body: Json) -> None:
    response = await front(*SCRIPT).post(body, path)
    assert response.status_code == 200, await response.get_data()
    assert "x-mlxd-ignored" not in response.headers, response.headers["x-mlxd-ignored"]


@pytest.mark.parametrize("path", [CHAT, AZURE_CHAT])
@pytest.mark.parametrize("fields", [CHAT_FIELDS, OLDER_FIELDS])
async def test_chat_answers_come_back_in_silence(path: str, fields: Json) -> None:
    body = {"messages": HELLO, **fields}
    whole = await answered(path, body, stream=False)
    message = whole["choices"][0]["message"]
    await silent(path, {**body, "messages": [*HELLO, message, *HELLO]})
    frames = await answered(path, body, stream=True)
    delta: Json = {}
    for frame in frames[:-1]:
        for choice in json.loads(frame.data)["choices"]:
            for key, value in choice["delta"].items():
                # Pieces of arguments are no whole calls.
                if "arguments" in str(value) and "name" not in str(value):
                    continue
                delta[key] = [*delta.get(key, []), *value] if isinstance(value, list) else value
    await silent(path, {**body, "messages": [*HELLO, {**delta, "role": "assistant"}, *HELLO]})


@pytest.mark.parametrize("display", [None, "omitted"])
async def test_messages_come_back_in_silence(display: str | None) -> None:
    body = {"messages": HELLO, **MESSAGES_FIELDS}
    body["thinking"] = {"type": "adaptive", **({"display": display} if display else {})}
    whole = await answered(MESSAGES, body, stream=False)
    folded = FACES["anthropic"].fold(await answered(MESSAGES, body, stream=True))
    for message in (whole, folded):
        await silent(MESSAGES, {**body, "messages": [*HELLO, message, *HELLO]})


@pytest.mark.parametrize("summary", [None, "auto"])
async def test_items_come_back_in_silence_as_they_were_at_any_time(summary: str | None) -> None:
    body = {"input": "Hello", **RESPONSES_FIELDS, "reasoning": {"summary": summary}}
    whole = await answered(RESPONSES, body, stream=False)
    events = [
        json.loads(frame.data) for frame in (await answered(RESPONSES, body, stream=True))[:-1]
    ]
    items = [event["item"] for event in events if "item" in event]
    responses = [event["response"] for event in events if "response" in event]
    outputs = [whole["output"], items, *(each["output"] for each in responses)]
    for output in outputs:
        await silent(RESPONSES, {**body, "input": [*HELLO, *output, *HELLO]})
    stored = await front(*SCRIPT).post({"items": [*HELLO, *whole["output"]]}, "/v1/conversations")
    assert "x-mlxd-ignored" not in stored.headers


async def test_a_compaction_comes_back_in_silence() -> None:
    server = front(STARTED, *text(0, "Much was said."), finished())
    response = await server.post({"model": "demo", "input": "Hello"}, f"{RESPONSES}/compact")
    output = (await response.get_json())["output"]
    await silent(RESPONSES, {"input": [*output, *HELLO]})
