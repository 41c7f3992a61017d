"""The grammar of one answer as text for llguidance: the output's, the tool calls', or both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from llguidance import regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from mlxd.engine.grammar.json_schemas import MAX_BYTES, MAX_PATTERN, Schema
from mlxd.engine.grammar.members import Literally, inline_json
from mlxd.engine.grammar.plain_values import ToolShape, expression
from mlxd.engine.grammar.requested_schemas import ReadTool, RequestedSchemas, calls_required
from mlxd.engine.grammar.tool_calls import ToolGrammar
from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import read_as
from mlxd.errors import InvalidField
from mlxd.messages import (
    GenerateRequest,
    GrammarOutput,
    JsonOutput,
    JsonSchemaOutput,
    Output,
    RegexOutput,
    TextOutput,
)

MAX_RULES = 1000
"""Lines of a caller's own grammar; the parser of grammars goes as deep as its rules do."""
AFTER_THINKING = "SPACE? "
"""White space that models write behind their reasoning."""
_ANYTHING = "/(?s:.)*/"
_SPACE = "SPACE: /[ \\n]{1,2}/"
_BARE_CALL = r'\s*(```[a-z_]*\s*)?\[?\s*\{(?s:.)*"(name|function)"(?s:.)*'


@dataclass(frozen=True)
class GrammarText:
    """A grammar's text; `whole` if it describes the reasoning too.

    `beginnings` are texts of an answer from which the way to its end may be longest, `ends` are
    texts that close something.
    """

    lark: str
    whole: bool = False
    beginnings: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


@dataclass
class _Draft:
    """A grammar that is being written: the answers it allows, and what they are made of."""

    answers: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    named: list[dict[str, str]] = field(default_factory=list)
    beginnings: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


class GrammarWriter:
    """Writes grammars for one model."""

    def __init__(
        self, markup: Markup, literally: Literally, is_token: Callable[[str], bool]
    ) -> None:
        self._markup = markup
        self._literally = literally
        self._notation = read_as(markup.tool_format, markup.also_read)
        self._form = self._notation.form_in(is_token)
        self._messages = self._form.messages
        # A marker that is a text ends the lexeme of the free text before it, at its first place.
        self._trigger = "trigger" if is_token(self._form.marker) else "trigger[lazy]"

    def of(self, request: GenerateRequest, schemas: RequestedSchemas) -> GrammarText:
        """The grammar of the answer to `request`; raises `InvalidField`."""
        required = calls_required(request.tool_choice)
        free_text = isinstance(request.output, TextOutput)
        draft = _Draft()
        marked = not required and free_text
        if schemas.tools:
            self._add_calls(draft, request, [*map(shape, schemas.tools)], marked=marked)
        if marked:
            draft.rules.append(f"FREE: {self._free()}")
            draft.answers.append(self._final("FREE"))
        elif not required:
            form = self._output(request.output, schemas.output.schema, draft.named)
            draft.rules.append(f"answer: {form}")
            draft.answers.append(self._final("answer"))
        if self._messages is not None:
            draft.ends += [self._messages.final, *draft.beginnings]
        draft.rules.insert(0, self._start(draft, request.output))
        lark = "\n".join(draft.rules) + "\n"
        if draft.named:
            grammars: list[dict[str, Any]] = [{"name": "main", "lark_grammar": lark}, *draft.named]
            lark = json.dumps({"grammars": grammars})
        return GrammarText(
            lark,
            whole=self._messages is not None,
            beginnings=tuple(draft.beginnings),
            ends=tuple(draft.ends),
        )

    def _add_calls(
        self, draft: _Draft, request: GenerateRequest, shapes: Sequence[ToolShape], *, marked: bool
    ) -> None:
        """Calls as an answer; `marked` ones may follow a free text."""
        marker = self._form.marker
        grammar = ToolGrammar(self._form, self._literally, parallel=request.parallel_tools)
        marked = marked and self._messages is None and marker != ""
        draft.rules.append(grammar.rules(shapes, marked=marked))
        if marked:
            draft.rules.append(f"{self._trigger}: FREE {self._literally(marker)}")
        draft.answers.append("trigger calls" if marked else "calls")
        draft.beginnings += grammar.beginnings(shapes)
        draft.ends += grammar.ends

    def call(self, tool: ToolShape) -> str:
        """The grammar of one call of one tool; raises `InvalidField`."""
        grammar = ToolGrammar(self._form, self._literally, parallel=False)
        return f"start: calls\n{grammar.rules([tool], marked=False)}\n"

    def _free(self) -> str:
        """Text in which the model's notation has no call."""
        banned = [rf"(?s:.)*{expression(start)}(?s:.)*" for start in self._notation.starts]
        if self._notation.bare is not None:
            banned.append(_BARE_CALL)
        return " & ".join([_ANYTHING, *(f"~/{each}/" for each in banned)])

    def _final(self, answer: str) -> str:
        return f"{self._literally(self._messages.final)} {answer}" if self._messages else answer

    def _start(self, draft: _Draft, output: Output) -> str:
        """The first rule: what may come before the answer, and the answers."""
        answers = " | ".join(draft.answers)
        if self._messages is not None:
            header, end_of_message = self._messages.thinking
            begin = self._literally(header)
            end = self._literally(end_of_message + self._messages.following)
            draft.rules.append(f"analysis: {begin} THOUGHT {end}\nTHOUGHT: {_ANYTHING}")
            return f"start: analysis* ({answers})"
        # Who writes an expression or a grammar means the whole answer, to the last space.
        exact = isinstance(output, RegexOutput | GrammarOutput)
        if self._markup.reasoning and not exact and "FREE" not in draft.answers:
            draft.rules.append(_SPACE)
            return f"start: {AFTER_THINKING}({answers})"
        return f"start: {answers}"

    def _output(self, output: Output, schema: Schema, named: list[dict[str, str]]) -> str:
        match output:
            case TextOutput():
                return _ANYTHING
            case JsonOutput():
                return inline_json({"type": "object"}, strict=True)
            case JsonSchemaOutput(strict=strict):
                return inline_json(schema, strict=strict)
            case RegexOutput(pattern=pattern):
                if len(pattern.encode()) > MAX_PATTERN:
                    raise _refused(f"The pattern is longer than {MAX_PATTERN} bytes.")
                return f"/{regex_to_lark(pattern, 'd')}/"
            case GrammarOutput(lark=lark):
                named.append({"name": "own", "lark_grammar": _own(lark)})
                return "@own"
            case _:
                assert_never(output)


def shape(tool: ReadTool) -> ToolShape:
    """A tool as its calls are written."""
    return ToolShape(tool.tool.name, tool.read.schema, tool.tool.strict)


def _own(text: str) -> str:
    """A caller's grammar as Lark; other servers' GBNF is translated."""
    if len(text.encode()) > MAX_BYTES:
        raise _refused(f"The grammar is larger than {MAX_BYTES} bytes.")
    if text.count("\n") > MAX_RULES:
        raise _refused(f"The grammar has more than {MAX_RULES} lines.")
    if "::=" not in text:
        return text
    try:
        return any_to_lark(text)
    except Exception as error:  # Bare ones and RecursionError are among what it raises.
        raise _refused(f"The grammar can't be read: {str(error)[:200]}") from error


def _refused(reason: str) -> InvalidField:
    return InvalidField("response_format", "value", reason)
