"""Text with meaning instead of colours, and the lines that are made of it."""

import re
from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len

from mlxd.tui.format import fit
from mlxd.tui.terminal import Glyphs

Tone = Literal["plain", "title", "dim", "good", "warn", "bad", "accent", "prefill", "decode"]
TonedSpan = tuple[str, Tone]
Line = list[TonedSpan]


def length(line: Sequence[TonedSpan]) -> int:
    """Cells that a line takes."""
    return sum(cell_len(text) for text, _ in line)


def plain(line: Sequence[TonedSpan]) -> str:
    """The text alone."""
    return "".join(text for text, _ in line)


def cleaned(line: Sequence[TonedSpan], glyphs: Glyphs) -> Line:
    """The line without anything that a terminal would take for a command."""
    return [(glyphs.clean(text), tone) for text, tone in line]


def joined(groups: Sequence[Line], width: int, glyphs: Glyphs) -> Line:
    """The groups that fit into `width` with a separator between them; the earlier ones matter more.

    The first group is cut if even that is too long.
    """
    between: Line = [(f" {glyphs.separator} ", "dim")]
    line: Line = []
    for group in groups:
        extended = [*line, *between, *group] if line else group
        if length(extended) <= width:
            line = extended
    return line or cut(groups[0] if groups else [], width, glyphs)


def cut(line: Sequence[TonedSpan], width: int, glyphs: Glyphs) -> Line:
    """The line in at most `width` cells."""
    kept: Line = []
    left = width
    for text, tone in line:
        needed = cell_len(text)
        if needed > left:
            return [*kept, (fit(text, left, glyphs), tone)] if left > 0 else kept
        kept.append((text, tone))
        left -= needed
    return kept


def apart(left: Line, right: Line, width: int, glyphs: Glyphs) -> Line:
    """One line with `right` at its right end; `left` gives way."""
    left = cut(left, max(0, width - length(right) - 1), glyphs)
    return [*left, (" " * max(0, width - length(left) - length(right)), "plain"), *right]


def wrapped(line: Line, width: int, glyphs: Glyphs) -> list[Line]:
    """A line as several, broken between words; a word that is too long is cut."""
    lines: list[Line] = []
    current: Line = []
    for word, tone in _words(line):
        if current and length(current) + cell_len(word.rstrip()) > width:
            lines.append(current)
            current = []
        current.append((word if current else word.lstrip(), tone))
    return [cut(_trimmed(each), width, glyphs) for each in (*lines, current) if each]


def _trimmed(line: Line) -> Line:
    """Without the blanks at its end, which may not fit."""
    *before, (text, tone) = line
    return [*before, (text.rstrip(), tone)]


def _words(line: Line) -> Line:
    """Words with the blanks behind them, each with its tone."""
    return [(word, tone) for text, tone in line for word in re.findall(r"\s*\S+\s*|\s+", text)]
