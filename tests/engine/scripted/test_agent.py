"""The built-in agent script calls one fitting tool, then answers."""

import json

import jsonschema
import pytest
from msgspec.structs import replace

from mlxd.engine.scripted.engine import ScriptedEngine, agent
from mlxd.messages import (
    AllowedTools,
    GenerateRequest,
    JsonOutput,
    JsonSchemaOutput,
    NamedTool,
    NoTools,
    RequiredTools,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests.engine.support import answer_of, ask, then, tool_result

EXEC_COMMAND = Tool(
    "exec_command",
    "Runs a command in a PTY, returning output or a session ID for ongoing interaction.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "cmd": {"type": "string", "description": "Shell command to execute."},
                "workdir": {"type": "string"},
                "shell": {"type": "string"},
                "login": {"type": "boolean"},
                "tty": {"type": "boolean"},
                "yield_time_ms": {"type": "number"},
                "max_output_tokens": {"type": "number"},
                "sandbox_permissions": {"type": "string"},
                "justification": {"type": "string"},
                "prefix_rule": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["cmd"],
            "additionalProperties": False,
        }
    ),
)
UPDATE_PLAN = Tool(
    "update_plan",
    "Updates the task plan.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "explanation": {"type": "string"},
                "plan": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "step": {"type": "string"},
                            "status": {"enum": ["pending", "in_progress", "completed"]},
                        },
                        "required": ["step", "status"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["plan"],
            "additionalProperties": False,
        }
    ),
)
BASH = Tool(
    "Bash",
    "Executes a given bash command.",
    json.dumps(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "command": {"type": "string"},
                "timeout": {"type": "number"},
                "description": {"type": "string"},
                "run_in_background": {"type": "boolean"},
            },
            "required": ["command"],
            "additionalProperties": False,
        }
    ),
)
READ = Tool(
    "Read",
    "Reads a file from the local filesystem.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "file_path": {"type": "string", "description": "The absolute path"},
                "offset": {"type": "integer", "minimum": 0},
                "limit": {"type": "integer", "exclusiveMinimum": 0},
            },
            "required": ["file_path"],
            "additionalProperties": False,
        }
    ),
)
WEATHER = Tool("get_weather", "The weather.", '{"type":"object","properties":{}}')
LOCAL_SHELL = Tool(
    "local_shell",
    parameters=json.dumps(
        {
            "type": "object",
            "properties": {"command": {"type": "array", "items": {"type": "string"}}},
            "required": ["command"],
        }
    ),
)
EDITOR = Tool(
    "str_replace_based_edit_tool",
    "Views and edits files; also lists what a shell would.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "command": {"enum": ["view", "create"]},
                "path": {"type": "string"},
            },
            "required": ["command", "path"],
        }
    ),
)


def offering(*tools: Tool, choice: ToolChoice | None = None) -> GenerateRequest:
    request = replace(ask("What is here?"), tools=tools)
    return request if choice is None else replace(request, tool_choice=choice)


async def call_of(request: GenerateRequest) -> ToolCall | None:
    """The call the agent makes, its arguments checked against the tool's schema."""
    answer = await answer_of(ScriptedEngine(agent), request)
    if not answer.tool_calls:
        assert answer.finished.reason == "stop"
        return None
    (call,) = answer.tool_calls
    (tool,) = [tool for tool in request.tools if tool.name == call.name]
    jsonschema.validate(json.loads(call.arguments), json.loads(tool.parameters))
    assert answer.finished.reason == "tool_calls"
    return call


async def text_of(request: GenerateRequest) -> str:
    return (await answer_of(ScriptedEngine(agent), request)).text


@pytest.mark.parametrize(
    ("tools", "name", "arguments"),
    [
        ((UPDATE_PLAN, EXEC_COMMAND), "exec_command", {"cmd": "echo mlxd"}),
        ((READ, BASH), "Bash", {"command": "echo mlxd"}),
        ((WEATHER, READ), "Read", {"file_path": "README.md"}),
        ((WEATHER, LOCAL_SHELL), "local_shell", {"command": ["echo", "mlxd"]}),
        (
            (WEATHER, EDITOR),
            "str_replace_based_edit_tool",
            {"command": "view", "path": "README.md"},
        ),
        ((WEATHER, UPDATE_PLAN), "get_weather", {}),
        ((UPDATE_PLAN,), "update_plan", {"plan": []}),
        ((Tool("runCommand"), WEATHER), "runCommand", {}),
        ((WEATHER, Tool("tool", "Opens a terminal.")), "tool", {}),
    ],
)
async def test_a_tool_that_looks_like_a_shell_or_reads_is_called_first(
    tools: tuple[Tool, ...], name: str, arguments: dict[str, object]
) -> None:
    call = await call_of(offering(*tools))
    assert call is not None
    assert (call.name, json.loads(call.arguments)) == (name, arguments)


async def test_an_optional_command_is_given_when_nothing_is_required() -> None:
    tool = Tool("shell", parameters='{"type":"object","properties":{"cmd":{"type":"string"}}}')
    call = await call_of(offering(tool))
    assert call is not None
    assert json.loads(call.arguments) == {"cmd": "echo mlxd"}


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (NamedTool("get_weather"), "get_weather"),
        (NamedTool("unknown"), None),
        (AllowedTools(("get_weather", "Read")), "Read"),
        (AllowedTools(("get_weather",), required=True), "get_weather"),
        (AllowedTools(()), None),
        (RequiredTools(), "Bash"),
        (NoTools(), None),
    ],
)
async def test_the_tool_choice_is_obeyed(choice: ToolChoice, name: str | None) -> None:
    call = await call_of(offering(WEATHER, READ, BASH, choice=choice))
    assert (call.name if call else None) == name


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        (None, False),
        (AllowedTools(("Bash",)), False),
        (AllowedTools(("Bash",), required=True), True),
        (RequiredTools(), True),
        (NamedTool("Bash"), True),
    ],
)
async def test_with_a_result_only_a_choice_that_demands_a_call_gets_one(
    choice: ToolChoice | None, calls: bool
) -> None:
    call = await call_of(then(offering(BASH, choice=choice), tool_result("mlxd\n")))
    assert (call is not None) == calls


async def test_the_result_is_quoted_in_the_answer() -> None:
    result = "mlxd\n" + "x" * 1000
    text = await text_of(then(offering(BASH), tool_result(result)))
    assert text == f"I looked. The result is: {result[:200]}"


async def test_a_plain_chat_is_echoed() -> None:
    assert await text_of(ask(" How are you? ")) == "You said: How are you?"
    assert await text_of(replace(ask(), messages=())) == "You said: "


async def test_json_is_answered_with_json() -> None:
    text = await text_of(replace(ask("Hi"), output=JsonOutput()))
    assert json.loads(text) == {"answer": "You said: Hi"}


async def test_a_schema_is_answered_with_an_instance_after_the_tool() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "minLength": 1}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    request = replace(offering(BASH), output=JsonSchemaOutput(json.dumps(schema)))
    assert await call_of(request) is not None
    text = await text_of(then(request, tool_result("rain")))
    jsonschema.validate(json.loads(text), schema)


async def test_calls_of_different_requests_have_different_ids() -> None:
    one = await call_of(offering(BASH))
    other = await call_of(replace(offering(BASH), id="other"))
    assert one is not None
    assert other is not None
    assert one.id != other.id


async def test_thinking_and_text_around_a_call_do_not_hide_the_result() -> None:
    assert (await text_of(then(ask(), tool_result("A"), tool_result("B")))).endswith(": B")
    assert Text("x").text == "x"
