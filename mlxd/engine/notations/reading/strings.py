"""Strings of a value, copied as strict JSON while they arrive.

A string whose end got lost would take the next call in. Two things tell: behind the bracket that
opens the next call of a row comes a quote and the call's name, or what comes behind a fence, where
the next call seems to begin, is no whole value.
"""

import json
import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Literal, NamedTuple

from mlxd.engine.notations.reading.scanner import SPACE, Scanner, Steps, markers_of

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


# In single quotes a double one is plain to Python, and has to be escaped for JSON.
_PLAIN = {
    '"': re.compile(r'[^"\\\x00-\x1f]*'),
    "'": re.compile(r"[^'\"\\\x00-\x1f]*"),
}
_HEX = frozenset("0123456789abcdefABCDEF")
_PYTHON_ESCAPES = {"a": "\\u0007", "v": "\\u000b", "\n": "", "/": "\\\\/"}
_PYTHON_CODES = {"x": 2, "U": 8}
"""Python's escapes of characters by number that JSON does not have, with how many digits follow."""
_OPENED = re.compile(r"\}[ \t\r\n,;\]]*(\{ *)\Z")
"""The end of a text in which a value ended and an object begins."""
_TAIL = 32
_LONGEST_HEAD = 512
_CONTROLS = "control characters in a string"


def quoted(text: str) -> str:
    """`text` as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def escaped(text: str) -> str:
    """`text` as it stands inside a JSON string."""
    return quoted(text)[1:-1]


class Output:
    """Where a value is copied to; what comes from behind a fence waits."""

    def __init__(self, scan: Scanner, emit: Emit) -> None:
        self._scan = scan
        self._emit = emit
        self._beyond: list[str] | None = None
        self.crosses = False
        """A string may go on behind a fence."""
        self.followed = False
        """What is copied is broken, and the next call of its row comes next."""

    def put(self, text: str) -> None:
        """Copy `text`."""
        if self._beyond is None:
            self._emit(text)
        else:
            self._beyond.append(text)

    def cross(self) -> bool:
        """Let the text go on behind a fence that it has reached; false where there is none."""
        if not (self.crosses and self._scan.at_fence):
            return False
        self._beyond = []
        self._scan.unfence()
        self._scan.record()
        return True

    def settled(self, outcome: Outcome) -> Outcome:
        """How copying ended: before the fence, where what came behind it is put back."""
        if self._beyond is None:
            return outcome
        text = self._scan.recorded()
        if outcome is Outcome.BROKEN or (outcome is Outcome.CUT and self._scan.complete):
            self._scan.back(text)
            self.followed = False
            return Outcome.BROKEN
        self._emit("".join(self._beyond))
        return outcome


class StringCopy:
    """Copies strings; `next_call` says whether a text begins the next call of a row."""

    def __init__(
        self,
        scan: Scanner,
        out: Output,
        repairs: dict[str, None],
        *,
        next_call: Callable[[str], bool] | None,
    ) -> None:
        self._scan = scan
        self._out = out
        self._emit = out.put
        self._repairs = repairs
        self._next_call = next_call
        self._tail = ""
        """The end of what was taken, as far as it tells where a call ends."""
        self._bracket = ""
        """What waits: it opens the next call, or stands in the string."""

    def copy(self, quote: Quote, *, python: bool) -> Steps[Outcome | None]:
        """Copy a string whose quote was taken; None where it is whole."""
        if quote.escapes == "none":
            return None if (yield from self._literal_string(quote.text)) else Outcome.CUT
        scan, plain = self._scan, _PLAIN[quote.text]
        python = python or quote.escapes == "python"
        self._tail = ""
        while True:
            if text := scan.take_run(plain):
                self._plain(text)
            char = scan.char
            if not char:
                if not (yield from scan.wait()):
                    self._release()
                    if not self._out.cross():
                        return Outcome.CUT
                continue
            if char == quote.text:
                if self._bracket and (yield from self._ends_before_call()):
                    return Outcome.BROKEN
                self._release()
                scan.take(1)
                self._emit('"')
                return None
            if char in SPACE and self._bracket:
                self._bracket += scan.take(1)
                continue
            self._release()
            if char == "\\":
                self._tail = ""
                yield from self._escape(python=python)
            else:
                self._tail = (self._tail + char)[-_TAIL:]
                self._control(scan.take(1))

    def _plain(self, text: str) -> None:
        """Emit text but for a bracket at its end that may open the next call."""
        if self._bracket and not text.strip():
            self._bracket += text
            return
        self._release()
        if self._next_call is not None:
            self._tail = (self._tail + text)[-_TAIL:]
            if opened := _OPENED.search(self._tail):
                self._bracket = opened[1]
                text = text[: len(text) - len(self._bracket)]
        self._emit(text)

    def _release(self) -> None:
        """Emit the bracket that waits as a part of the string."""
        if self._bracket.strip("{ "):
            self._repairs[_CONTROLS] = None
        bracket, self._bracket = self._bracket, ""
        self._emit(escaped(bracket))

    def _ends_before_call(self) -> Steps[bool]:
        """Whether the next call of a row begins with the bracket that waits, which is put back."""
        head = self._bracket + (yield from self._scan.wait_for(_LONGEST_HEAD))
        found = self._next_call is not None and self._next_call(head)
        if found:
            self._scan.back(self._bracket)
            self._bracket = ""
        self._out.followed = found
        return found

    def _control(self, char: str) -> None:
        if char != '"':
            self._repairs[_CONTROLS] = None
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
            self._repairs["unknown escapes in a string"] = None
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
