"""Halves of surrogate pairs are read as U+FFFD and named: a history that holds one goes on."""

import json
from typing import Any

import pytest

from mlxd.messages import Reasoning, Text, ToolCall, ToolResult
from tests.api.support import AZURE_CHAT, CHAT, MESSAGES, RESPONSES, front
from tests.scripts import SCRIPTS

Json = dict[str, Any]
HIGH, LOW, BAD = "\ud83d", "\ude00", "\ufffd"

CASES: list[tuple[str, Json, list[str]]] = [
    (
        CHAT,
        {"messages": [{"role": "user", "content": f"cut {HIGH} here"}]},
        ["messages[0].content"],
    ),
    (
        AZURE_CHAT,
        {
            "messages": [
                {"role": "system", "content": LOW},
                {"role": "user", "content": [{"type": "text", "text": LOW + HIGH}]},
            ]
        },
        ["messages[0].content", "messages[1].content[0].text"],
    ),
    (
        CHAT,
        {
            "messages": [
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": HIGH, "function": {"name": HIGH, "arguments": HIGH}}],
                },
                {"role": "tool", "tool_call_id": HIGH, "content": HIGH},
            ]
        },
        [
            *(f"messages[1].tool_calls[0].{key}" for key in ("id", "function.name")),
            *("messages[1].tool_calls[0].function.arguments", "messages[2].tool_call_id"),
            "messages[2].content",
        ],
    ),
    (
        MESSAGES,
        {
            "max_tokens": 9,
            "system": HIGH,
            "messages": [
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": HIGH},
                        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": HIGH}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t", "content": LOW}],
                },
            ],
        },
        [
            *("system", "messages[1].content[0].thinking", "messages[1].content[1].input.a"),
            "messages[2].content[0].content",
        ],
    ),
    (
        RESPONSES,
        {
            "instructions": HIGH,
            "input": [
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": HIGH},
                {"role": "user", "content": LOW},
            ],
        },
        ["instructions", "input[1].output", "input[2].content"],
    ),
]


def everything(message: object) -> str:
    """All that a request says, as one text."""
    match message:
        case Text(text=text) | Reasoning(text=text):
            return text
        case ToolCall(id=id_, name=name, arguments=arguments):
            return id_ + name + arguments
        case ToolResult(call_id=call_id, parts=parts):
            return call_id + "".join(map(everything, parts))
    raise AssertionError(message)


@pytest.mark.parametrize(("path", "body", "places"), CASES)
async def test_a_lone_half_is_read_as_u_fffd_and_named(
    path: str, body: Json, places: list[str]
) -> None:
    server = front(*SCRIPTS["text"])
    for _ in range(2):
        response = await server.send(json.dumps({"model": "demo", **body}).encode(), path)
        assert response.status_code == 200, await response.get_data()
        named = response.headers["x-mlxd-ignored"].split(",")
        assert named == [f"{place}: lone surrogates" for place in places]
    first, second = server.heard()
    said = "".join(everything(part) for message in first.messages for part in message.parts)
    assert BAD in said
    assert first.messages == second.messages


async def test_tools_may_hold_lone_halves_too() -> None:
    server = front(*SCRIPTS["text"])
    parameters = {"type": "object", "properties": {f"a{HIGH}": {"description": LOW}}}
    tool = {"type": "function", "function": {"name": f"f{HIGH}", "parameters": parameters}}
    body = {"messages": [{"role": "user", "content": "x"}], "tools": [tool]}
    response = await server.send(json.dumps(body).encode())
    assert response.status_code == 200
    (request,) = server.heard()
    (heard,) = request.tools
    assert heard.name == f"f{BAD}"
    assert json.loads(heard.parameters)["properties"] == {f"a{BAD}": {"description": BAD}}
    assert "tools[0].function.name: lone surrogates" in response.headers["x-mlxd-ignored"]


async def test_whole_pairs_stay_what_they_are() -> None:
    server = front(*SCRIPTS["text"])
    body = b'{"messages":[{"role":"user","content":"\\ud83d\\ude00 and \\\\ud83d"}]}'
    response = await server.send(body)
    assert "x-mlxd-ignored" not in response.headers
    assert server.heard()[0].messages[0].parts == (Text("\U0001f600 and \\ud83d"),)


async def test_the_header_names_it_beside_what_is_ignored() -> None:
    server = front(*SCRIPTS["text"])
    body = {"messages": [{"role": "user", "content": HIGH}], "user": "me"}
    response = await server.send(json.dumps(body).encode())
    assert response.headers["x-mlxd-ignored"] == "user,messages[0].content: lone surrogates"


async def test_what_is_stored_holds_the_character_for_what_is_no_text() -> None:
    server = front(*SCRIPTS["text"])
    first = await server.send(json.dumps({"input": f"a{HIGH}b"}).encode(), RESPONSES)
    name = (await first.get_json())["id"]
    items = await server.get(f"{RESPONSES}/{name}/input_items")
    assert (await items.get_json())["data"][0]["content"][0]["text"] == f"a{BAD}b"
    kept = {"items": [{"role": "user", "content": LOW}]}
    made = await server.send(json.dumps(kept).encode(), "/v1/conversations")
    assert made.status_code == 200
    assert made.headers["x-mlxd-ignored"] == "items[0].content: lone surrogates"
