"""Where in a prompt an earlier answer stands, so that it is read again as it was said.

A template writes an answer anew, with other spaces and in another order, and its text is cut into
other tokens. The very tokens take its place where three are equal: what the caller sends back, what
was said, and what the template writes. Only what follows is tokenised.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any, NamedTuple

from mlxd.engine.interface import Markup
from mlxd.engine.parsing.detokenize import RowText, Streamed
from mlxd.engine.parsing.whole_answer import read_answer
from mlxd.engine.prompt.answers import Answers, RememberedAnswer, scope_of
from mlxd.engine.prompt.chat_template import TemplateFault
from mlxd.engine.prompt.rendering import OTHER_WORDS, Rendered, TemplateContext, leaves_open, shared
from mlxd.engine.prompt.special_tokens import unknown_special_tokens
from mlxd.engine.prompt.turns import ChatTurn, one_spelling, split_reasoning
from mlxd.events import CacheNote
from mlxd.messages import (
    GenerateRequest,
    Message,
    OutputPart,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
)

LOOK_BACK = 4
"""How many of the last answers are looked for, from the newest on."""
CHANGED = CacheNote("changed_answer", "an earlier answer came back changed")
WRITTEN_OTHERWISE = CacheNote("rewritten_answer", "the chat template writes it differently")


@dataclass(frozen=True)
class WrittenRequest:
    """A request as its chat template writes it; `turns` are those of each of its messages.

    `plain` says what each placeholder of the text stands for.
    """

    request: GenerateRequest
    context: TemplateContext
    turns: Sequence[Sequence[ChatTurn]]
    rendered: Rendered
    plain: Mapping[str, str]

    def before(self, rendered: Rendered, messages: Sequence[Message]) -> bytes:
        """A name for a prompt, which is the same for the same text and calls only.

        A template may write 1 and "1" alike, and a call before a text as one behind it, so that
        calls and their places count besides the text.
        """
        # Marked, because a control text that a caller wrote is not the control token.
        text = self._with(rendered.text, "\ue000{}\ue001")
        answers = (message.parts for message in messages if message.role == "assistant")
        calls = [
            (part.name, one_spelling(part.arguments) or part.arguments)
            if isinstance(part, ToolCall)
            else "text"
            for part in chain.from_iterable(answers)
            if isinstance(part, ToolCall) or (isinstance(part, Text) and part.text.strip())
        ]
        written = json.dumps([text, [place for place, _ in groupby(calls)]])
        return hashlib.sha256(written.encode()).digest()

    def answered(self) -> tuple[bytes, int]:
        """What the answer is found by, and the character that it begins at.

        What a prompt goes on with, as a caller began it or as an answer was cut, belongs to it.
        """
        messages = self.request.messages
        *_, (first, last) = ((0, 0), *_answers_of(messages))
        if last and _goes_on(self, last):
            with suppress(TemplateFault):
                opened = self.context.render(_flat(self.turns[:first]), checkpoints=False)
                begin = _begin(self.rendered.text, opened, self.context.markup)
                if begin is not None and begin[1] == opened.opens_reasoning:
                    return self.before(opened, messages[:first]), begin[0]
        return self.before(self.rendered, messages), len(self.rendered.text)

    def unescaped(self, text: str) -> str:
        """A piece of the rendered text as its callers wrote it."""
        return self._with(text, "{}")

    def _with(self, text: str, form: str) -> str:
        if not self.plain:
            return text
        return text.translate({ord(key): form.format(was) for key, was in self.plain.items()})


class Splice(NamedTuple):
    """The tokens of a prompt's beginning, and where in its text what follows them begins.

    `note` says why an answer that is known could not be gone on from.
    """

    tokens: Sequence[int] = ()
    rest: int = 0
    boundaries: tuple[int, ...] = ()
    begins: int = 0
    """Where the answer begins in the tokens."""
    note: CacheNote | None = None


class _Said(NamedTuple):
    """An answer as it is read, and how many tokens it has without the one that ends it."""

    text: str
    parts: Sequence[OutputPart]
    length: int


class AnswerFrame(NamedTuple):
    """What a template writes around an answer: a head, and a control text or another end."""

    head: str = ""
    control: str = ""
    end: str = ""


def find_frame(context: TemplateContext, first_control: Callable[[str], str]) -> AnswerFrame:
    """Try a template out with a small conversation."""
    asked = [ChatTurn("user", "qzquestion")]
    answered = [*asked, ChatTurn("assistant", "qzanswer")]
    try:
        opened = context.text(asked, open_answer=True)
        head = opened[shared(opened, context.text(asked, open_answer=False)) :]
        end, after = (
            context.text(turns, open_answer=False).rpartition("qzanswer")[2]
            for turns in (answered, [*answered, ChatTurn("user", "qzthanks")])
        )
    except TemplateFault:
        return AnswerFrame()
    # Tags that it opens are the answer's.
    head = head[: _before_tags(head, context.markup)[-1]]
    # Without a control text all that comes before the next turn ends an answer.
    control = first_control(after)
    return AnswerFrame(head, control, "" if control else end[: shared(end, after)])


class Splicer:
    """Puts what was said into the prompts of one model; `ends` are the tokens that end answers."""

    def __init__(
        self,
        tokenizer: Any,
        markup: Markup,
        answers: Answers,
        *,
        scope: str,
        ends: Sequence[int],
        frame: AnswerFrame,
    ) -> None:
        self._tokenizer = tokenizer
        self._scope = scope
        self._markup = markup
        self._answers = answers
        self._ends = frozenset(ends)
        self._dropped = unknown_special_tokens(tokenizer, markup)
        controls = {*tokenizer.convert_ids_to_tokens(list(ends)), frame.control} - {"", None}
        self._end_texts = _any_of({*controls, frame.end} - {""})
        # Some templates write text and calls as turns of their own.
        self._seams = re.compile(
            rf"(?:{_any_of(controls).pattern})\s*(?:{re.escape(frame.head)}\s*)?"
        )

    def splice(self, written: WrittenRequest) -> Splice:
        """The beginning of a prompt that is known from an earlier one with its answer."""
        request = written.request
        scope = scope_of(self._scope, request.source.key)
        if not self._answers.knows(scope):
            return Splice()
        note = None
        for first, last in list(_answers_of(request.messages))[: -LOOK_BACK - 1 : -1]:
            try:
                found = self._at(written, scope, first, last)
            except TemplateFault:
                continue
            if isinstance(found, Splice):
                return found._replace(note=note)
            note = note or found
        return Splice(note=note)

    def _at(
        self, written: WrittenRequest, scope: str, first: int, last: int
    ) -> Splice | CacheNote | None:
        """The splice behind the answer in the messages from `first` to `last`, or why not."""
        messages = written.request.messages
        opened = written.context.render(_flat(written.turns[:first]), checkpoints=False)
        known = False
        sent = _sent(messages[first:last], self._markup)
        for answer in self._answers.after(scope, written.before(opened, messages[:first])):
            known = True
            said = self._said(answer, written.request.tools, opened)
            if said is None or not same_answer(sent, said.parts):
                continue
            # An answer that is gone on with ends with white space, or does not.
            if _goes_on(written, last) and not said.text.endswith(_last_text(sent)):
                continue
            rest = self._end(written, opened, last, said.parts)
            if rest is None:
                return WRITTEN_OTHERWISE
            tokens = answer.tokens[: answer.begins + said.length]
            return Splice(tokens, rest, (*answer.boundaries, len(tokens)), answer.begins)
        return CHANGED if known else None

    def _said(
        self, answer: RememberedAnswer, tools: Sequence[Tool], opened: Rendered
    ) -> _Said | None:
        tokens = list(answer.tokens[answer.begins :])
        complete = bool(tokens) and tokens[-1] in self._ends
        length = len(tokens) - complete
        # As it was shown: `decode` of all at once may give another text.
        row = RowText(Streamed(self._tokenizer.detokenizer), (), dropped=self._dropped)
        pieces = [row.add(token, None) for token in tokens[:length]]
        text = "".join(piece.text for piece in (*pieces, row.finish()))
        parts = read_answer(
            text,
            self._markup,
            tools,
            opens_reasoning=opened.opens_reasoning,
            complete=complete,
        )
        return None if parts is None else _Said(text, parts, length)

    def _end(
        self, written: WrittenRequest, opened: Rendered, last: int, said: Sequence[OutputPart]
    ) -> int | None:
        """Where in the text an answer is over that was `said` behind `opened`."""
        text = written.rendered.text
        begin = _begin(text, opened, self._markup)
        if begin is None:
            return None
        at, opens = begin
        limit = len(text)
        followers = _flat(written.turns[last:])
        if followers:
            # With other words in what follows, all is the same up to those.
            others = [
                turn if turn.role == "assistant" else replace(turn, text=OTHER_WORDS)
                for turn in followers
            ]
            turns = [*_flat(written.turns[:last]), *others]
            limit = shared(text, written.context.render(turns, checkpoints=False).text)
        ends = [found.start() for found in self._end_texts.finditer(text, at, limit)]
        for end in [limit] if _goes_on(written, last) else ends:
            forms = dict.fromkeys((text[at:end], self._seams.sub("\n", text[at:end])))
            for form in map(written.unescaped, forms):
                tools = written.request.tools
                parts = read_answer(form, self._markup, tools, opens_reasoning=opens)
                if parts is not None and same_answer(_by_kind(said), _by_kind(parts), bare=True):
                    return end
        return None


def same_answer(one: Sequence[Part], other: Sequence[Part], *, bare: bool = False) -> bool:
    """Whether two answers are equal but for white space at the ends of their texts.

    Thinking is compared to the letter between its line breaks, which are its tags', or, if `bare`,
    as text is; calls by name and JSON value in their order, without their ids.
    """
    spelt = _spelt(one, bare)
    return spelt is not None and spelt == _spelt(other, bare)


def _by_kind(parts: Sequence[Part]) -> list[Part]:
    """Thinking, text and calls, which many templates write in an order of their own."""
    kinds = (Reasoning, Text, ToolCall)
    return sorted(parts, key=lambda part: kinds.index(type(part)) if type(part) in kinds else 3)


def _spelt(parts: Sequence[Part], bare: bool) -> list[tuple[str, ...]] | None:
    """An answer in one spelling; None where it can't be said whether another is equal."""
    spelt: list[tuple[str, ...]] = []
    for kind, group in groupby(parts, type):
        if issubclass(kind, Text | Reasoning):
            text = "\n".join(part.text for part in group if isinstance(part, Text | Reasoning))
            if text.strip():
                thought = issubclass(kind, Reasoning) and not bare
                kept = text.strip("\n" if thought else None)
                spelt.append((kind.__name__, kept))
            continue
        for part in group:
            if not isinstance(part, ToolCall) or not (arguments := one_spelling(part.arguments)):
                return None
            spelt.append((kind.__name__, part.name, arguments))
    return spelt


def _sent(messages: Sequence[Message], markup: Markup) -> list[Part]:
    """An answer's parts as its caller sends them, with thinking that stands in the text."""
    parts = [part for message in messages for part in message.parts]
    if parts and isinstance(parts[0], Text):
        text, thought, _ = split_reasoning(parts[0].text, markup.reasoning)
        # As in a prompt, where it is looked for only if the caller has it nowhere else.
        if thought and not any(isinstance(part, Reasoning) for part in parts):
            return [Reasoning(thought), Text(text), *parts[1:]]
    return parts


def _goes_on(written: WrittenRequest, last: int) -> bool:
    """Whether the model goes on with the answer that ends before the message `last`."""
    return last == len(written.turns) and not written.turns[-1][-1].calls


def _last_text(parts: Sequence[Part]) -> str:
    last = parts[-1] if parts else None
    return last.text if isinstance(last, Text | Reasoning) else ""


def _answers_of(messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """Where answers begin and end among the messages; a program may send one in several."""
    last = 0
    for role, group in groupby(messages, lambda message: message.role):
        first, last = last, last + len(list(group))
        if role == "assistant":
            yield first, last


def _flat(turns: Sequence[Sequence[ChatTurn]]) -> list[ChatTurn]:
    return list(chain.from_iterable(turns))


def _begin(text: str, opened: Rendered, markup: Markup) -> tuple[int, bool] | None:
    """Where in `text` the answer behind `opened` begins, and whether inside of thinking.

    Tags and white space that a prompt ends with may not stand in its history: they are the
    prompt's, and the answer's own tokens follow them.
    """
    reach = shared(text, opened.text)
    if reach == len(opened.text):
        return reach, opened.opens_reasoning
    edges = _before_tags(opened.text, markup)
    begin = next((edge for edge in edges if edge <= reach), None)
    return None if begin is None else (begin, leaves_open(opened.text[edges[-1] : begin], markup))


def _before_tags(text: str, markup: Markup) -> list[int]:
    """Where each of the tags and spaces begins that a text ends with, from its end on."""
    pieces = (*chain.from_iterable(markup.reasoning), *markup.structural, *" \n\t")
    edges = [len(text)]
    while piece := next((each for each in pieces if text.endswith(each, 0, edges[-1])), ""):
        edges.append(edges[-1] - len(piece))
    return edges


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    # Of a text and its beginning the whole.
    longest = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")
