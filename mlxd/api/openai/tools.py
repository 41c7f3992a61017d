"""Tools of OpenAI's APIs in no dialect, and custom tools, which the model sees as functions."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from mlxd.api.openai.errors import wrong_value
from mlxd.api.openai.wire import ToolName, Wire, type_tag
from mlxd.messages import AutoTools, NoTools, RequiredTools, Tool, ToolChoice

NO_PARAMETERS = Tool(name="").parameters
CUSTOM_PATTERN = ".properties.input.pattern"
"""Where the parameters of a custom tool have the pattern of its input."""
CUSTOM_PARAMETERS = (
    '{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    '"additionalProperties":false}'
)
"""What the model sees of a custom tool: a function of one string."""

_LAST = re.compile(r"(?<!\\)(?:\\\\)*\$\Z")
"""A dollar sign at the end that is not an escaped one."""


class FunctionDefinition(Wire):
    """A function; without `parameters` it takes no arguments."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FreeInput(Wire):
    """A custom tool's input may be any text."""

    type: Literal["text"] = "text"


class InputGrammar(Wire):
    """What a custom tool's input must match as a whole."""

    syntax: Literal["lark", "regex"]
    definition: str

    @property
    def enforced(self) -> bool:
        """Whether it bounds what the model writes; the model reads it in any case."""
        # A regex fits into the schema of the one string that the model writes, Lark does not.
        return self.syntax == "regex"


class ModeChoice(Wire):
    type: Literal["none", "auto", "required"]


def tool_type_tag(value: dict[str, Any]) -> str | None:
    """The branch of an offered tool: a kind that can be called here, or any other."""
    tag = type_tag(value)
    return tag if tag in ("#function", "#custom", None) else "#other"


def input_type_tag(value: dict[str, Any]) -> str:
    """The branch of a custom tool's format."""
    return type_tag(value) or "#text"


def function_tool(function: FunctionDefinition, name: str) -> Tool:
    """A function under the `name` that the model sees."""
    parameters = function.parameters
    return Tool(
        name=name,
        description=function.description or "",
        parameters=msgspec.json.encode(parameters).decode() if parameters else NO_PARAMETERS,
        strict=function.strict or False,
    )


def custom_tool(name: str, description: str | None, grammar: InputGrammar | None = None) -> Tool:
    """A tool that takes free text, or text that matches `grammar`."""
    if grammar is None:
        return Tool(name, description or "", CUSTOM_PARAMETERS)
    rule = f"The input must match this {grammar.syntax}:\n{grammar.definition}"
    description = "\n\n".join(filter(None, (description, rule)))
    if not grammar.enforced:
        return Tool(name, description, CUSTOM_PARAMETERS)
    # A pattern of JSON Schema may match anywhere in a text; this one is meant for the whole.
    inner = grammar.definition.removeprefix("^")
    inner = inner[:-1] if _LAST.search(inner) else inner
    parameters = msgspec.json.decode(CUSTOM_PARAMETERS)
    parameters["properties"]["input"]["pattern"] = f"^(?:{inner})$"
    return Tool(name, description, msgspec.json.encode(parameters).decode(), strict=True)


def custom_arguments(text: str) -> str:
    """The arguments of a custom tool, which the model sees as a function of one string."""
    return msgspec.json.encode({"input": text}).decode()


def custom_input(arguments: str) -> str:
    """The one string that a custom tool was called with; broken arguments as they are."""
    try:
        return msgspec.json.decode(arguments, type=_CustomArguments).input
    except msgspec.DecodeError:
        return arguments


class _CustomArguments(msgspec.Struct):
    input: str


def mode_choice(choice: ModeChoice | None, tools: Sequence[Tool], field: str) -> ToolChoice:
    """A choice that names no tool; raises `InvalidField` for a call that is demanded of none."""
    match choice:
        case None | ModeChoice(type="auto"):
            return AutoTools()
        case ModeChoice(type="none"):
            return NoTools()
        case _:
            require_offered([], tools, field)
            return RequiredTools()


def require_offered(names: Iterable[str], tools: Sequence[Tool], field: str) -> None:
    """Raises `InvalidField` for a choice of a tool that is not there."""
    if not tools:
        raise wrong_value(field, "only allowed when tools that can be called here are offered.")
    offered = {tool.name for tool in tools}
    for name in names:
        if name not in offered:
            raise wrong_value(field, f"'{name[:64]}' is not among the offered tools.")
