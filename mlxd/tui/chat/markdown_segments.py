"""Long Markdown in segments: only the last one grows, so that the others need no new layout."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LIMIT = 4000
"""Characters after which a segment ends where it can."""
_FENCE = re.compile(r"(`{3,}|~{3,})([^`\n]*)\n?")


@dataclass(frozen=True)
class MarkdownPiece:
    """Text to add to the last segment, or to a new one.

    `inside` is whether a new segment goes on with the code block of the one before, which `closing`
    ends.
    """

    text: str
    new: bool = False
    inside: bool = False
    closing: str = ""


class MarkdownSplitter:
    """Cuts growing Markdown between blocks, and code blocks between lines."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._line = ""
        self._blank = False
        self._opening = ""
        self._mark = ""

    def feed(self, text: str) -> Iterator[MarkdownPiece]:
        """What `text`, which follows all text before, adds to which segment."""
        gathered = ""
        for part in re.findall(r"[^\n]*\n|[^\n]+", text):
            if not self._line and self._size > self._limit and self._cuts_before(part):
                if gathered:
                    yield MarkdownPiece(gathered)
                self._size, gathered = 0, ""
                closing = f"{self._mark}\n" if self._mark else ""
                inside = bool(self._mark)
                yield MarkdownPiece(self._opening, new=True, inside=inside, closing=closing)
            gathered += part
            self._take(part)
        if gathered:
            yield MarkdownPiece(gathered)

    def _cuts_before(self, line: str) -> bool:
        if self._mark:
            # The line may be the one that closes the block.
            return not line.lstrip(" ").startswith(self._mark[0])
        # What is indented belongs to a list that may have begun long ago.
        return self._blank and not line[0].isspace()

    def _take(self, part: str) -> None:
        self._size += len(part)
        self._line += part
        if not self._line.endswith("\n"):
            return
        line, self._line = self._line, ""
        self._blank = not line.strip()
        if self._mark:
            if line.strip(" \n").startswith(self._mark) and not line.strip(f"{self._mark[0]} \n"):
                self._mark = self._opening = ""
        elif found := _FENCE.fullmatch(line):
            self._mark, self._opening = found[1], line
