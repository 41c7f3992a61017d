"""A JSON object that is itself written as a JSON string."""

import re

from mlxd.engine.notations.reading.scanner import Scanner, Steps, advance
from mlxd.engine.notations.reading.strings import Emit, Outcome
from mlxd.engine.notations.reading.values import ValueCopy

_PLAIN = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def copy_quoted(scan: Scanner, emit: Emit) -> Steps[tuple[Outcome, bool]]:
    """Copy what the string that comes next holds; (how it ended, whether it is an object).

    An empty string is an empty object.
    """
    quote = scan.take(1)
    # What stands in the quotes is JSON itself, repaired as any other; it gets a scanner of its own.
    inner = Scanner()
    steps = ValueCopy(inner, emit).copy()
    blank = plain = True
    outcome: Outcome | None = None
    while (text := (yield from _piece(scan, quote))) is not None:
        if not text:
            return Outcome.CUT, True
        if blank and text.strip():
            blank, plain = False, text.lstrip().startswith("{")
        if plain and outcome is None:
            inner.feed(text)
            text = ""
            if done := advance(steps):
                (outcome,) = done
                text = inner.rest()
        plain = plain and outcome is not Outcome.BROKEN and not text.strip()
        emit("" if plain else text)
    if blank:
        emit("{}")
    elif plain and outcome is None:
        inner.end(complete=True)
        plain = advance(steps) == (Outcome.WHOLE,)
    return Outcome.WHOLE, plain


def _piece(scan: Scanner, quote: str) -> Steps[str | None]:
    """The next decoded characters of a string; None behind its end, empty where the text ends."""
    if plain := scan.take_run(_PLAIN[quote]):
        return plain
    char = scan.char or (yield from scan.wait())
    if char == quote:
        scan.take(1)
        return None
    if char != "\\":
        return scan.take_run(_PLAIN[quote])
    kind = (yield from scan.wait_for(2))[1:]
    if kind == "u":
        return (yield from _unicode(scan))
    scan.take(2)
    return _SHORT.get(kind, kind)


def _unicode(scan: Scanner) -> Steps[str]:
    """A `\\u` escape, or two that are one character; half a pair becomes U+FFFD."""
    code = _code((yield from scan.wait_for(6)))
    if code is None:
        return scan.take(2)
    scan.take(6)
    if not 0xD800 <= code < 0xE000:
        return chr(code)
    low = _code((yield from scan.wait_for(6)))
    if code >= 0xDC00 or low is None or not 0xDC00 <= low < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"
    scan.take(6)
    return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))


def _code(escape: str) -> int | None:
    digits = escape[2:]
    if escape[:2] != "\\u" or len(digits) != 4 or not all(d in _DIGITS for d in digits):
        return None
    return int(digits, 16)


_DIGITS = "0123456789abcdefABCDEF"
