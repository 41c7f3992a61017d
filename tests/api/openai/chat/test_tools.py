"""Tools of a Chat Completions request, and calls in its answers."""

import json
from typing import Any

import pytest

from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    NamedTool,
    NoTools,
    RequiredTools,
    Tool,
    ToolChoice,
)
from tests.api.faces import fold_chat
from tests.api.support import bytes_of, error_of, front, sse_frames
from tests.scripts import STARTED, call, finished, text

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": SCHEMA,
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "description": None}}
SQL = {
    "type": "custom",
    "custom": {"name": "sql", "description": "A query", "format": {"type": "text"}},
}
FUNCTIONS = [{"name": "get_weather", "parameters": SCHEMA}, {"name": "get_time"}]


def named(name: str, kind: str = "function") -> dict[str, Any]:
    return {"type": kind, kind: {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


SERVER = front(STARTED, *text(0, "Hello"), finished())


async def heard(**fields: Any) -> GenerateRequest:
    """The one request that the engine gets."""
    response = await SERVER.ask(**fields)
    assert response.status_code == 200, await response.get_data()
    (request,) = SERVER.heard()
    return request


async def test_tools_are_passed_on_with_their_schemas_as_text() -> None:
    weather, time, sql = (await heard(tools=[WEATHER, TIME, SQL])).tools
    assert weather == Tool("get_weather", "Weather of a city", json_text(SCHEMA), strict=True)
    assert time == Tool("get_time")
    assert json.loads(sql.parameters)["required"] == ["input"]


def json_text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


async def test_tools_that_only_their_vendor_can_run_are_dropped() -> None:
    request = await heard(tools=[{"type": "web_search", "x": 1}, TIME, {"type": "mcp"}])
    assert request.tools == (Tool("get_time"),)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, AutoTools()),
        ("auto", AutoTools()),
        ("none", NoTools()),
        ("required", RequiredTools()),
        (named("get_time"), NamedTool("get_time")),
        (named("sql", "custom"), NamedTool("sql")),
        (allowed("auto", "get_time"), AllowedTools(("get_time",))),
        (allowed("required", "get_time", "sql"), AllowedTools(("get_time", "sql"), required=True)),
    ],
)
async def test_every_form_of_tool_choice_is_understood(choice: Any, expected: ToolChoice) -> None:
    assert (await heard(tools=[WEATHER, TIME, SQL], tool_choice=choice)).tool_choice == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, AutoTools()),
        ("auto", AutoTools()),
        ("none", NoTools()),
        ({"name": "get_time"}, NamedTool("get_time")),
    ],
)
async def test_functions_are_the_old_name_of_tools(choice: Any, expected: ToolChoice) -> None:
    request = await heard(functions=FUNCTIONS, function_call=choice)
    assert request.tools == (Tool("get_weather", "", json_text(SCHEMA)), Tool("get_time"))
    assert request.tool_choice == expected
    assert not request.parallel_tools


@pytest.mark.parametrize(("asked", "expected"), [(None, True), (True, True), (False, False)])
async def test_parallel_calls_can_be_forbidden(asked: bool | None, expected: bool) -> None:
    request = await heard(tools=[TIME], parallel_tool_calls=asked)
    assert request.parallel_tools is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tool_choice": named("get_time")},
        {"tool_choice": "required", "tools": []},
        {"tool_choice": "required", "tools": [{"type": "web_search"}]},
        {"tool_choice": named("unknown"), "tools": [TIME]},
        {"tool_choice": allowed("auto", "unknown"), "tools": [TIME]},
        {"tool_choice": {"type": "web_search"}, "tools": [TIME, {"type": "web_search"}]},
        {"tool_choice": "any", "tools": [TIME]},
        {"tool_choice": 5, "tools": [TIME]},
        {"tool_choice": {"type": "function"}, "tools": [TIME]},
        {"tool_choice": {}, "tools": [TIME]},
    ],
)
async def test_a_choice_that_cannot_be_met_is_refused(fields: dict[str, Any]) -> None:
    response = await front().ask(**fields)
    assert response.status_code == 400
    assert (await error_of(response))["param"].startswith("tool_choice")


CUSTOM_CALL = (
    STARTED,
    *text(0, "Looking."),
    *call(1, "sql", '{"input":"SEL', 'ECT \\u00e9"}'),
    *call(2, "get_time", "{}"),
    *call(3, "sql", "SELECT 2"),
    finished("tool_calls"),
)


async def test_calls_of_custom_tools_carry_their_text_and_not_arguments() -> None:
    server = front(*CUSTOM_CALL)
    whole = await (await server.ask(tools=[SQL, TIME])).get_json()
    calls = whole["choices"][0]["message"]["tool_calls"]
    assert calls == [
        {"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "SELECT \u00e9"}},
        {"id": "call_2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        {"id": "call_3", "type": "custom", "custom": {"name": "sql", "input": "SELECT 2"}},
    ]
    options = {"include_usage": True}
    stream = await server.ask(tools=[SQL, TIME], stream=True, stream_options=options)
    folded = fold_chat(sse_frames(await bytes_of(stream)))
    assert folded["choices"] == whole["choices"]


async def test_a_custom_tools_pattern_is_enforced_and_other_grammars_are_told() -> None:
    for syntax, ignored in (("regex", None), ("lark", "tools.custom.format")):
        grammar = {"type": "grammar", "grammar": {"syntax": syntax, "definition": "[a-z]+"}}
        tool = {"type": "custom", "custom": {"name": "sql", "format": grammar}}
        response = await SERVER.ask(tools=[tool])
        assert response.headers.get("x-mlxd-ignored") == ignored
        (heard_tool,) = SERVER.heard()[-1].tools
        assert heard_tool.description == f"The input must match this {syntax}:\n[a-z]+"
        assert heard_tool.strict is (syntax == "regex")


async def test_who_asks_with_functions_is_answered_with_a_function_call() -> None:
    server = front(STARTED, *call(0, "get_time", '{"a"', ":1}"), finished("tool_calls"))
    whole = await (await server.ask(functions=FUNCTIONS)).get_json()
    expected = {"name": "get_time", "arguments": '{"a":1}'}
    assert whole["choices"][0]["message"]["function_call"] == expected
    assert "tool_calls" not in whole["choices"][0]["message"]
    assert whole["choices"][0]["finish_reason"] == "function_call"
    stream = await server.ask(functions=FUNCTIONS, stream=True)
    deltas = [
        json.loads(frame.data)["choices"][0] for frame in sse_frames(await bytes_of(stream))[:-1]
    ]
    calls = [each["delta"]["function_call"] for each in deltas if "function_call" in each["delta"]]
    assert calls == [
        {"name": "get_time", "arguments": ""},
        {"arguments": '{"a"'},
        {"arguments": ":1}"},
    ]
    assert deltas[-1]["finish_reason"] == "function_call"
