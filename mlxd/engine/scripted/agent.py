"""The built-in script `agent`: calls a tool once, then answers.

When tools may be called and no message holds a tool's result yet, it calls one: a tool that looks
like a shell, else one that reads, else the first, with arguments that satisfy the tool's schema.
With a result it answers with the result's beginning, in a plain chat with the question's. If the
request asks for JSON, the answer is JSON that satisfies the schema. A tool choice that demands a
call is obeyed every time.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from mlxd.engine.scripted.answers import block, call_id, holds_result, last_user_text
from mlxd.engine.scripted.json_generator import Json, instance
from mlxd.events import Event, Finished, Started
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    JsonOutput,
    JsonSchemaOutput,
    NamedTool,
    NoTools,
    RequiredTools,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

QUOTED_CHARS = 200

_SHELL_WORDS = ("shell", "bash", "exec", "run", "terminal", "command")
_READ_WORDS = ("read", "view", "cat", "ls", "open", "file")
_COMMAND_NAMES = ("command", "cmd", "commands", "script", "shell_command")
_PATH_NAMES = (
    *("path", "file_path", "filepath", "file", "filename", "absolute_path"),
    *("relative_path", "target_file", "notebook_path"),
)


def agent(request: GenerateRequest) -> Iterator[Event]:
    """Play the script; a `Play`."""
    yield Started("", 0)
    tool = tool_to_call(request)
    if tool is not None:
        arguments = json.dumps(instance(tool.parameters, likely_arguments), ensure_ascii=False)
        yield from block(0, ToolCall(call_id(request, 0), tool.name, arguments))
        yield Finished("tool_calls")
    else:
        yield from block(0, Text(answer(request)))
        yield Finished("stop")


def tool_to_call(request: GenerateRequest) -> Tool | None:
    """The tool to call now, if one is to be called."""
    choice = request.tool_choice
    tools: Sequence[Tool] = request.tools
    demanded = False
    match choice:
        case NoTools():
            return None
        case NamedTool(name):
            tools, demanded = [tool for tool in tools if tool.name == name], True
        case AllowedTools(names, demanded):
            tools = [tool for tool in tools if tool.name in names]
        case RequiredTools():
            demanded = True
        case AutoTools():
            pass
        case _:
            assert_never(choice)
    if not tools or (any(map(holds_result, request.messages)) and not demanded):
        return None
    return min(tools, key=_rank)


def likely_arguments(name: str) -> Sequence[Json]:
    """Harmless arguments for properties whose name says what they are."""
    if name.lower() in _COMMAND_NAMES:
        return ["echo mlxd", ["echo", "mlxd"]]
    if name.lower() in _PATH_NAMES:
        return ["README.md"]
    return []


def answer(request: GenerateRequest) -> str:
    """The text of a final answer."""
    result = last_result(request)
    if result is None:
        text = f"You said: {last_user_text(request).strip()[:QUOTED_CHARS]}"
    else:
        text = f"I looked. The result is: {result.strip()[:QUOTED_CHARS]}"
    match request.output:
        case JsonSchemaOutput(schema):
            return json.dumps(instance(schema), ensure_ascii=False)
        case JsonOutput():
            return json.dumps({"answer": text}, ensure_ascii=False)
    return text


def last_result(request: GenerateRequest) -> str | None:
    """The text of the last tool result, None if there is no result."""
    for message in reversed(request.messages):
        for part in reversed(message.parts):
            if isinstance(part, ToolResult):
                return "".join(inner.text for inner in part.parts if isinstance(inner, Text))
    return None


def _rank(tool: Tool) -> int:
    """0 for the tool that looks most like a shell."""
    name, description = _words(tool.name), _words(tool.description)
    if name & set(_SHELL_WORDS):
        return 0
    if name & set(_READ_WORDS):
        return 1
    return 2 if description & {"shell", "bash", "terminal"} else 3


def _words(text: str) -> set[str]:
    """The words of a name in any of the usual spellings, in lower case."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return set(re.findall(r"[a-z]+", spaced.lower()))
