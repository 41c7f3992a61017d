"""An error names the place of its fault in the body as it was sent, in every dialect."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mlxd.engine.scripted.engine import ScriptItem
from mlxd.errors import InvalidField
from mlxd.messages import GenerateRequest
from tests.api.support import AZURE_CHAT, CHAT, MESSAGES, PNG_URL, RESPONSES, front
from tests.scripts import SCRIPTS

pytestmark = pytest.mark.thorough

Json = dict[str, Any]
Path = tuple[str | int, ...]
SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION: Json = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": False}

CHAT_BODY: Json = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "t"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "h"},
                {"type": "refusal", "refusal": "n"},
            ],
            "tool_calls": [
                {"id": "i", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "j", "type": "custom", "custom": {"name": "c", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "i", "content": [{"type": "text", "text": "r"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": PNG_URL}},
            ],
        },
    ],
    "tools": [
        {"type": "web_search"},
        {"type": "function", "function": FUNCTION},
        {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
    },
    "stop": ["a", "b"],
    "temperature": 0.5,
    "logit_bias": {"7": 1},
    "stream_options": {"include_usage": True},
    "reasoning_effort": "low",
    "thinking": {"type": "enabled", "budget_tokens": 9},
    "chat_template_kwargs": {"enable_thinking": True},
    "max_tokens": 9,
    "n": 1,
    "seed": 7,
}
MESSAGES_BODY: Json = {
    "max_tokens": 9,
    "system": [{"type": "text", "text": "s"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "t"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "h", "signature": "x"},
                {"type": "text", "text": "t"},
                {"type": "tool_use", "id": "i", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "i",
                    "content": [{"type": "text", "text": "r"}],
                    "is_error": False,
                },
                {"type": "document", "source": {"type": "text", "data": "d"}, "title": "t"},
                {
                    "type": "search_result",
                    "source": "s",
                    "title": "t",
                    "content": [{"type": "text", "text": "x"}],
                },
            ],
        },
    ],
    "tools": [
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "f", "description": "d", "input_schema": SCHEMA},
    ],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["a", "b"],
    "temperature": 0.5,
    "top_k": 5,
}
RESPONSES_BODY: Json = {
    "instructions": "i",
    "input": [
        {"type": "message", "role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "input_text", "text": "t"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "h"}]},
        {"type": "function_call", "call_id": "i", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "i",
            "output": [{"type": "input_text", "text": "r"}],
        },
        {"type": "custom_tool_call", "call_id": "j", "name": "c", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "j", "output": "y"},
        {"type": "additional_tools", "tools": [{"type": "function", "name": "g"}]},
        {
            "role": "user",
            "content": [{"type": "input_file", "filename": "a", "file_data": "SGk="}],
        },
    ],
    "tools": [
        {"type": "web_search"},
        {"type": "function", **FUNCTION},
        {
            "type": "namespace",
            "name": "files",
            "tools": [{"type": "function", "name": "open", "parameters": SCHEMA}],
        },
    ],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "max_output_tokens": 9,
    "include": ["reasoning.encrypted_content"],
    "metadata": {"k": "v"},
    "temperature": 0.5,
    "truncation": "auto",
}
BODIES = {
    CHAT: CHAT_BODY,
    AZURE_CHAT: CHAT_BODY,
    MESSAGES: MESSAGES_BODY,
    RESPONSES: RESPONSES_BODY,
}
ANY = ("properties", "signature", "input", "schema", "input_schema", "parameters", "metadata")
"""Below these any JSON may stand, or nothing is read."""


SERVER = front(*SCRIPTS["text"])


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The place of everything in a body."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*path, number))


def damaged(body: Json, path: Path, fault: Any) -> Json:
    body = copy.deepcopy(body)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = fault
    return body


def read(place: str) -> Path:
    """`messages[0].content` and `messages.0.content` as steps into the body."""
    steps = re.findall(r"[^.\[\]]+", place)
    return tuple(int(step) if step.isdecimal() and len(step) < 3 else step for step in steps)


async def told(path: str, body: Json, play: Any = None) -> Path | None:
    """The place that the refusal names, None if the body is taken."""
    server = front(play=play) if play else SERVER
    response = await server.post(body, path)
    if response.status_code == 200:
        return None
    assert response.status_code == 400, await response.get_data()
    error = (await response.get_json())["error"]
    return read(error["param"] if "param" in error else error["message"].partition(": ")[0])


CASES = [
    (route, path)
    for route, body in BODIES.items()
    for path in paths(body)
    if not any(step in ANY for step in path[:-1])
]


@pytest.mark.parametrize("fault", [[[]], 5.5, None], ids=str)
@pytest.mark.parametrize("route", BODIES)
async def test_a_fault_anywhere_is_named_by_its_place(route: str, fault: Any) -> None:
    wrong = []
    for _, path in (case for case in CASES if case[0] == route):
        place = await told(route, damaged(BODIES[route], path, fault))
        # One vendor names the object whose type is wrong; a choice can't be made without its list.
        known = path[:-1] if route == MESSAGES and path[-1] == "type" else path
        known = ("tool_choice",) if (path, fault) == (("tools",), None) else known
        # Or behind it: what is inside may be what is missing.
        if place is not None and tuple(map(str, place[: len(known)])) != tuple(map(str, known)):
            wrong.append((path, place))
    assert wrong == []


INSIDE = "tools.0.function.parameters.properties.a"
ENGINE: list[tuple[str, str, str]] = [
    (CHAT, INSIDE, "tools[1].function.parameters.properties.a"),
    (
        CHAT,
        "tools.1.function.parameters.properties.input.pattern",
        "tools[2].custom.format.grammar.definition",
    ),
    (CHAT, "response_format", "response_format"),
    (CHAT, "messages", "messages"),
    (AZURE_CHAT, INSIDE, "tools[1].function.parameters.properties.a"),
    (MESSAGES, INSIDE, "tools.1.input_schema.properties.a"),
    (MESSAGES, "response_format", "output_config.format"),
    (MESSAGES, "messages", "messages"),
    (RESPONSES, INSIDE, "tools[1].parameters.properties.a"),
    (RESPONSES, "tools.1.function.parameters", "tools[2].tools[0].parameters"),
    (RESPONSES, "tools.2.function.parameters", "input[7].tools[0].parameters"),
    (RESPONSES, "response_format", "text.format"),
    (RESPONSES, "messages", "input"),
    (RESPONSES, "messagesome", "messagesome"),
]


@pytest.mark.parametrize(("route", "field", "place"), ENGINE)
async def test_a_fault_that_the_engine_finds_is_named_as_it_was_sent(
    route: str, field: str, place: str
) -> None:
    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        raise InvalidField(field, "unsupported", "It can't be.")
        yield from SCRIPTS["text"]

    body = BODIES[route]
    ways = [{}, {"stream": True}, *([{"background": True}] if route == RESPONSES else [])]
    for fields in ways:
        assert await told(route, {**body, **fields}, play) == read(place)


async def test_the_older_names_of_tools_are_used_where_they_were_sent() -> None:
    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        raise InvalidField(INSIDE, "unsupported", "It can't be.")
        yield from SCRIPTS["text"]

    body = {"messages": CHAT_BODY["messages"], "functions": [FUNCTION]}
    assert await told(CHAT, body, play) == read("functions[0].parameters.properties.a")
    older = {"output_format": {"type": "json_schema", "schema": SCHEMA}}

    def fails(request: GenerateRequest) -> Iterator[ScriptItem]:
        raise InvalidField("response_format", "unsupported", "It can't be.")
        yield from SCRIPTS["text"]

    body = {**MESSAGES_BODY, "output_config": None, **older}
    assert await told(MESSAGES, body, fails) == ("output_format",)
