"""The tools of a Chat Completions request, what may be called, and the older names for both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, assert_never

from pydantic import BeforeValidator, Discriminator, Tag

from mlxd.api.openai.tools import (
    FreeInput,
    InputGrammar,
    custom_tool,
    function_tool,
    input_type_tag,
    require_offered,
    tool_type_tag,
)
from mlxd.api.openai.wire import AN_OBJECT, FAIL_FAST, ToolName, Wire, expected, type_tag
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    NamedTool,
    NoTools,
    RequiredTools,
    Tool,
    ToolChoice,
)


class FunctionDefinition(Wire):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Wire):
    type: Literal["function"]
    function: FunctionDefinition


class GrammarFormat(Wire):
    type: Literal["grammar"]
    grammar: InputGrammar


Format = Annotated[
    Annotated[FreeInput, Tag("#text")] | Annotated[GrammarFormat, Tag("#grammar")],
    Discriminator(input_type_tag),
    AN_OBJECT,
]


class CustomDefinition(Wire):
    name: ToolName
    description: str | None = None
    format: Format | None = None

    @property
    def input_grammar(self) -> InputGrammar | None:
        return self.format.grammar if isinstance(self.format, GrammarFormat) else None


class CustomTool(Wire):
    type: Literal["custom"]
    custom: CustomDefinition


class OtherTool(Wire):
    """A tool that its vendor runs, or one of a kind nobody has heard of; dropped."""

    type: str


OfferedTool = Annotated[
    Annotated[FunctionTool, Tag("#function")]
    | Annotated[CustomTool, Tag("#custom")]
    | Annotated[OtherTool, Tag("#other")],
    Discriminator(tool_type_tag),
    AN_OBJECT,
]


class Named(Wire):
    name: str


class ModeChoice(Wire):
    type: Literal["none", "auto", "required"]


class FunctionChoice(Wire):
    type: Literal["function"]
    function: Named


class CustomChoice(Wire):
    type: Literal["custom"]
    custom: Named


NamedChoice = Annotated[
    Annotated[FunctionChoice, Tag("#function")] | Annotated[CustomChoice, Tag("#custom")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class AllowedToolList(Wire):
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[NamedChoice], FAIL_FAST]


class AllowedChoice(Wire):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolList


def _as_choice(value: object) -> object:
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, dict):
        return value
    raise expected("one of a string or object")


def _as_legacy_choice(value: object) -> object:
    if isinstance(value, dict):
        return {"type": "function", "function": value}
    return _as_choice(value)


_Choice = Annotated[
    Annotated[ModeChoice, Tag("#none")]
    | Annotated[ModeChoice, Tag("#auto")]
    | Annotated[ModeChoice, Tag("#required")]
    | Annotated[FunctionChoice, Tag("#function")]
    | Annotated[CustomChoice, Tag("#custom")]
    | Annotated[AllowedChoice, Tag("#allowed_tools")],
    Discriminator(type_tag),
]
WireChoice = Annotated[_Choice, BeforeValidator(_as_choice)]
LegacyChoice = Annotated[_Choice, BeforeValidator(_as_legacy_choice)]


@dataclass(frozen=True)
class Toolbox:
    """The tools in no dialect, and what the answer must look like to this one.

    `custom` are the names of tools whose calls are of type `custom`; `legacy` says that the caller
    used the names from before there were tools, and reads calls under those.
    """

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = AutoTools()
    custom: frozenset[str] = frozenset()
    legacy: bool = False
    dropped: tuple[str, ...] = ()


def toolbox(offered: Sequence[OfferedTool], choice: WireChoice | None) -> Toolbox:
    """The offered tools without those nobody here can run; raises `InvalidField`."""
    tools = tuple(_tool(each) for each in offered if not isinstance(each, OtherTool))
    return Toolbox(
        tools=tools,
        choice=_choice(choice, tools, "tool_choice"),
        custom=frozenset(each.custom.name for each in offered if isinstance(each, CustomTool)),
        dropped=tuple(_dropped(offered)),
    )


def _dropped(offered: Sequence[OfferedTool]) -> Iterator[str]:
    """The names, as fields, of what is not honoured of the tools."""
    for tool in offered:
        if isinstance(tool, OtherTool):
            yield f"tools.{tool.type}"
        elif isinstance(tool, CustomTool):
            grammar = tool.custom.input_grammar
            if grammar is not None and not grammar.enforced:
                yield "tools.custom.format"


def legacy_toolbox(functions: Sequence[FunctionDefinition], choice: LegacyChoice | None) -> Toolbox:
    """The same for `functions` and `function_call`."""
    tools = tuple(_function(each) for each in functions)
    return Toolbox(tools=tools, choice=_choice(choice, tools, "function_call"), legacy=True)


def _tool(offered: FunctionTool | CustomTool) -> Tool:
    if isinstance(offered, FunctionTool):
        return _function(offered.function)
    custom = offered.custom
    return custom_tool(custom.name, custom.description, custom.input_grammar)


def _function(function: FunctionDefinition) -> Tool:
    return function_tool(
        function.name, function.description, function.parameters, strict=function.strict or False
    )


def _choice(choice: WireChoice | None, tools: Sequence[Tool], field: str) -> ToolChoice:
    match choice:
        case None:
            return AutoTools()
        case ModeChoice(type="none"):
            return NoTools()
        case ModeChoice(type="auto"):
            return AutoTools()
        case ModeChoice():
            require_offered([], tools, field)
            return RequiredTools()
        case FunctionChoice(function=named) | CustomChoice(custom=named):
            require_offered([named.name], tools, field)
            return NamedTool(named.name)
        case AllowedChoice(allowed_tools=allowed):
            names = tuple(_chosen_name(each) for each in allowed.tools)
            require_offered(names, tools, field)
            return AllowedTools(names, required=allowed.mode == "required")
        case _:
            assert_never(choice)


def _chosen_name(choice: NamedChoice) -> str:
    return choice.function.name if isinstance(choice, FunctionChoice) else choice.custom.name
