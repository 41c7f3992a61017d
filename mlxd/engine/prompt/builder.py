"""Messages and tools to token ids, by the model's own chat template.

Runs in the prep thread: text and token ids only, no MLX array.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, assert_never

from mlxd.engine.notations.table import notation_named
from mlxd.engine.prompt.answers import Answers
from mlxd.engine.prompt.chat_template import ChatTemplate, TemplateFault
from mlxd.engine.prompt.escaping import Escaper, PlainEncoder, control_tokens
from mlxd.engine.prompt.markup_detection import ModelFormat, read_format
from mlxd.engine.prompt.rendering import TemplateContext
from mlxd.engine.prompt.splice import Splice, Splicer, WrittenRequest, find_frame
from mlxd.engine.prompt.template_traits import REQUEST_ARGUMENTS
from mlxd.engine.prompt.thinking_off import SWITCHES, turns_off
from mlxd.engine.prompt.turn_layout import TAGS
from mlxd.engine.prompt.turns import MessageReader
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import ContextTooLong, InvalidField
from mlxd.events import CacheNote
from mlxd.messages import (
    AllowedTools,
    GenerateRequest,
    Image,
    NoTools,
    Part,
    Reasoning,
    Scalar,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

MAX_ARGUMENT = 1000
"""Characters of a text that a request hands to the template."""
MAX_GROWTH = 1_000_000
"""Characters that a template may add to a prompt, besides four times what the caller wrote."""
SLICE = 65_536
"""Characters that are tokenised at a time while it is unclear whether a prompt can fit."""
ROOMY = 6
"""A prompt with fewer characters than this for each token of the window is tokenised at once."""
EFFORTS = {
    **{"none": "low", "minimal": "low", "low": "low"},
    **{"medium": "medium", "high": "high", "xhigh": "high", "max": "high"},
}
"""Efforts for templates that name none themselves: they are trained on three."""


@dataclass(frozen=True)
class Prompt:
    """A request as the model reads it.

    `opens_reasoning` says that the prompt ends inside of a reasoning tag. `boundaries` are numbers
    of tokens after which other prompts are likely to go on differently, rising. `before` is what
    its answer is found by later, which `begins` at that token: behind the last one, but where the
    prompt goes on with what it has of it. `note` says why an earlier one is not in it as it was
    said.
    """

    tokens: list[int]
    opens_reasoning: bool = False
    boundaries: tuple[int, ...] = ()
    before: bytes = b""
    begins: int = 0
    note: CacheNote | None = None


class PromptBuilder:
    """Builds prompts for one model; not for several threads at once.

    `vocab_size` is the length of the model's logits, if it is less than what the tokenizer knows;
    `known` is what was found out of its template already. With `answers` a prompt goes on from
    those in the tokens in which they were said; `ends` are the tokens that end them, and `scope` is
    the name that its weights go by.
    """

    def __init__(
        self,
        tokenizer: Any,
        spec: ModelSpec,
        context_length: int,
        *,
        vocab_size: int | None = None,
        known: ModelFormat | None = None,
        answers: Answers | None = None,
        ends: Sequence[int] = (),
        scope: str = "",
    ) -> None:
        self._spec = spec
        self._context_length = context_length
        self._template = ChatTemplate(tokenizer)
        found = known or read_format(tokenizer, spec)
        self.traits, self.markup = found.traits, found.markup
        tags = [tag for pair in self.markup.reasoning for tag in pair]
        tags += notation_named(self.markup.tool_format).form.tags
        controls = control_tokens(tokenizer, self._template.source, *TAGS, *tags)
        self._encoder = PlainEncoder(tokenizer, controls)
        vocabulary = tokenizer.get_vocab()
        # Logits are often padded past the vocabulary, and sometimes shorter than it.
        tokens = max(vocabulary.values(), default=-1) + 1
        self._vocab_size = tokens if vocab_size is None else min(tokens, vocab_size)
        self._longest_token = max(map(len, vocabulary), default=1)
        self._splicer = None
        if answers is not None:
            context = TemplateContext(self._template, self.traits, self.markup, (), {})
            frame = find_frame(context, self._encoder.first_control)
            self._splicer = Splicer(
                *(tokenizer, self.markup, answers), scope=scope or spec.id, ends=ends, frame=frame
            )

    def build(self, request: GenerateRequest) -> Prompt:
        """The prompt of `request`; raises `InvalidField` and `ContextTooLong`."""
        for token in request.sampling.logit_bias or ():
            if not 0 <= token < self._vocab_size:
                raise InvalidField(
                    "logit_bias",
                    "value",
                    f"Token {token} of `logit_bias` is not in the model's vocabulary "
                    f"(0 to {self._vocab_size - 1}).",
                )
        prompt = self._prompt(request, checkpoints=True)
        if len(prompt.tokens) >= self._context_length:
            raise ContextTooLong(len(prompt.tokens), self._context_length)
        return prompt

    def count(self, request: GenerateRequest) -> int:
        """Tokens of the prompt of `request`, also when it is too long for the window."""
        return len(self._prompt(request, checkpoints=False).tokens)

    def wants_no_thinking(self, request: GenerateRequest) -> bool:
        """Whether this answer shall have no thinking, by the request or else the configuration."""
        wishes, traits = request.reasoning, self.traits
        own, configured = (
            next((arguments[name] for name in SWITCHES if name in arguments), None)
            for arguments in (request.template_args, self._spec.template_args)
        )
        if own is not None:
            return own is False
        if wishes.enabled is None and wishes.effort is None:
            return configured is False
        return turns_off(wishes, graded=traits.effort)

    def unmet_wishes(self, request: GenerateRequest, *, closes: bool) -> tuple[str, ...]:
        """The places of what a request wants of thinking and nothing can be done about.

        `closes` says that the engine can close thinking by force, where it knows the tags.
        """
        wishes, traits = request.reasoning, self.traits
        closes = closes and self.markup.reasoning != ()
        turned_off = self.wants_no_thinking(request)
        off = wishes.effort == "none" or (turned_off and wishes.effort == "minimal")
        can_stop = closes or traits.thinking_off is not None
        can_start = traits.thinking_switch is not None or self.markup.reasoning != ()
        unmet = {
            "reasoning.enabled": wishes.enabled is not None
            and not (can_start if wishes.enabled else can_stop),
            "reasoning.effort": wishes.effort is not None
            and not (can_stop if off else traits.effort),
            "reasoning.budget": wishes.budget is not None and not (closes or traits.budget),
        }
        return tuple(place for place, is_unmet in unmet.items() if is_unmet)

    def _prompt(self, request: GenerateRequest, *, checkpoints: bool) -> Prompt:
        size = _characters(request)
        # No token has more characters than the longest: so many can't fit, and to render them
        # would keep everybody else's prompts waiting. The error says about how many they are.
        if size > self._context_length * self._longest_token:
            raise ContextTooLong(size // 4, self._context_length)
        escaper = self._encoder.escaper()
        written = self._render(request, escaper, checkpoints)
        rendered = written.rendered
        if len(rendered.text) > 4 * size + MAX_GROWTH:
            raise InvalidField(
                "messages", "value", "The model's chat template makes too much of the messages."
            )
        splice = Splice()
        if self._splicer is not None and not self._seeded(request):
            splice = self._splicer.splice(written)
        rest = rendered.text[splice.rest :]
        if checkpoints:
            self._check_length(rest)
        before, opened = b"", len(rendered.text)
        if self._splicer is not None:
            before, opened = written.answered()
        marks = sorted(mark for mark in {*rendered.marks, opened} if mark > splice.rest)
        tokens, cuts = self._encoder.encode(
            rest,
            [mark - splice.rest for mark in marks],
            escaper.restore(),
            begins=not splice.tokens,
            limit=self._context_length if checkpoints else None,
        )
        known = len(splice.tokens)
        places = {mark: known + cut for mark, cut in zip(marks, cuts, strict=True)}
        boundaries = {*splice.boundaries, *(places[m] for m in rendered.marks if m in places)}
        end = known + len(tokens)
        return Prompt(
            [*splice.tokens, *tokens],
            rendered.opens_reasoning,
            tuple(sorted(cut for cut in boundaries if 0 < cut < end)),
            before,
            places.get(opened, splice.begins) if opened < len(rendered.text) else end,
            splice.note,
        )

    def _seeded(self, request: GenerateRequest) -> bool:
        """Whether the same request has to give the same prompt, whatever came before."""
        return request.sampling.merged(self._spec.sampling).seed is not None

    def _check_length(self, text: str) -> None:
        """Give up on a text that can't fit after tokenising little more than would."""
        if len(text) <= self._context_length * ROOMY:
            return
        tokens = 0
        for start in range(0, len(text), SLICE):
            tokens += self._encoder.count(text[start : start + SLICE])
            done = min(start + SLICE, len(text))
            # Where slices meet, a few tokens more are counted than the whole text has.
            if tokens - done // 1000 > self._context_length:
                raise ContextTooLong(tokens * len(text) // done, self._context_length)

    def _render(
        self, request: GenerateRequest, escaper: Escaper, checkpoints: bool
    ) -> WrittenRequest:
        """The conversation as text, in plainer and plainer forms until the template takes it."""
        reader = MessageReader(escaper, self._spec.id, self.markup.reasoning)
        turns = reader.turns(request.messages)
        tools = reader.tools(_offered(request))
        arguments = self._arguments(request, escaper)
        off = self.traits.thinking_off
        command = off.command if off is not None and self.wants_no_thinking(request) else ""
        fault = TemplateFault("there are none")
        plainer = (self.traits, self.traits.without_tools(), self.traits.strict())
        for traits in plainer if turns else ():
            context = TemplateContext(
                self._template, traits, self.markup, tools, arguments, command=command
            )
            try:
                rendered = context.render(list(chain.from_iterable(turns)), checkpoints=checkpoints)
                return WrittenRequest(request, context, turns, rendered, escaper.restore())
            except TemplateFault as refusal:
                fault = refusal
        raise InvalidField(
            "messages", "value", f"The model's chat template does not take these messages: {fault}"
        )

    def _arguments(self, request: GenerateRequest, escaper: Escaper) -> dict[str, Scalar]:
        """The template's arguments: the configuration's, then the request's own."""
        requested: dict[str, Scalar] = {}
        for name, value in request.template_args.items():
            _check_argument(name, value)
            requested[name] = escaper.text(value) if isinstance(value, str) else value
        # Families call the switch by two names; clients know only one of them.
        switch = self.traits.thinking_switch
        for name in SWITCHES:
            if switch is not None and name in requested:
                requested.setdefault(switch, requested[name])
        harmless = {name: requested[name] for name in requested if name in self.traits.arguments}
        arguments = {**self._spec.template_args, **self._reasoning(request), **harmless}
        if self.markup.reasoning and not arguments.keys() & SWITCHES:
            # mlx-lm would say no for the families whose tags it does not know.
            arguments["enable_thinking"] = True
        return arguments

    def _reasoning(self, request: GenerateRequest) -> dict[str, Scalar]:
        """The request's wishes about thinking in the template's own terms, as far as it has any."""
        wishes, traits = request.reasoning, self.traits
        if traits.thinking_off is not None and self.wants_no_thinking(request):
            return traits.thinking_off.arguments()
        arguments: dict[str, Scalar] = {}
        if traits.thinking_switch is not None and wishes.enabled is not None:
            arguments[traits.thinking_switch] = wishes.enabled
        if traits.effort and wishes.effort is not None:
            known = re.search(rf"['\"]{re.escape(wishes.effort)}['\"]", self._template.source)
            # A template may refuse an effort that it does not name.
            arguments["reasoning_effort"] = (
                wishes.effort if known else EFFORTS.get(wishes.effort, "medium")
            )
        if traits.budget and wishes.budget is not None:
            arguments["thinking_budget"] = wishes.budget
        return arguments


def _check_argument(name: str, value: Scalar) -> None:
    field = f"chat_template_kwargs.{name}"
    if name not in REQUEST_ARGUMENTS:
        known = ", ".join(REQUEST_ARGUMENTS)
        raise InvalidField(field, "unsupported", f"`{name}` can't be set here; known: {known}.")
    if isinstance(value, str) and len(value) > MAX_ARGUMENT:
        raise InvalidField(field, "value", f"`{name}` is longer than {MAX_ARGUMENT} characters.")


def _offered(request: GenerateRequest) -> Sequence[Tool]:
    """The tools that are described in front of the messages."""
    tools = [tool for tool in request.tools if not tool.deferred]
    match request.tool_choice:
        case NoTools():
            # Calls of the conversation would look strange without them, and its prefix be lost.
            return tools if _has_calls(request) else ()
        case AllowedTools(names=names):
            return [tool for tool in tools if tool.name in names]
    return tools


def _has_calls(request: GenerateRequest) -> bool:
    return any(isinstance(part, ToolCall) for each in request.messages for part in each.parts)


def _characters(request: GenerateRequest) -> int:
    """Characters that the caller wrote."""
    tools = sum(len(tool.name + tool.description + tool.parameters) for tool in request.tools)
    return tools + sum(_size(part) for message in request.messages for part in message.parts)


def _size(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text):
            return len(text)
        case ToolCall(name=name, arguments=arguments):
            return len(name) + len(arguments)
        case ToolResult(parts=parts):
            return sum(_size(inner) for inner in parts)
        case Image():
            return 0
        case _:
            assert_never(part)
