"""What a request wants enforced: its schemas as they are read, and what is left to the model.

Needs no compiler: an engine without one refuses the same schemas.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from mlxd.engine.grammar.json_schemas import (
    Fault,
    ReadSchema,
    read_parameters,
    read_schema,
)
from mlxd.engine.parsing.blocks import callable_tools
from mlxd.errors import InvalidField
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    JsonSchemaOutput,
    NamedTool,
    NoTools,
    Output,
    RequiredTools,
    TextOutput,
    Tool,
    ToolChoice,
)

OUTPUT = "response_format"
OUTPUT_SCHEMA = f"{OUTPUT}.schema"
ANY_OBJECT = {"type": "object"}
"""The schema of arguments of which nothing is known."""


@dataclass(frozen=True)
class ReadTool:
    """A tool with what can be enforced of its schema; `field` is the place of the whole."""

    tool: Tool
    read: ReadSchema
    field: str

    @property
    def left_out(self) -> tuple[str, ...]:
        """The places in the request of what is left to the model."""
        return tuple(_inside(self.field, fault) for fault in self.read.faults)

    def with_schema(self, read: ReadSchema) -> "ReadTool":
        """The same with less; raises `InvalidField` for a strict tool that has faults."""
        if self.tool.strict:
            refuse_faults(read, self.field, f"The schema of the tool `{self.tool.name}`")
        return replace(self, read=read)

    def without_schema(self, why: str) -> "ReadTool":
        """The same tool with any object as its arguments; a strict one as it is."""
        if self.tool.strict:
            return self
        read = ReadSchema(dict(ANY_OBJECT), (*self.read.faults, Fault((), why)))
        return replace(self, read=read)


@dataclass(frozen=True)
class RequestedSchemas:
    """The tools that may be called, and the schema of an answer that has one."""

    tools: Sequence[ReadTool] = ()
    output: ReadSchema = ReadSchema({})

    @property
    def left_out(self) -> tuple[str, ...]:
        """The places in the request of what is left to the model."""
        return tuple(place for tool in self.tools for place in tool.left_out)


def requested_schemas(request: GenerateRequest) -> RequestedSchemas:
    """What `request` wants enforced; raises `InvalidField` for faults of what is strict."""
    output = ReadSchema({})
    if isinstance(request.output, JsonSchemaOutput):
        output = read_schema(request.output.schema)
        refuse_faults(output, OUTPUT_SCHEMA)
    tools = []
    for tool in callable_tools(request):
        field = f"tools.{request.tools.index(tool)}.function.parameters"
        read = read_parameters(tool.parameters)
        tools.append(ReadTool(tool, read, field).with_schema(read))
    return RequestedSchemas(tools, output)


def is_constrained(request: GenerateRequest) -> bool:
    """Whether the answer to `request` is held to a form."""
    free = isinstance(request.output, TextOutput) and not calls_required(request.tool_choice)
    return not free or any(tool.strict for tool in callable_tools(request))


def calls_required(choice: ToolChoice) -> bool:
    """Whether the answer must be a call."""
    match choice:
        case AutoTools() | NoTools():
            return False
        case RequiredTools() | NamedTool():
            return True
        case AllowedTools(required=required):
            return required
        case _:
            assert_never(choice)


def constrained_field(output: Output) -> str:
    """The field that a grammar as a whole is about."""
    return "tools" if isinstance(output, TextOutput) else OUTPUT


def refuse_faults(read: ReadSchema, field: str, whose: str = "The schema") -> None:
    """Raises `InvalidField` for the first fault of a schema that is enforced whole or never."""
    for fault in read.faults:
        at = f" at `{'.'.join(fault.path)}`" if fault.path else ""
        message = f"{whose} can't be enforced{at}: {fault.reason.rstrip('.')}."
        raise InvalidField(_inside(field, fault), "unsupported", message)


def _inside(field: str, fault: Fault) -> str:
    return ".".join((field, *fault.path))
