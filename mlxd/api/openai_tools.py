"""Tools of OpenAI's APIs in no dialect, and custom tools, which the model sees as functions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mlxd.api.openai_errors import wrong_value
from mlxd.messages import Tool

NO_PARAMETERS = Tool(name="").parameters
CUSTOM_PARAMETERS = (
    '{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],'
    '"additionalProperties":false}'
)
"""What the model sees of a custom tool: a function of one string."""


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


def custom_tool(name: str, description: str | None) -> Tool:
    """A tool that takes free text."""
    return Tool(name, description or "", CUSTOM_PARAMETERS)


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
