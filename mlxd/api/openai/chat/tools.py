"""The tools of a Chat Completions request, what may be called, and the older names for both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, assert_never

from pydantic import BeforeValidator, Discriminator, Tag

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
    text_or,
    type_tag,
)
from mlxd.api.wire.errors import schema_places
from mlxd.messages import AllowedTools, AutoTools, NamedTool, Tool, ToolChoice


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


WireChoice = Annotated[
    Annotated[ModeChoice, Tag("#none")]
    | Annotated[ModeChoice, Tag("#auto")]
    | Annotated[ModeChoice, Tag("#required")]
    | Annotated[FunctionChoice, Tag("#function")]
    | Annotated[CustomChoice, Tag("#custom")]
    | Annotated[AllowedChoice, Tag("#allowed_tools")],
    Discriminator(type_tag),
    text_or(dict, lambda mode: {"type": mode}, TEXT_OR_OBJECT),
]
LegacyChoice = Annotated[
    WireChoice,
    BeforeValidator(
        lambda value: {"type": "function", "function": value} if isinstance(value, dict) else value
    ),
]


@dataclass(frozen=True)
class ChatToolbox:
    """The tools in no dialect, and what the answer must look like to this one.

    `custom` are the names of tools whose calls are of type `custom`; `legacy` says that the caller
    used the names from before there were tools, and reads calls under those. `dropped` are the
    names, as fields, of what is not honoured; `schemas` are by name the places of the schemas.
    """

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = AutoTools()
    custom: frozenset[str] = frozenset()
    legacy: bool = False
    dropped: tuple[str, ...] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, str]:
        """Where the schemas stand in the caller's body, by the engine's names for them."""
        return schema_places(self.tools, self.schemas, dict.fromkeys(self.custom, CUSTOM_PATTERN))


def toolbox(offered: Sequence[OfferedTool], choice: WireChoice | None) -> ChatToolbox:
    """The offered tools without those nobody here can run; raises `InvalidField`."""
    tools, custom, dropped = list[Tool](), set[str](), list[str]()
    schemas: dict[str, str] = {}
    for index, each in enumerate(offered):
        match each:
            case FunctionTool(function=function):
                tools.append(function_tool(function, function.name))
                schemas[function.name] = f"tools.{index}.function.parameters"
            case CustomTool(custom=CustomDefinition(name=name, description=description) as tool):
                grammar = tool.format.grammar if isinstance(tool.format, GrammarFormat) else None
                tools.append(custom_tool(name, description, grammar))
                custom.add(name)
                schemas[name] = f"tools.{index}.custom.format.grammar.definition"
                if grammar is not None and not grammar.enforced:
                    dropped.append("tools.custom.format")
            case OtherTool(type=kind):
                dropped.append(f"tools.{kind}")
            case _:
                assert_never(each)
    return ChatToolbox(
        tools=tuple(tools),
        choice=_choice(choice, tools, "tool_choice"),
        custom=frozenset(custom),
        dropped=tuple(dropped),
        schemas=schemas,
    )


def legacy_toolbox(
    functions: Sequence[FunctionDefinition], choice: LegacyChoice | None
) -> ChatToolbox:
    """The same for `functions` and `function_call`."""
    tools = tuple(function_tool(each, each.name) for each in functions)
    return ChatToolbox(
        tools=tools,
        choice=_choice(choice, tools, "function_call"),
        legacy=True,
        schemas={each.name: f"functions.{n}.parameters" for n, each in enumerate(functions)},
    )


def _choice(choice: WireChoice | None, tools: Sequence[Tool], field: str) -> ToolChoice:
    match choice:
        case None | ModeChoice():
            return mode_choice(choice, tools, field)
        case FunctionChoice(function=named) | CustomChoice(custom=named):
            require_offered([named.name], tools, field)
            return NamedTool(named.name)
        case AllowedChoice(allowed_tools=allowed):
            names = tuple(
                each.function.name if isinstance(each, FunctionChoice) else each.custom.name
                for each in allowed.tools
            )
            require_offered(names, tools, field)
            return AllowedTools(names, required=allowed.mode == "required")
        case _:
            assert_never(choice)
