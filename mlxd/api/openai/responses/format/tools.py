"""The tools of a Responses request, what may be called, and under which names calls come back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, assert_never

from pydantic import ConfigDict, Discriminator, Tag

from mlxd.api.dialect import JsonObject
from mlxd.api.openai.errors import unsupported
from mlxd.api.openai.tools import (
    CUSTOM_PATTERN,
    FreeInput,
    FunctionDefinition,
    InputGrammar,
    ModeChoice,
    custom_tool,
    function_tool,
    input_type_tag,
    mode_choice,
    require_offered,
    tool_type_tag,
)
from mlxd.api.openai.wire import (
    AN_OBJECT,
    FAIL_FAST,
    TEXT_OR_OBJECT,
    ToolName,
    Wire,
    expected,
    text_or,
    type_tag,
    without_nulls,
)
from mlxd.api.wire.errors import schema_places
from mlxd.messages import AllowedTools, NamedTool, Tool, ToolChoice

SEPARATOR = "__"
"""Between a namespace and a name, in the one name that the model sees."""


class FunctionTool(FunctionDefinition):
    type: Literal["function"]
    output_schema: Any = None
    allowed_callers: Any = None


class GrammarFormat(InputGrammar):
    type: Literal["grammar"]


Format = Annotated[
    Annotated[FreeInput, Tag("#text")] | Annotated[GrammarFormat, Tag("#grammar")],
    Discriminator(input_type_tag),
    AN_OBJECT,
]


class CustomTool(Wire):
    type: Literal["custom"]
    name: ToolName
    description: str | None = None
    format: Format | None = None
    allowed_callers: Any = None


class OtherTool(Wire):
    """A tool that its vendor runs, or one of a kind nobody has heard of; dropped."""

    model_config = ConfigDict(extra="ignore")

    type: str


InnerTool = Annotated[
    Annotated[FunctionTool, Tag("#function")]
    | Annotated[CustomTool, Tag("#custom")]
    | Annotated[OtherTool, Tag("#other")],
    Discriminator(tool_type_tag),
    AN_OBJECT,
]


class NamespaceTool(Wire):
    type: Literal["namespace"]
    name: ToolName
    description: str | None = None
    tools: Annotated[list[InnerTool], FAIL_FAST]


def _offered_type_tag(value: dict[str, Any]) -> str | None:
    tag = type_tag(value)
    return tag if tag == "#namespace" else tool_type_tag(value)


OfferedTool = Annotated[
    Annotated[FunctionTool, Tag("#function")]
    | Annotated[CustomTool, Tag("#custom")]
    | Annotated[NamespaceTool, Tag("#namespace")]
    | Annotated[OtherTool, Tag("#other")],
    Discriminator(_offered_type_tag),
    AN_OBJECT,
]


class NamedChoice(Wire):
    type: Literal["function", "custom"]
    name: str
    namespace: str | None = None


class OtherChoice(Wire):
    """A tool that only its vendor can run."""

    model_config = ConfigDict(extra="ignore")

    type: str


def _allowed_type_tag(value: dict[str, Any]) -> str | None:
    tag = type_tag(value)
    return tag if tag in ("#function", "#custom", None) else "#other"


AllowedTool = Annotated[
    Annotated[NamedChoice, Tag("#function")]
    | Annotated[NamedChoice, Tag("#custom")]
    | Annotated[OtherChoice, Tag("#other")],
    Discriminator(_allowed_type_tag),
    AN_OBJECT,
]


class AllowedChoice(Wire):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[AllowedTool], FAIL_FAST]


AnyTool = TypeVar("AnyTool", bound=Wire)
MODES = ("none", "auto", "required")


def _mode_object(mode: str) -> object:
    if mode not in MODES:
        raise expected("one of 'none', 'auto', 'required' or an object")
    return {"type": mode}


def _choice_type_tag(value: dict[str, Any]) -> str | None:
    tag = type_tag(value)
    if tag is None or tag in ("#function", "#custom", "#allowed_tools"):
        return tag
    return "#mode" if tag[1:] in MODES else "#other"


WireChoice = Annotated[
    Annotated[ModeChoice, Tag("#mode")]
    | Annotated[NamedChoice, Tag("#function")]
    | Annotated[NamedChoice, Tag("#custom")]
    | Annotated[AllowedChoice, Tag("#allowed_tools")]
    | Annotated[OtherChoice, Tag("#other")],
    Discriminator(_choice_type_tag),
    text_or(dict, _mode_object, TEXT_OR_OBJECT),
]


@dataclass(frozen=True)
class ResponsesToolbox:
    """The tools in no dialect, and what their calls look like in this one.

    `custom` are the tools that are called with free text; `spaces` are the namespace and the name
    of those that have a namespace, `schemas` the places of their schemas in the caller's body. All
    by the one name that the model sees.
    """

    tools: tuple[Tool, ...]
    custom: frozenset[str]
    spaces: Mapping[str, tuple[str, str]]
    schemas: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, str]:
        """Where the schemas stand in the caller's body, by the engine's names for them."""
        return schema_places(self.tools, self.schemas, dict.fromkeys(self.custom, CUSTOM_PATTERN))

    def names(self, name: str) -> JsonObject:
        """The names of a tool as a call of it carries them."""
        if (known := self.spaces.get(name)) is None:
            return {"name": name}
        space, inner = known
        return {"name": inner, "namespace": space}


def flat_name(name: str, namespace: str | None) -> str:
    """The one name that the model sees of a tool."""
    return f"{namespace}{SEPARATOR}{name}" if namespace else name


def placed(place: str, tools: Sequence[AnyTool]) -> list[tuple[str, AnyTool]]:
    """Each of the tools with its place in the caller's body; the list stands at `place`."""
    return [(f"{place}.{number}", tool) for number, tool in enumerate(tools)]


def toolbox(offered: Sequence[tuple[str, OfferedTool]]) -> ResponsesToolbox:
    """The offered tools, each with its place, without those nobody here can run.

    Of two with one name it is the first.
    """
    tools: dict[str, Tool] = {}
    schemas: dict[str, str] = {}
    custom = set()
    spaces = {}
    for place, each in offered:
        space = each.name if isinstance(each, NamespaceTool) else ""
        inside: Sequence[tuple[str, InnerTool]] = (
            placed(f"{place}.tools", each.tools)
            if isinstance(each, NamespaceTool)
            else [(place, each)]
        )
        for own_place, tool in inside:
            # A later request may repeat the tools that earlier ones brought along.
            if isinstance(tool, OtherTool) or (name := flat_name(tool.name, space)) in tools:
                continue
            if isinstance(tool, FunctionTool):
                tools[name] = function_tool(tool, name)
                schemas[name] = f"{own_place}.parameters"
            else:
                grammar = tool.format if isinstance(tool.format, InputGrammar) else None
                tools[name] = custom_tool(name, tool.description, grammar)
                custom.add(name)
                schemas[name] = f"{own_place}.format.definition"
            if space:
                spaces[name] = (space, tool.name)
    return ResponsesToolbox(tuple(tools.values()), frozenset(custom), spaces, schemas)


def dropped_tools(offered: Sequence[OfferedTool]) -> Iterator[str]:
    """The names, as fields, of what is not honoured of the tools."""
    for tool in offered:
        if isinstance(tool, OtherTool):
            yield f"tools.{tool.type}"
        elif isinstance(tool, NamespaceTool):
            yield from dropped_tools(tool.tools)
        elif isinstance(tool, FunctionTool):
            pass
        elif isinstance(tool.format, InputGrammar) and not tool.format.enforced:
            yield "tools.format"


def neutral_choice(choice: WireChoice | None, box: ResponsesToolbox) -> ToolChoice:
    """What may be called; raises `InvalidField` for what is not offered, or runs elsewhere."""
    match choice:
        case None | ModeChoice():
            return mode_choice(choice, box.tools, "tool_choice")
        case NamedChoice():
            return NamedTool(_chosen(choice, box))
        case AllowedChoice(tools=allowed):
            names = [_chosen(each, box) for each in allowed if isinstance(each, NamedChoice)]
            required = choice.mode == "required"
            # Those that run elsewhere are left out; a call is demanded of those that are left.
            if required:
                require_offered([], box.tools if names else (), "tool_choice")
            return AllowedTools(tuple(names), required=required)
        case OtherChoice(type=kind):
            why = f"tools of type '{kind[:64]}' can't be run by this server."
            raise unsupported("tool_choice", why)
        case _:
            assert_never(choice)


def _chosen(choice: NamedChoice, box: ResponsesToolbox) -> str:
    name = flat_name(choice.name, choice.namespace)
    inside = [flat for flat, (_, inner) in box.spaces.items() if inner == choice.name]
    offered = {tool.name for tool in box.tools}
    if name not in offered and choice.namespace is None and len(inside) == 1:
        # Some clients leave out the namespace, which is clear where only one has the name.
        return inside[0]
    require_offered([name], box.tools, "tool_choice")
    return name


def echoed_tools(values: Sequence[JsonObject]) -> list[JsonObject]:
    """The tools as a response repeats them; functions with every field that clients expect."""
    return [
        {"description": None, "parameters": None, "strict": False, **without_nulls(value)}
        if value["type"] == "function"
        else value
        for value in values
    ]
