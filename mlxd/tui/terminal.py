"""What the terminal can show: which characters, how many colours, on which background."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

COERCED = "C.UTF-8"
"""What Python sets LC_CTYPE to by itself when the locale is C."""
FEW = 16
MANY = 256
TRUE = 2**24


@dataclass(frozen=True)
class Glyphs:
    """Characters for drawing.

    `levels` goes from empty to full, within one cell; `phases` are queue, prefill and decode.
    """

    levels: str
    full: str
    empty: str
    rule: str
    up: str
    down: str
    cut: str
    separator: str
    cursor: str
    phases: str

    def clean(self, text: str) -> str:
        """`text` from elsewhere, fit for one line here: no control characters, no line ends."""
        if not text.isprintable():
            text = "".join(each if each.isprintable() else " " for each in text)
        if self.cut.isascii() and not text.isascii():
            return text.encode("ascii", "replace").decode("ascii")
        return text


UNICODE = Glyphs(" ▁▂▃▄▅▆▇█", "█", "░", "─", "▲", "▼", "…", "·", "❯", "░▒█")
ASCII = Glyphs(" .:#", "#", ".", "-", "^", "v", "~", "|", ">", ".=#")


@dataclass(frozen=True)
class Terminal:
    """`unicode` is whether characters beyond ASCII arrive; `light` whether the background is."""

    unicode: bool = True
    colors: int = TRUE
    light: bool = False

    @property
    def glyphs(self) -> Glyphs:
        """What to draw with."""
        return UNICODE if self.unicode else ASCII


def terminal_of(environment: Mapping[str, str]) -> Terminal:
    """What the environment variables say of the terminal."""
    return Terminal(
        unicode=_is_unicode(environment),
        colors=_colors(environment),
        # `COLORFGBG` is `foreground;background` in the numbers of the 16 colours.
        light=environment.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15"),
    )


def _is_unicode(environment: Mapping[str, str]) -> bool:
    wanted = environment.get("LC_ALL") or ""
    if not wanted:
        language = environment.get("LANG") or ""
        wanted = environment.get("LC_CTYPE") or language
        if wanted == COERCED and language in ("", "C", "POSIX"):
            return False
    return re.search(r"utf-?8", wanted, re.IGNORECASE) is not None


def _colors(environment: Mapping[str, str]) -> int:
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return TRUE
    term = environment.get("TERM", "")
    if re.search(r"direct|truecolor|kitty|ghostty|alacritty|wezterm", term):
        return TRUE
    return MANY if "256" in term else FEW
