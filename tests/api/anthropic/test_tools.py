"""The tools of Messages requests: which the model is told of, and which it may call."""

import json
from typing import Any

import pytest

from mlxd.messages import (
    AutoTools,
    Message,
    NamedTool,
    NoTools,
    RequiredTools,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
)
from tests.api.messages import BASE, CACHED, assistant, heard, text, user
from tests.api.support import HELLO, MESSAGES, front
from tests.scripts import SCRIPTS

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}
TIME = {"name": "get_time", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
NEUTRAL = Tool("get_weather", "The weather.", json.dumps(SCHEMA, separators=(",", ":")))


def deferred(tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "defer_loading": True}


async def names(*tools: dict[str, Any], **fields: Any) -> list[str]:
    """The names of the tools that the engine hears of; those that are deferred in brackets."""
    request = await heard(tools=list(tools), **fields)
    return [f"({tool.name})" if tool.deferred else tool.name for tool in request.tools]


@pytest.mark.parametrize(
    ("offered", "tool"),
    [
        (WEATHER, NEUTRAL),
        ({**WEATHER, "type": "custom", "cache_control": CACHED, "strict": False}, NEUTRAL),
        (
            {**WEATHER, "type": None, "description": None},
            Tool("get_weather", "", NEUTRAL.parameters),
        ),
        ({"name": "f", "input_schema": {}, "strict": True}, Tool("f", "", "{}", strict=True)),
        (
            {"name": "f", "input_schema": {"$schema": "x", "properties": {"a": {"$ref": "#/b"}}}},
            Tool("f", "", '{"$schema":"x","properties":{"a":{"$ref":"#/b"}}}'),
        ),
    ],
)
async def test_a_tool_is_passed_on_as_it_is(offered: dict[str, Any], tool: Tool) -> None:
    assert (await heard(tools=[offered])).tools == (tool,)


@pytest.mark.parametrize(
    ("kind", "name", "properties"),
    [
        ("bash_20250124", "bash", {"command", "restart"}),
        ("bash_20241022", "bash", {"command", "restart"}),
        (
            "text_editor_20250124",
            "str_replace_editor",
            {"command", "path", "file_text", "old_str", "new_str", "insert_line", "view_range"},
        ),
        (
            "text_editor_20250728",
            "str_replace_based_edit_tool",
            {
                *("command", "path", "file_text", "old_str", "new_str", "insert_line"),
                *("insert_text", "view_range"),
            },
        ),
        (
            "memory_20250818",
            "memory",
            {
                *("command", "path", "old_path", "new_path", "file_text", "old_str", "new_str"),
                *("insert_line", "insert_text", "view_range"),
            },
        ),
    ],
)
async def test_tools_that_anthropic_defines_get_their_schemas(
    kind: str, name: str, properties: set[str]
) -> None:
    offered = {"type": kind, "name": name, "cache_control": CACHED, "strict": True}
    (tool,) = (await heard(tools=[offered])).tools
    schema = json.loads(tool.parameters)
    assert (tool.name, set(schema["properties"])) == (name, properties)
    assert tool.description
    assert tool.strict
    assert set(schema["required"]) <= properties
    commands = schema["properties"]["command"].get("enum", [])
    assert ("undo_edit" in commands) == (kind == "text_editor_20250124")


@pytest.mark.parametrize(
    ("asked", "choice", "parallel"),
    [
        (None, AutoTools(), True),
        ({"type": "auto"}, AutoTools(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, AutoTools(), False),
        ({"type": "any", "disable_parallel_tool_use": False}, RequiredTools(), True),
        ({"type": "any", "disable_parallel_tool_use": True}, RequiredTools(), False),
        ({"type": "tool", "name": "get_time"}, NamedTool("get_time"), True),
        (
            {"type": "tool", "name": "get_time", "disable_parallel_tool_use": True},
            NamedTool("get_time"),
            False,
        ),
        ({"type": "none"}, NoTools(), True),
    ],
)
async def test_the_choice_of_a_tool_is_honoured(
    asked: Any, choice: ToolChoice, parallel: bool
) -> None:
    request = await heard(tools=[WEATHER, TIME], tool_choice=asked)
    assert (request.tool_choice, request.parallel_tools) == (choice, parallel)


@pytest.mark.parametrize(
    "tool",
    [
        SEARCH,
        {"type": "web_fetch_20260318", "name": "web_fetch"},
        {"type": "code_execution_20260521", "name": "code_execution"},
        {"type": "computer_toolset_20260801", "name": "computer"},
        {"type": "mcp_toolset", "mcp_server_name": "x"},
        {"type": "something_new_20300101"},
    ],
)
async def test_tools_that_nobody_here_can_run_are_dropped_and_named(tool: dict[str, Any]) -> None:
    server = front(*SCRIPTS["text"])
    response = await server.post(BASE | {"tools": [tool, WEATHER]}, MESSAGES)
    assert response.status_code == 200
    assert response.headers["x-mlxd-ignored"] == f"tools.{tool['type']}"
    assert server.engine.requests[0].tools == (NEUTRAL,)


@pytest.mark.parametrize(
    ("tools", "choice", "told"),
    [
        ([SEARCH], {"type": "tool", "name": "web_search"}, "tool_choice.name: 'web_search' is"),
        ([SEARCH], {"type": "any"}, "tool_choice: A call is demanded, but all `tools` are run by"),
        ([], {"type": "any"}, "tool_choice: A call is demanded, but there are no `tools`."),
        ([TIME], {"type": "tool", "name": "f"}, "tool_choice.name: Tool 'f' not found"),
        ([TIME], {"type": "tool"}, "tool_choice.name: Field required"),
        ([TIME], {"type": "some"}, "tool_choice: Input tag 'some' found using 'type' does not"),
        ([TIME], {}, "tool_choice.type: Field required"),
        ([TIME], "auto", "tool_choice: Input should be an object"),
        ([SEARCH, TIME, WEATHER, TIME], None, "tools.3.name: Tool names must be unique."),
        ([{"name": "f"}], None, "tools.0.input_schema: Field required"),
        ([{"name": "f", "input_schema": []}], None, "tools.0.input_schema: Input should be an obj"),
        ([{"name": "", "input_schema": {}}], None, "tools.0.name: String should have at least 1"),
        ([{"input_schema": {}}], None, "tools.0.name: Field required"),
        ([{"type": 5}], None, "tools.0.type: Input should be a valid string"),
        (["f"], None, "tools.0: Input should be an object"),
    ],
)
async def test_what_cannot_be_called_is_refused(tools: Any, choice: Any, told: str) -> None:
    server = front(*SCRIPTS["text"])
    response = await server.post(BASE | {"tools": tools, "tool_choice": choice}, MESSAGES)
    assert response.status_code == 400
    error = (await response.get_json())["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(told)
    assert not server.engine.requests


# Deferred tools.

CALL = {"type": "tool_use", "id": "x", "name": "ToolSearch", "input": {"query": "weather"}}
FINDER = {"name": "ToolSearch", "input_schema": {"type": "object"}}
FOUND = {"type": "tool_reference", "tool_name": "get_weather"}
DEFINITION = Text(
    '{"type":"function","function":{"name":"get_weather","description":"The weather.",'
    f'"parameters":{NEUTRAL.parameters}}}}}'
)


def searched(*found: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation in which the search for a tool had this result."""
    result = {"type": "tool_result", "tool_use_id": "x", "content": list(found)}
    return [*HELLO, assistant(CALL), user(result)]


async def test_a_deferred_tool_is_left_out_until_a_message_refers_to_it() -> None:
    tools = (TIME, deferred(WEATHER), FINDER)
    assert await names(*tools) == ["get_time", "ToolSearch"]
    assert await names(*tools, messages=searched(FOUND)) == [
        *("get_time", "ToolSearch", "(get_weather)")
    ]


async def test_a_reference_reads_as_the_definition_of_the_tool() -> None:
    request = await heard(tools=[FINDER, deferred(WEATHER)], messages=searched(FOUND))
    assert request.messages[-1] == Message("tool", (ToolResult("x", (DEFINITION,)),))
    function = json.loads(DEFINITION.text)["function"]
    assert function == {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": SCHEMA,
    }


async def test_a_reference_to_an_offered_tool_offers_it_once() -> None:
    assert await names(FINDER, WEATHER, messages=searched(FOUND)) == ["ToolSearch", "get_weather"]


async def test_a_reference_to_no_tool_says_so() -> None:
    request = await heard(tools=[FINDER], messages=searched(FOUND))
    result = ToolResult("x", (Text("The tool get_weather is not available."),))
    assert request.messages[-1] == Message("tool", (result,))


@pytest.mark.parametrize(
    ("tools", "fields"),
    [
        ([deferred(WEATHER)], {}),
        ([deferred(WEATHER), {"type": "tool_search_tool_bm25_20251119", "name": "s"}, TIME], {}),
        (
            [TIME, deferred(WEATHER)],
            {"tool_choice": {"type": "tool", "name": "get_weather"}},
        ),
    ],
)
async def test_a_deferred_tool_that_nothing_could_bring_in_is_offered(
    tools: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    assert "get_weather" in await names(*tools, **fields)


def changed(kind: str, tool: dict[str, Any]) -> list[dict[str, Any]]:
    return [*HELLO, {"role": "system", "content": [{"type": kind, "tool": tool}]}, user("So?")]


async def test_tools_come_and_go_in_the_middle_of_a_conversation() -> None:
    reference = {"type": "tool_reference", "name": "get_weather"}
    tools = (TIME, deferred(WEATHER))
    added = changed("tool_addition", reference)
    assert await names(*tools, messages=added) == ["get_time", "(get_weather)"]
    removed = [*added, *changed("tool_removal", reference)]
    assert await names(*tools, messages=removed) == ["get_time"]
    inline = changed("tool_addition", {"type": "tool_definition", "definition": WEATHER})
    assert await names(TIME, messages=inline) == ["get_time", "(get_weather)"]
    request = await heard(messages=inline)
    assert request.messages[1] == Message("system", (DEFINITION,))


async def test_a_definition_that_is_none_is_refused() -> None:
    messages = changed("tool_addition", {"type": "tool_definition", "definition": {"name": "f"}})
    response = await front().post(BASE | {"messages": messages}, MESSAGES)
    assert response.status_code == 400
    assert "input_schema: Field required" in (await response.get_json())["error"]["message"]


async def test_tools_that_only_anthropic_reaches_do_not_break_a_conversation() -> None:
    messages = changed("tool_addition", {"type": "mcp_toolset_reference", "server_name": "x"})
    request = await heard(messages=[*messages, user(text("Go on."))])
    assert [message.role for message in request.messages] == ["user"]
