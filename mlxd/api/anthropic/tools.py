"""The tools of a Messages request: what the model is told of, and what it may or must call.

Tools that only Anthropic's servers can run are dropped, and named to the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, assert_never

import msgspec
from msgspec.structs import replace
from pydantic import ConfigDict, Discriminator, Tag

from mlxd.api.anthropic.defined_tools import defined_tool, is_defined
from mlxd.api.anthropic.errors import unsupported, wrong_value
from mlxd.api.dialect import SchemaPlaces
from mlxd.api.wire.base import AN_OBJECT, ToolName, Wire, type_tag
from mlxd.messages import AutoTools, NamedTool, NoTools, RequiredTools, Tool, ToolChoice

_SERVER_SEARCH = "tool_search_tool_"


class AnyTool(Wire):
    """What every tool may carry."""

    cache_control: Any = None
    eager_input_streaming: bool | None = None
    """Arguments are always streamed as they come."""
    defer_loading: bool | None = None
    strict: bool | None = None


class CustomTool(AnyTool):
    type: Literal["custom"] | None = None
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any]


class DefinedTool(AnyTool):
    """A tool of `anthropic_defined`."""

    type: str
    name: ToolName


class ServerTool(Wire):
    """A tool that its vendor runs, or one of a kind nobody has heard of; dropped."""

    model_config = ConfigDict(extra="ignore")

    type: str
    name: str | None = None


def _offered_type_tag(value: dict[str, Any]) -> str:
    kind = value.get("type")
    if kind is None or kind == "custom":
        return "#custom"
    return "#defined" if isinstance(kind, str) and is_defined(kind) else "#server"


OfferedTool = Annotated[
    Annotated[CustomTool, Tag("#custom")]
    | Annotated[DefinedTool, Tag("#defined")]
    | Annotated[ServerTool, Tag("#server")],
    Discriminator(_offered_type_tag),
    AN_OBJECT,
]


class NoneChoice(Wire):
    type: Literal["none"]


class AutoChoice(Wire):
    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = None


class AnyChoice(Wire):
    type: Literal["any"]
    disable_parallel_tool_use: bool | None = None


class NamedChoice(Wire):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


WireChoice = Annotated[
    Annotated[NoneChoice, Tag("#none")]
    | Annotated[AutoChoice, Tag("#auto")]
    | Annotated[AnyChoice, Tag("#any")]
    | Annotated[NamedChoice, Tag("#tool")],
    Discriminator(type_tag),
    AN_OBJECT,
]


@dataclass(frozen=True)
class MessagesToolbox:
    """The tools in no dialect.

    `deferred` are by name those that the model learns of when a message refers to them. `dropped`
    are the fields' names of those that can't be run here. `places` says where the schemas stand.
    """

    offered: tuple[Tool, ...] = ()
    deferred: dict[str, Tool] = field(default_factory=dict)
    choice: ToolChoice = AutoTools()
    parallel: bool = True
    dropped: tuple[str, ...] = ()
    places: SchemaPlaces = field(default_factory=dict)

    def known(self) -> dict[str, Tool]:
        """Every tool that a message may refer to."""
        return {tool.name: tool for tool in self.offered} | self.deferred


def toolbox(offered: Sequence[OfferedTool], choice: WireChoice | None) -> MessagesToolbox:
    """The offered tools without those that can't be run here; raises `InvalidField`."""
    tools = [tool for tool in offered if not isinstance(tool, ServerTool)]
    servers = [tool for tool in offered if isinstance(tool, ServerTool)]
    names: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in names:
            raise wrong_value(f"tools.{index}.name", "Tool names must be unique.")
        names.add(tool.name)
    deferred = {tool.name for tool in tools if tool.defer_loading}
    if deferred == names or any(tool.type.startswith(_SERVER_SEARCH) for tool in servers):
        # Nothing could ever refer to them: no tool is left, or the search is the vendor's own.
        deferred = set()
    if isinstance(choice, NamedChoice):
        # It has to be called now, so the model has to know it.
        deferred.discard(choice.name)
    built = [neutral_tool(tool) for tool in tools]
    return MessagesToolbox(
        offered=tuple(tool for tool in built if tool.name not in deferred),
        deferred={tool.name: tool for tool in built if tool.name in deferred},
        choice=_choice(choice, tools, servers),
        parallel=isinstance(choice, NoneChoice | None) or not choice.disable_parallel_tool_use,
        dropped=tuple(f"tools.{tool.type}" for tool in servers),
        places={
            (tool.name, ""): f"tools.{index}.input_schema"
            for index, tool in enumerate(offered)
            if not isinstance(tool, ServerTool)
        },
    )


def described(tool: Tool) -> str:
    """The definition of a tool as JSON, the way chat templates write it."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": msgspec.Raw(tool.parameters.encode()),
    }
    return msgspec.json.encode({"type": "function", "function": function}).decode()


def neutral_tool(tool: CustomTool | DefinedTool) -> Tool:
    """The tool in no dialect."""
    if isinstance(tool, DefinedTool):
        return replace(defined_tool(tool.type, tool.name), strict=tool.strict or False)
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=msgspec.json.encode(tool.input_schema).decode(),
        strict=tool.strict or False,
    )


def _choice(
    choice: WireChoice | None,
    tools: Sequence[CustomTool | DefinedTool],
    servers: Sequence[ServerTool],
) -> ToolChoice:
    match choice:
        case None | AutoChoice():
            return AutoTools()
        case NoneChoice():
            return NoTools()
        case AnyChoice():
            if not tools:
                left = "all `tools` are run by Anthropic's servers, not here" if servers else ""
                why = f"A call is demanded, but {left or 'there are no `tools`'}."
                raise wrong_value("tool_choice", why)
            return RequiredTools()
        case NamedChoice(name=name):
            if any(tool.name == name for tool in servers):
                why = f"'{name[:64]}' is a tool of Anthropic's servers, and can't be run here."
                raise unsupported("tool_choice.name", why)
            if all(tool.name != name for tool in tools):
                raise wrong_value("tool_choice.name", f"Tool '{name[:64]}' not found in `tools`.")
            return NamedTool(name)
        case _:
            assert_never(choice)
