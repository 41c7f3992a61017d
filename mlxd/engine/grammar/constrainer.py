"""From a request to what steers its row: grammars by llguidance, and the thinking budget.

Runs in the preparing thread; no MLX array. What can't be compiled is refused with the reason
before the request is accepted. llguidance bounds the work of a compilation and of a mask itself, so
that no time limit is needed.
"""

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from transformers import PreTrainedTokenizerFast

from mlxd.engine.grammar.enforceable import Deadline
from mlxd.engine.grammar.lark_text import AFTER_THINKING, GrammarText, GrammarWriter
from mlxd.engine.grammar.requested_schemas import (
    RequestedSchemas,
    constrained_field,
    is_constrained,
    requested_schemas,
)
from mlxd.engine.grammar.schema_faults import FAULT_SECONDS, SchemaFaults
from mlxd.engine.grammar.shortest_ending import LONGEST, Closer
from mlxd.engine.grammar.text_tokens import load_tokenizer, tag_tokens
from mlxd.engine.grammar.token_masks import MIN_GROWTH, Grammar, Steering, Thinking, Vocabulary
from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import notation_named
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.errors import InvalidField
from mlxd.messages import GenerateRequest, JsonSchemaOutput

Ends = tuple[tuple[int, ...], ...]

CACHED = 64
"""Compiled grammars that are kept for each model."""
MAX_TEXT = 4 << 20
"""Characters of a grammar with the schemas of all its tools."""
FUEL = 5_000_000
"""llguidance's measure of the work of compiling a grammar and of looking for ways to its end."""
SEARCH_STEPS = 5_000
"""Steps of the search for ways from the beginnings of calls to their ends: about half a second."""
MAX_REASON = 300
"""Characters of llguidance's own words that are passed on."""

LEFT_OUT_TOGETHER = (0, 1, 4, 16)
"""How many of the largest schemas are left out until the rest can be compiled; then all."""
REFUSED = "It can't be enforced: "

_POSITION = re.compile(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?")

_PANIC = "panic"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SteeringRecipe:
    """What steers one request's row; `left_out` are the places of what is left to the model."""

    vocabulary: Vocabulary
    grammar: Grammar | None
    thinking: Thinking | None
    left_out: tuple[str, ...] = ()

    def start(self, max_tokens: int) -> Steering:
        """The state of a row that may draw `max_tokens` tokens."""
        return Steering(self.vocabulary, max_tokens, grammar=self.grammar, thinking=self.thinking)


@dataclass(frozen=True)
class _Compiled:
    """A grammar, and the places of what is left out of it."""

    grammar: Grammar
    left_out: tuple[str, ...]


class Constrainer:
    """Makes recipes for one model; not for several threads at once."""

    def __init__(
        self, tokenizer: Any, builder: PromptBuilder, *, ends: Sequence[int], vocab_size: int
    ) -> None:
        self._tokenizer = tokenizer
        self._inner = getattr(tokenizer, "_tokenizer", tokenizer)
        self.can_constrain = isinstance(self._inner, PreTrainedTokenizerFast) and len(ends) > 0
        """Whether tokens can be forced and ruled out with this model's tokenizer."""
        self._markup: Markup = builder.markup
        self._unwanted = builder.wants_no_thinking
        self._can_switch_off = builder.traits.thinking_off is not None
        vocabulary = tokenizer.get_vocab()
        form = notation_named(self._markup.tool_format).form_in(vocabulary.__contains__)
        self._tags = tag_tokens(self._inner, form) if self.can_constrain else frozenset()
        self._writer = GrammarWriter(
            self._markup,
            literally=lambda text: literal(self._loaded_vocabulary().tokenizer, text),
            is_token=lambda text: text in vocabulary and vocabulary[text] not in self._tags,
        )
        opening = self._markup.reasoning[0][0] if self._markup.reasoning else ""
        self._starter = vocabulary.get(opening)
        # The first one ends what is led to its end, and that is best what templates write there:
        # the next prompt then goes on from the state behind it.
        self._ends = tuple(sorted(ends, key=lambda end: (end != tokenizer.eos_token_id, end)))
        self._vocab_size = vocab_size
        self._vocabulary: Vocabulary | None = None
        self._compiled: OrderedDict[Hashable, _Compiled] = OrderedDict()
        self._faults = SchemaFaults(self._writer, self._fault)

    def recipe(self, request: GenerateRequest, prompt: Prompt) -> SteeringRecipe | None:
        """What steers `request`, None when it is free; raises `InvalidField`."""
        constrained = is_constrained(request)
        thinking = self._thinking(request, prompt, constrained=constrained)
        if constrained:
            found = self._grammar(request)
            vocabulary = self._loaded_vocabulary()
            return SteeringRecipe(vocabulary, found.grammar, thinking, found.left_out)
        if thinking is None or thinking.budget is None:
            return None
        if not self.can_constrain:
            log.warning("a thinking budget can't be enforced with this model's tokenizer")
            return None
        return SteeringRecipe(self._loaded_vocabulary(), None, thinking)

    def _loaded_vocabulary(self) -> Vocabulary:
        """The vocabulary, read on the first use: it takes a moment."""
        if self._vocabulary is None:
            inner = self._inner
            if not self.can_constrain:
                raise InvalidField(
                    "response_format", "unsupported", "This model's output can't be constrained."
                )
            size = max(self._vocab_size, 1 + max(inner.get_vocab().values()))
            tokenizer = load_tokenizer(inner, size, self._ends, texts=self._tags)
            self._vocabulary = Vocabulary(
                tokenizer, Closer(tokenizer), self._vocab_size, self._ends
            )
        return self._vocabulary

    def _grammar(self, request: GenerateRequest) -> _Compiled:
        key = (request.output, request.tools, request.tool_choice, request.parallel_tools)
        found = self._compiled.get(key)
        if found is None or not _works(found.grammar.matcher):
            found = self._compiled[key] = self._as_compiled(request)
        self._compiled.move_to_end(key)
        if len(self._compiled) > CACHED:
            self._compiled.popitem(last=False)
        return found

    def _as_compiled(self, request: GenerateRequest) -> _Compiled:
        """The grammar of what of the schemas can be compiled; raises `InvalidField`."""
        schemas = requested_schemas(request)
        with suppress(InvalidField):
            return self._compiled_anew(request, schemas)
        if isinstance(output := request.output, JsonSchemaOutput):
            self._faults.refuse_output(schemas.output, strict=output.strict)
        deadline = Deadline(FAULT_SECONDS)
        schemas = replace(schemas, tools=self._faults.without(schemas.tools, deadline))
        # What is sound alone may be too much together; then the largest are left out.
        for count in LEFT_OUT_TOGETHER if not deadline.passed else ():
            with suppress(InvalidField):
                return self._compiled_anew(request, _without_largest(schemas, count))
        return self._compiled_anew(request, _without_largest(schemas, len(schemas.tools)))

    def _fault(self, lark: str) -> str:
        """Why a grammar can't be compiled; empty if it can."""
        try:
            self._checked(lark, "")
        except InvalidField as error:
            return str(error).removeprefix(REFUSED)
        except _Panic:
            self._start_anew()
            return "it can't be compiled"
        return ""

    def _start_anew(self) -> None:
        # A bug of the library breaks what its objects share; fresh ones work again.
        log.warning("a grammar broke the library; its state is made anew")
        self._vocabulary = None
        self._compiled.clear()

    def _compiled_anew(self, request: GenerateRequest, schemas: RequestedSchemas) -> _Compiled:
        field = constrained_field(request.output)
        texts = self._writer.of(request, schemas)
        try:
            return _Compiled(self._compile(texts, field), schemas.left_out)
        except _Panic:
            self._start_anew()
        try:
            return _Compiled(self._compile(texts, field), schemas.left_out)
        except _Panic:
            raise InvalidField(field, "unsupported", "It can't be enforced.") from None

    def _compile(self, texts: GrammarText, field: str) -> Grammar:
        if len(texts.lark) > MAX_TEXT:
            raise InvalidField(field, "value", "The schemas are too large together.")
        vocabulary = self._loaded_vocabulary()
        matcher = self._checked(texts.lark, field)
        for warning in matcher.get_grammar_warnings():
            log.info("a grammar is enforced in part: %s", _reason(warning))
        tokenize = vocabulary.tokenizer.tokenize_str
        ends = tuple(tuple(tokenize(text, parse_special=True)) for text in texts.ends)
        way = vocabulary.closer.way(matcher, ends=ends)
        if not _works(matcher):
            raise _Panic
        if way is None:
            # White space that may come first satisfies a part of what nothing satisfies whole.
            self._checked(texts.lark.replace(AFTER_THINKING, "", 1), field)
        growth = [len(way or ())]
        last = vocabulary.closer.steps + SEARCH_STEPS
        for text in texts.beginnings:
            late = vocabulary.closer.steps > last
            growth.append(LONGEST if late else self._rest(matcher, text, ends))
        return Grammar(
            matcher,
            None if way is None else tuple(way),
            MIN_GROWTH + 2 * max(growth),
            whole=texts.whole,
            ends=ends,
        )

    def _checked(self, lark: str, field: str) -> LLMatcher:
        """A compiled grammar that at least one token can begin; raises `InvalidField`."""
        limits = LLParserLimits(initial_lexer_fuel=FUEL)
        tokenizer = self._loaded_vocabulary().tokenizer
        matcher = LLMatcher(tokenizer, lark, log_level=0, limits=limits)
        probe = matcher.deep_copy()
        probe.compute_bitmask()
        error = matcher.get_error() or probe.get_error()
        if error.startswith(_PANIC):
            raise _Panic
        if error:
            raise InvalidField(field, "unsupported", f"{REFUSED}{_reason(error)}")
        if probe.is_stopped() and not probe.is_accepting():
            raise InvalidField(field, "value", "Nothing can satisfy it.")
        return matcher

    def _rest(self, matcher: LLMatcher, beginning: str, ends: Ends) -> int:
        """Tokens to the end of an answer that begins so."""
        vocabulary = self._loaded_vocabulary()
        ahead = matcher.deep_copy()
        tokens = vocabulary.tokenizer.tokenize_str(beginning, parse_special=True)
        if ahead.try_consume_tokens(tokens) < len(tokens):
            return 0
        return len(vocabulary.closer.way(ahead, ends=ends) or ())

    def _thinking(
        self, request: GenerateRequest, prompt: Prompt, *, constrained: bool
    ) -> Thinking | None:
        wishes = request.reasoning
        off = self._unwanted(request)
        # A template without a switch has the model think all the same: its tag is closed at once.
        budget = 0 if off and not self._can_switch_off else wishes.budget
        if not self._markup.reasoning or (budget is None and not constrained):
            return None
        opening, closing = self._markup.reasoning[0]
        closers = closing
        if (messages := notation_named(self._markup.tool_format).form.messages) is not None:
            closers += messages.following + ("" if request.tools else messages.final)
        starter = None if off else self._starter
        return Thinking(
            opening=opening.encode(),
            closing=closing.encode(),
            closers=tuple(self._tokenizer.encode(closers, add_special_tokens=False)),
            budget=budget,
            inside=prompt.opens_reasoning,
            starter=starter,
        )


def _without_largest(schemas: RequestedSchemas, count: int) -> RequestedSchemas:
    """Without the schemas of the `count` tools whose schemas are longest, but for strict ones."""
    by_size = sorted(schemas.tools, key=lambda tool: -len(tool.tool.parameters))
    largest = {tool.field for tool in by_size[:count]}
    why = "the schemas are too large together"
    tools = [tool.without_schema(why) if tool.field in largest else tool for tool in schemas.tools]
    return replace(schemas, tools=tools)


class _Panic(Exception):
    """The library stopped at an error of its own."""


def _works(matcher: LLMatcher) -> bool:
    # Objects of the library share state; an error of one shows in others only when they compute.
    probe = matcher.deep_copy()
    probe.compute_bitmask()
    return not probe.is_error()


def literal(tokenizer: LLTokenizer, text: str) -> str:
    """A text as a Lark expression."""
    parts: list[str] = []
    plain = b""
    for token in tokenizer.tokenize_str(text, parse_special=True):
        if not tokenizer.is_special_token(token):
            plain += tokenizer.decode_bytes([token])
            continue
        parts += [_quoted(plain.decode()), f"<[{token}]>"]
        plain = b""
    return " ".join(filter(None, [*parts, _quoted(plain.decode())]))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _reason(error: str) -> str:
    """llguidance's reason without the position in a grammar that the caller never saw."""
    first, *others = error.split("\n")
    line = _POSITION.sub("", first.strip())
    if line.endswith(":"):
        # Of a regular expression the reason stands below a drawing of the place.
        line += next((f" {each[7:]}" for each in others if each.startswith("error: ")), "")
    return line[:MAX_REASON] or "it is too complex."
