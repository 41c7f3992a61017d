"""What one notation of tool calls is: how it is read, how it is written, what gives it away."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlxd.engine.notations.reading.calls import CallReader
from mlxd.engine.notations.reading.headers import Headers
from mlxd.engine.notations.reading.json_calls import BARE_BEGINS, bare_calls
from mlxd.engine.notations.reading.plain_values import ValueMarks

_TAG = re.compile(r"<[^<>]*>|\[[A-Z_]+\]")


@dataclass(frozen=True)
class MessageForm:
    """How an answer is written as messages: its thinking, then a final text or a call.

    `thinking` are the header and the end of a message of reasoning, `following` begins the next
    message and `final` is the header of the answer. `structural` are all texts that are no content.
    """

    thinking: tuple[str, str]
    following: str
    final: str
    structural: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """How calls are written: `{name}` stands for the tool's name, `{key}` for an argument's.

    In `member`, `{string}` stands for whether the value is a text: `true` or `false`.

    `region` stands around all calls, `call` around one, `between` between two. With `json` the
    arguments are one JSON object; else each stands between the texts of `member`, with `comma`
    between two of them. As `values` are "plain", a text is written as it is; everything else is
    JSON. `marks` are the tags that a value may hold, and that tell where it ends; without them its
    first closing tag ends it. What is `forbidden` stands in no value, and `not_first` begins none.
    A `single` call is the whole answer.
    """

    call: tuple[str, str]
    region: tuple[str, str] = ("", "")
    between: str = ""
    json: bool = True
    member: tuple[str, str] = ("", "")
    comma: str = ""
    values: Literal["plain", "json"] = "plain"
    marks: ValueMarks | None = None
    forbidden: tuple[str, ...] = ()
    not_first: str = ""
    single: bool = False
    messages: MessageForm | None = None

    @property
    def marker(self) -> str:
        """The text that begins calls up to the end of its first tag; empty without markup."""
        text = self.region[0] or self.call[0].partition("{")[0]
        first = _TAG.match(text)
        return first[0] if first else text

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags around calls, without those that hold a tool's name."""
        found = _TAG.findall(" ".join((*self.region, *self.call)))
        return tuple(tag for tag in found if "{" not in tag)


Spell = Callable[[Sequence[tuple[str, Any]]], str]
"""Writes calls, each as (tool, its arguments as JSON has them), as the model itself would."""


@dataclass(frozen=True)
class Notation:
    """How a family of models writes tool calls; `name` is what `tool_format` calls it.

    Reading: `starts` maps each opening marker to the reader of what follows it; `bare` reads calls
    without markup where an answer begins, and with `bare_lines` where a line does; `headers` are
    set for families that write messages.

    Writing: grammars hold an answer to `form`, or to the second of `form_with` in a model whose
    vocabulary has the first. `spell` is set where calls of a conversation are better written in
    another way than `form` says.

    `begins` are the characters that calls read by `bare` can begin with; empty for any.
    `lead` is what a model writes before a text that begins an answer, and that is none of it.

    `answers` begin the visible answer, also where the model forgot to close its thinking.

    `texts` are those of its markup, with `more` that only readers know: special tokens among them
    are not dropped from answers.

    Finding: a model is taken to write so if it has all of `tokens`, or if its chat template has one
    of the texts `signs`, and what its template writes is read back. Only what mlx-lm does not find
    needs signs here. A notation that is `only_read` is never asked for, only read where a model
    falls into it.
    """

    name: str
    form: Form
    starts: Mapping[str, CallReader] = field(default_factory=dict)
    bare: CallReader | None = bare_calls
    bare_lines: bool = False
    begins: Sequence[str] = BARE_BEGINS
    lead: str = ""
    headers: Headers | None = None
    form_with: tuple[str, Form] | None = None
    spell: Spell | None = None
    tokens: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    only_read: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of its markup, some of them in longer ones."""
        other = self.form_with or ("", self.form)
        found = [*self.starts, *self.tokens, *self.signs, *self.more, *self.answers, other[0]]
        for form in (self.form, other[1]):
            found += [*form.region, *form.call, form.between, *form.member]
            if (messages := form.messages) is not None:
                found += [*messages.thinking, messages.following, messages.final]
                found += messages.structural
        if (headers := self.headers) is not None:
            found += [*headers.begins, *headers.opens, *headers.closes, headers.end]
        return tuple(filter(None, found))

    @property
    def closings(self) -> tuple[str, ...]:
        """The tags that close calls and the regions around them."""
        return tuple(_TAG.findall(f"{self.form.call[1]} {self.form.region[1]}"))

    def form_in(self, is_token: Callable[[str], bool]) -> Form:
        """The form for a model; `is_token` says whether its vocabulary has a text as one token."""
        if self.form_with is not None and is_token(self.form_with[0]):
            return self.form_with[1]
        return self.form
