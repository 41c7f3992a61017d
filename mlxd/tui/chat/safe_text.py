"""Text of models and people, made harmless for a terminal, and figures in words."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PICTURES = 0x2400
_DELETE = 0x7F
_DELETE_PICTURE = "\u2421"
_REPLACEMENT = "\ufffd"


def harmless(text: str) -> str:
    """`text` without anything that a terminal obeys.

    Control characters become their pictures (the escape character is ␛); carriage returns and what
    reorders text are left out; line feeds and tabs stay.
    """
    return _SURROGATE.sub(_REPLACEMENT, _CONTROL.sub(_picture, text.replace("\r", "")))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < ord(" "):
        return chr(_PICTURES + code)
    if code == _DELETE:
        return _DELETE_PICTURE
    return "" if code > 0xFF else _REPLACEMENT


def one_line(text: str, limit: int = 200) -> str:
    """`text` made harmless, on one line, cut at `limit` characters."""
    line = " ".join(harmless(text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def seconds(duration: float) -> str:
    """A duration in seconds as people say it: `0.4 s`, `12 s`, `3 min 5 s`."""
    if duration < 9.95:
        return f"{duration:.1f} s"
    if duration < 59.5:
        return f"{duration:.0f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest} s"


def rate(tokens_per_second: float) -> str:
    """A speed: `7.3 tok/s`, `134 tok/s`."""
    digits = 1 if tokens_per_second < 99.5 else 0
    return f"{tokens_per_second:.{digits}f} tok/s"


def count(number: int, noun: str) -> str:
    """`1 token`, `1,024 tokens`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
