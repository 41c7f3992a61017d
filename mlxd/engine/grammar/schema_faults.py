"""What of the schemas of a request the compiler refuses, for one model."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from mlxd.engine.grammar.enforceable import Checks, Deadline, enforceable
from mlxd.engine.grammar.json_schemas import ReadSchema, Schema
from mlxd.engine.grammar.lark_text import GrammarWriter, shape
from mlxd.engine.grammar.members import inline_json
from mlxd.engine.grammar.requested_schemas import ANY_OBJECT, OUTPUT_SCHEMA, ReadTool, refuse_faults
from mlxd.errors import InvalidField

CACHED = 256
"""Schemas whose faults are remembered for each model: agents send their tools with every turn."""
FAULT_SECONDS = 1.0
"""How long the faults in one request's schemas are looked for."""

Compile = Callable[[str], str]
"""Why a grammar can't be compiled; empty if it can."""


class SchemaFaults:
    """Finds what a compiler refuses, and remembers it."""

    def __init__(self, writer: GrammarWriter, compiled: Compile) -> None:
        self._writer = writer
        self._compile = compiled
        self._known: OrderedDict[tuple[str, bool], ReadSchema] = OrderedDict()

    def without(self, tools: Sequence[ReadTool], deadline: Deadline) -> list[ReadTool]:
        """`tools` with what can be enforced; raises `InvalidField` for a strict one."""
        return [tool.with_schema(self._enforceable(tool, deadline)) for tool in tools]

    def refuse_output(self, schema: ReadSchema, *, strict: bool) -> None:
        """Raises `InvalidField` for an answer's schema that can't be compiled, with the place."""
        check = self._part(strict=strict)
        checks = Checks(check, check, Deadline(FAULT_SECONDS))
        refuse_faults(enforceable(schema, checks), OUTPUT_SCHEMA)

    def _enforceable(self, tool: ReadTool, deadline: Deadline) -> ReadSchema:
        key = (tool.tool.parameters, tool.tool.strict)
        found = self._known.get(key)
        if found is None:
            part = self._part(strict=tool.tool.strict)
            checks = Checks(lambda schema: self._call(tool, schema), part, deadline, ANY_OBJECT)
            found = enforceable(tool.read, checks)
            if deadline.passed:
                # With more time more of it may be kept.
                return found
            self._known[key] = found
        self._known.move_to_end(key)
        if len(self._known) > CACHED:
            self._known.popitem(last=False)
        return found

    def _part(self, *, strict: bool) -> Callable[[Schema], str]:
        return lambda schema: self._compile(f"start: {inline_json(schema, strict=strict)}\n")

    def _call(self, tool: ReadTool, schema: Schema) -> str:
        try:
            lark = self._writer.call(shape(tool.with_schema(ReadSchema(schema))))
        except InvalidField as error:
            return str(error)
        return self._compile(lark)
