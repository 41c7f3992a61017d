"""Tools of OpenAI's APIs in no dialect, and custom tools, which the model sees as functions."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from mlxd.api.openai.errors import wrong_value
from mlxd.api.openai.wire import Wire, type_tag
from mlxd.messages import Tool

NO_PARAMETERS = Tool(name="").parameters
CUSTOM_PARAMETERS = (
    '{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    '"additionalProperties":false}'
)
"""What the model sees of a custom tool: a function of one string."""

_LAST = re.compile(r"(?<!\\)(?:\\\\)*\$\Z")
"""A dollar sign at the end that is not an escaped one."""


class FreeInput(Wire):
    """A custom tool's input may be any text."""

    type: Literal["text"] = "text"


class InputGrammar(Wire):
    """What a custom tool's input must match as a whole."""

    syntax: Literal["lark", "regex"]
    definition: str

    @property
    def enforced(self) -> bool:
        """Whether it bounds what the model writes; it is told to the model in any case."""
        return self.syntax == "regex"


def tool_type_tag(value: dict[str, Any]) -> str | None:
    """The branch of an offered tool: a kind that can be called here, or any other."""
    tag = type_tag(value)
    return tag if tag in ("#function", "#custom", None) else "#other"


def input_type_tag(value: dict[str, Any]) -> str:
    """The branch of a custom tool's format."""
    return type_tag(value) or "#text"


def function_tool(
    name: str, description: str | None, parameters: Mapping[str, Any] | None, *, strict: bool
) -> Tool:
    """A function; without `parameters` it takes no arguments."""
    return Tool(
        name=name,
        description=description or "",
        parameters=msgspec.json.encode(parameters).decode() if parameters else NO_PARAMETERS,
        strict=strict,
    )


def custom_tool(name: str, description: str | None, grammar: InputGrammar | None = None) -> Tool:
    """A tool that takes free text, or text that matches `grammar`."""
    if grammar is None:
        return Tool(name, description or "", CUSTOM_PARAMETERS)
    rule = f"The input must match this {grammar.syntax}:\n{grammar.definition}"
    told = "\n\n".join(filter(None, (description, rule)))
    if not grammar.enforced:
        return Tool(name, told, CUSTOM_PARAMETERS)
    parameters = msgspec.json.decode(CUSTOM_PARAMETERS)
    parameters["properties"]["input"]["pattern"] = _whole(grammar.definition)
    return Tool(name, told, msgspec.json.encode(parameters).decode(), strict=True)


def _whole(pattern: str) -> str:
    """A pattern that matches all of a text or nothing."""
    inner = pattern.removeprefix("^")
    return f"^(?:{inner[:-1] if _LAST.search(inner) else inner})$"


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


def require_offered(names: Iterable[str], tools: Sequence[Tool], field: str) -> None:
    """Raises `InvalidField` for a choice of a tool that is not there."""
    if not tools:
        raise wrong_value(field, "only allowed when tools that can be called here are offered.")
    offered = {tool.name for tool in tools}
    for name in names:
        if name not in offered:
            raise wrong_value(field, f"'{name[:64]}' is not among the offered tools.")
