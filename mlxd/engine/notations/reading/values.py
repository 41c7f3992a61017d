"""One value of JSON, or of a notation like it, copied as strict JSON while it arrives.

What is valid JSON is copied as it was written. What is not is repaired where only one reading is
possible: control characters and unknown escapes in strings, a comma before a closing bracket,
Python's quotes, tuples and names for constants, and closing brackets that are missing after a whole
value.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlxd.engine.notations.reading.scanner import (
    NONE,
    SPACE,
    Markers,
    Scanner,
    Steps,
    advance,
    markers_of,
)
from mlxd.engine.notations.reading.strings import Emit, Outcome, Output, Quote, StringCopy, quoted


@dataclass(frozen=True)
class Style:
    """A way to write values.

    With `bare`, keys and strings that match it may stand without quotes, up to a delimiter.
    """

    quotes: tuple[Quote, ...] = (Quote('"'),)
    brackets: Mapping[str, str] = field(default_factory=lambda: {"{": "}", "[": "]"})
    bare: re.Pattern[str] | None = None
    delimiters: tuple[str, ...] = (",", "}", "]")


JSON = Style()
TOLERANT = Style(
    quotes=(Quote('"'), Quote("'", "python")),
    brackets={"{": "}", "[": "]", "(": ")"},
)
"""JSON as models write it, which may be a dictionary of Python."""
PYTHON = Style(
    quotes=(Quote('"', "python"), Quote("'", "python")),
    brackets={"{": "}", "[": "]", "(": ")"},
)

_WORD = re.compile(r"[\w.+-]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_CONSTANTS = {"true": "true", "false": "false", "null": "null"}
_PYTHON_CONSTANTS = {"True": "true", "False": "false", "None": "null"}
_AS_JSON = {"(": "[", ")": "]"}
_MISSING_BRACKETS = "missing closing brackets"

Want = Literal["value", "first", "next", "more", "colon"]


def is_number(text: str) -> bool:
    """Whether `text` is a JSON number."""
    return _NUMBER.fullmatch(text) is not None


class ValueCopy:
    """Copies one value from a scanner to `emit`; `stops` are the markers that can follow it.

    `python` says that it stands in a dictionary of Python. A single quote says so too, and from
    there on double ones have Python's escapes as well: it chooses by what is in a string.

    `next_call` says whether a text begins the next call of a row. A string whose end got lost would
    take it in; where the quote behind its bracket ends the string, the value is broken there.
    """

    def __init__(
        self,
        scan: Scanner,
        emit: Emit,
        *,
        style: Style = TOLERANT,
        stops: Markers = NONE,
        python: bool = False,
        next_call: Callable[[str], bool] | None = None,
    ) -> None:
        self._scan = scan
        self._out = Output(scan, emit)
        self._emit = self._out.put
        self._style = style
        self._stops = stops
        self._python = python
        self._ends = markers_of(*style.delimiters, *stops.texts)
        self._key_ends = markers_of(":", *self._ends.texts)
        self._owed: list[str] = []
        self._want: Want = "value"
        self._pause = ""
        self.repairs: dict[str, None] = {}
        """What was repaired, in order."""
        self._strings = StringCopy(scan, self._out, self.repairs, next_call=next_call)

    def copy(self, *, crosses: bool = False) -> Steps[Outcome]:
        """Copy the value; nothing after it is taken.

        With `crosses`, a string goes on behind a fence, if the value then comes out whole.
        """
        self._out.crosses = crosses
        outcome = yield from self._copy()
        return self._out.settled(outcome)

    @property
    def followed(self) -> bool:
        """It is broken, and the next call of the row comes next."""
        return self._out.followed

    def _copy(self) -> Steps[Outcome]:
        scan = self._scan
        while True:
            if not scan.char or scan.char in SPACE:
                self._pause += yield from scan.space()
            if not scan.char:
                return self._at_end()
            outcome = yield from self._token(scan.char)
            if outcome is not None:
                return outcome
            if not self._owed and self._want == "next":
                return Outcome.WHOLE

    def _token(self, char: str) -> Steps[Outcome | None]:
        owed = self._owed
        if owed and char == owed[-1] and self._want in ("first", "next", "more"):
            self._close()
            return None
        if self._want == "next":
            return (yield from self._after_value(char))
        if self._want == "colon":
            return self._colon(char)
        if self._want != "value" and owed[-1] == "}":
            return (yield from self._key(char))
        return (yield from self._value(char))

    def _put(self, text: str) -> None:
        """Emit `text` after the white space and the comma that waited for it."""
        self._emit(self._pause + text)
        self._pause = ""

    def _close(self) -> None:
        if self._want == "more":
            self.repairs["a comma before a closing bracket"] = None
            self._pause = self._pause.replace(",", "", 1)
        bracket = self._scan.take(1)
        self._put(_AS_JSON.get(bracket, bracket))
        self._owed.pop()
        self._want = "next"

    def _close_all(self) -> Outcome:
        self.repairs[_MISSING_BRACKETS] = None
        self._put("".join(_AS_JSON.get(each, each) for each in reversed(self._owed)))
        self._owed.clear()
        return Outcome.WHOLE

    def _at_end(self) -> Outcome:
        if self._want == "next" and self._scan.complete:
            return self._close_all()
        self._put("")
        return Outcome.CUT

    def _after_value(self, char: str) -> Steps[Outcome | None]:
        if char == ",":
            self._pause += self._scan.take(1)
            self._want = "more"
            return None
        if (yield from self._scan.at_any(self._stops)):
            self._pause = ""
            return self._close_all()
        return self._broken()

    def _broken(self) -> Outcome:
        self._put("")
        return Outcome.BROKEN

    def _colon(self, char: str) -> Outcome | None:
        if char != ":":
            return self._broken()
        self._put(self._scan.take(1))
        self._want = "value"
        return None

    def _key(self, char: str) -> Steps[Outcome | None]:
        quote = yield from self._quote(char)
        if quote is None and not self._style.bare:
            return self._broken()
        if quote is not None:
            self._want = "colon"
            return (yield from self._string(quote))
        key, marker = yield from self._until(self._key_ends)
        self._put(quoted(key.strip()))
        self._want = "colon"
        if marker == ":":
            return None
        return Outcome.BROKEN if marker else Outcome.CUT

    def _value(self, char: str) -> Steps[Outcome | None]:
        if closing := self._style.brackets.get(char):
            self._owed.append(closing)
            bracket = self._scan.take(1)
            self._put(_AS_JSON.get(bracket, bracket))
            self._want = "first"
            return None
        quote = yield from self._quote(char)
        self._want = "next"
        if quote is not None:
            return (yield from self._string(quote))
        if self._style.bare:
            return (yield from self._bare_value())
        return (yield from self._constant())

    def _string(self, quote: Quote) -> Steps[Outcome | None]:
        """Copy a string whose quote was taken; None where it is whole."""
        self._put('"')
        return (yield from self._strings.copy(quote, python=self._python))

    def _quote(self, char: str) -> Steps[Quote | None]:
        for quote in self._style.quotes:
            if quote.text[0] == char and (yield from self._scan.accept(quote.text)):
                if char == "'" and not self._style.bare:
                    self.repairs["Python's quotes"] = None
                    self._python = True
                return quote
        return None

    def _constant(self) -> Steps[Outcome | None]:
        word = yield from self._scan.run(_WORD)
        if not self._scan.char and not self._scan.complete:
            self._put(word)
            return Outcome.CUT
        value = self._known(word)
        self._put(word if value is None else value)
        return Outcome.BROKEN if value is None else None

    def _known(self, word: str) -> str | None:
        if word in _PYTHON_CONSTANTS:
            if not self._style.bare:
                self.repairs["Python's names for constants"] = None
            return _PYTHON_CONSTANTS[word]
        return word if word in _CONSTANTS or is_number(word) else None

    def _bare_value(self) -> Steps[Outcome | None]:
        text, marker = yield from self._until(self._ends)
        if not text:
            return self._broken()
        if not marker and not self._scan.complete:
            self._put(text)
            return Outcome.CUT
        word = text.rstrip()
        value = self._known(word)
        if value is None and not (self._style.bare and self._style.bare.fullmatch(word)):
            self._put(text)
            return Outcome.BROKEN
        self._put(value or quoted(word))
        return None

    def _until(self, ends: Markers) -> Steps[tuple[str, str]]:
        text = ""
        while True:
            piece, marker = yield from self._scan.piece(ends, take_marker=False)
            text += piece
            if marker or not piece:
                return text, marker


def as_json(text: str, style: Style = JSON) -> str | None:
    """A whole text as one JSON value; None when it is not one."""
    scan = Scanner()
    scan.feed(text)
    scan.end(complete=True)
    copied: list[str] = []
    copy = ValueCopy(scan, copied.append, style=style)
    end = advance(copy.copy())
    if end != (Outcome.WHOLE,) or _MISSING_BRACKETS in copy.repairs:
        return None
    return None if scan.rest().strip() else "".join(copied).strip()
