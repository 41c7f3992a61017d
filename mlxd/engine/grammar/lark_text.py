"""The grammar of one answer as text for llguidance: the output's, the tool calls', or both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from llguidance import regex_to_lark
from llguidance.gbnf_to_lark import any_to_lark

from mlxd.engine.grammar.json_schemas import MAX_BYTES, MAX_PATTERN, read_schema
from mlxd.engine.grammar.members import Literally, inline_json
from mlxd.engine.grammar.plain_values import ToolShape, expression
from mlxd.engine.grammar.tool_calls import ToolGrammar
from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import notation_named
from mlxd.engine.parsing.blocks import callable_tools
from mlxd.errors import InvalidField
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    GrammarOutput,
    JsonOutput,
    JsonSchemaOutput,
    NamedTool,
    NoTools,
    Output,
    RegexOutput,
    RequiredTools,
    TextOutput,
    Tool,
    ToolChoice,
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
        self._notation = notation_named(markup.tool_format)
        self._form = self._notation.form_in(is_token)
        self._messages = self._form.messages
        # A marker that is a text ends the lexeme of the free text before it, at its first place.
        self._trigger = "trigger" if is_token(self._form.marker) else "trigger[lazy]"

    def of(self, request: GenerateRequest) -> GrammarText | None:
        """The grammar of the answer to `request`, None where it is free; raises `InvalidField`."""
        required, tools = _required(request.tool_choice), callable_tools(request)
        free_text = isinstance(request.output, TextOutput)
        if free_text and not required and not any(tool.strict for tool in tools):
            return None
        draft = _Draft()
        marked = not required and free_text
        if tools:
            self._add_calls(draft, request, tools, marked=marked)
        if marked:
            draft.rules.append(f"FREE: {self._free()}")
            draft.answers.append(self._final("FREE"))
        elif not required:
            draft.rules.append(f"answer: {self._output(request.output, draft.named)}")
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
        self, draft: _Draft, request: GenerateRequest, tools: Sequence[Tool], *, marked: bool
    ) -> None:
        """Calls as an answer; `marked` ones may follow a free text."""
        marker = self._form.marker
        grammar = ToolGrammar(self._form, self._literally, parallel=request.parallel_tools)
        shapes = [
            ToolShape(tool.name, read_schema(tool.parameters, "tools"), tool.strict)
            for tool in tools
        ]
        marked = marked and self._messages is None and marker != ""
        draft.rules.append(grammar.rules(shapes, marked=marked))
        if marked:
            draft.rules.append(f"{self._trigger}: FREE {self._literally(marker)}")
        draft.answers.append("trigger calls" if marked else "calls")
        draft.beginnings += grammar.beginnings(shapes)
        draft.ends += grammar.ends

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

    def _output(self, output: Output, named: list[dict[str, str]]) -> str:
        match output:
            case TextOutput():
                return _ANYTHING
            case JsonOutput():
                return inline_json({"type": "object"}, strict=True)
            case JsonSchemaOutput(schema=schema, strict=strict):
                return inline_json(read_schema(schema, "response_format"), strict=strict)
            case RegexOutput(pattern=pattern):
                if len(pattern.encode()) > MAX_PATTERN:
                    raise _refused(f"The pattern is longer than {MAX_PATTERN} bytes.")
                return f"/{regex_to_lark(pattern, 'd')}/"
            case GrammarOutput(lark=lark):
                named.append({"name": "own", "lark_grammar": _own(lark)})
                return "@own"
            case _:
                assert_never(output)


def _required(choice: ToolChoice) -> bool:
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
