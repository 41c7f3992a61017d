"""One value of JSON, or of a notation like it, copied as strict JSON while it arrives.

What is valid JSON is copied as it was written. What is not is repaired where only one reading is
possible: control characters and unknown escapes in strings, a comma before a closing bracket,
Python's quotes, tuples and names for constants, and closing brackets that are missing after a whole
value.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal, NamedTuple

from mlxd.engine.notations.reading.scanner import (
    NONE,
    SPACE,
    Markers,
    Scanner,
    Steps,
    advance,
    markers_of,
)

Emit = Callable[[str], None]


class Outcome(Enum):
    """How reading a value ended."""

    WHOLE = auto()
    BROKEN = auto()
    """What comes next can't belong to it; all before was copied."""
    CUT = auto()
    """The text ended in the middle; all there was is copied."""


class Quote(NamedTuple):
    """What ends a string, and what a backslash means in it."""

    text: str
    escapes: Literal["json", "python", "none"] = "json"


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
# In single quotes a double one is plain to Python, and has to be escaped for JSON.
_PLAIN = {
    '"': re.compile(r'[^"\\\x00-\x1f]*'),
    "'": re.compile(r"[^'\"\\\x00-\x1f]*"),
}
_HEX = frozenset("0123456789abcdefABCDEF")
_CONSTANTS = {"true": "true", "false": "false", "null": "null"}
_PYTHON_CONSTANTS = {"True": "true", "False": "false", "None": "null"}
_AS_JSON = {"(": "[", ")": "]"}
_PYTHON_ESCAPES = {"a": "\\u0007", "v": "\\u000b", "\n": "", "/": "\\\\/"}
_PYTHON_CODES = {"x": 2, "U": 8}
"""Python's escapes of characters by number that JSON does not have, with how many digits follow."""
_MISSING_BRACKETS = "missing closing brackets"

Want = Literal["value", "first", "next", "more", "colon"]


def quoted(text: str) -> str:
    """`text` as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def escaped(text: str) -> str:
    """`text` as it stands inside a JSON string."""
    return quoted(text)[1:-1]


def is_number(text: str) -> bool:
    """Whether `text` is a JSON number."""
    return _NUMBER.fullmatch(text) is not None


class ValueCopy:
    """Copies one value from a scanner to `emit`; `stops` are the markers that can follow it.

    `python` says that it stands in a dictionary of Python. A single quote says so too, and from
    there on double ones have Python's escapes as well: it chooses by what is in a string.
    """

    def __init__(
        self,
        scan: Scanner,
        emit: Emit,
        *,
        style: Style = TOLERANT,
        stops: Markers = NONE,
        python: bool = False,
    ) -> None:
        self._scan = scan
        self._emit = emit
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

    def copy(self) -> Steps[Outcome]:
        """Copy the value; nothing after it is taken."""
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
            whole = yield from self._string(quote)
            self._want = "colon"
            return None if whole else Outcome.CUT
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
            return None if (yield from self._string(quote)) else Outcome.CUT
        if self._style.bare:
            return (yield from self._bare_value())
        return (yield from self._constant())

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

    def _string(self, quote: Quote) -> Steps[bool]:
        """Copy a string whose quote was taken; false when the text ends in it."""
        self._put('"')
        if quote.escapes == "none":
            return (yield from self._literal_string(quote.text))
        scan, plain = self._scan, _PLAIN[quote.text]
        python = self._python or quote.escapes == "python"
        while True:
            if text := scan.take_run(plain):
                self._emit(text)
            char = scan.char
            if not char:
                if not (yield from scan.wait()):
                    return False
                continue
            if char == quote.text:
                scan.take(1)
                self._emit('"')
                return True
            if char == "\\":
                yield from self._escape(python=python)
            else:
                self._control(scan.take(1))

    def _control(self, char: str) -> None:
        if char != '"':
            self.repairs["control characters in a string"] = None
        self._emit(escaped(char))

    def _literal_string(self, end: str) -> Steps[bool]:
        marker = markers_of(end)
        while True:
            text, found = yield from self._scan.piece(marker)
            self._emit(escaped(text))
            if found:
                self._emit('"')
                return True
            if not text:
                return False

    def _escape(self, *, python: bool) -> Steps[None]:
        """Copy a backslash and what belongs to it as a JSON escape."""
        scan = self._scan
        kind = (yield from scan.wait_for(2))[1:]
        if kind == "u":
            code = (yield from scan.wait_for(6))[2:]
            if len(code) == 4 and _HEX.issuperset(code):
                self._emit(scan.take(6))
                return
        if not kind or (kind in '"\\/bfnrt' and not (python and kind == "/")):
            self._emit(scan.take(2))
        elif kind == "'":
            self._emit(kind)
            scan.take(2)
        elif python and kind in _PYTHON_ESCAPES:
            self._emit(_PYTHON_ESCAPES[kind])
            scan.take(2)
        elif python and kind in _PYTHON_CODES:
            yield from self._code_escape(_PYTHON_CODES[kind])
        else:
            self.repairs["unknown escapes in a string"] = None
            self._emit("\\\\")
            scan.take(1)

    def _code_escape(self, digits: int) -> Steps[None]:
        code = (yield from self._scan.wait_for(2 + digits))[2:]
        if len(code) == digits and _HEX.issuperset(code) and int(code, 16) < 0x110000:
            wide = int(code, 16) > 0xFFFF
            self._emit(json.dumps(chr(int(code, 16)))[1:-1] if wide else "\\u" + code[-4:].zfill(4))
            self._scan.take(2 + digits)
        else:
            self._emit("\\\\")
            self._scan.take(1)


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
