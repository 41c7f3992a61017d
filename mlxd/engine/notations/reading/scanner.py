"""Reading text that arrives in pieces as if all of it were there.

A reader is a generator that takes text from a `Scanner` and yields when it needs more. What it does
depends on the text alone, never on where the text was cut: a method either decides from characters
that are there, or waits for them. Every character is taken once, so reading is linear in the text.
"""

import re
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A reader: yields when it needs more text, returns its result."""

SPACE = " \t\r\n"

_SPACES = re.compile(r"[ \t\r\n]*")


class Markers:
    """Literal texts to look for; of several at one place the longest counts.

    They come from a model's notation, never from its text; `markers_of` makes them.
    """

    def __init__(self, *texts: str) -> None:
        self.texts = tuple(sorted({text for text in texts if text}, key=len, reverse=True))
        self.longest = len(self.texts[0]) if self.texts else 0
        self.firsts = "".join({text[0] for text in self.texts})

    def might_be_in(self, text: str) -> bool:
        """False when no marker begins anywhere in `text`, not even in part."""
        return any(first in text for first in self.firsts)

    def begin_with(self, text: str) -> bool:
        """Whether `text` is the beginning of a marker and more text could complete it."""
        return any(len(text) < len(each) and each.startswith(text) for each in self.texts)


@lru_cache(maxsize=512)
def markers_of(*texts: str) -> Markers:
    """The markers `texts`, made once; an empty text is none."""
    return Markers(*texts)


NONE = markers_of()


def partial_marker(text: str, markers: Markers, begin: int = 0) -> int:
    """Where a marker begins whose end is not there yet; the text's end if nowhere."""
    size = len(text)
    for at in range(max(begin, size - markers.longest + 1), size):
        if text[at] in markers.firsts and markers.begin_with(text[at:]):
            return at
    return size


class _Fence:
    """A place that text is not let past; `ends` is how the text ended, None while it goes on."""

    def __init__(self, markers: Markers, ends: bool | None) -> None:
        self._markers = markers
        self._beyond = ""
        self.reached = False
        self.ends = ends

    def feed(self, text: str) -> str:
        """What of all text so far lies before the fence and was not let through yet."""
        self._beyond += text
        if self.reached:
            return ""
        places = [at for each in self._markers.texts if (at := self._beyond.find(each)) >= 0]
        self.reached = bool(places)
        at = min(places, default=partial_marker(self._beyond, self._markers))
        return self.open(at)

    def open(self, size: int | None = None) -> str:
        """The next `size` characters, or all, let through."""
        text = self._beyond if size is None else self._beyond[:size]
        self._beyond = self._beyond[len(text) :]
        return text


class Scanner:
    """A text that grows at its end and is taken from its front."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._base = 0
        # Where each marker comes next: a text of many other markers would else be searched once
        # for each of them, and hostile text would cost the square of its length.
        self._next: dict[str, int] = {}
        self._marked: list[str] | None = None
        self._recorded: list[str] | None = None
        self._fence: _Fence | None = None
        self.ended = False
        """No more text will come."""
        self.complete = False
        """The text ended because its writer was done, not because it was cut off."""

    @property
    def offset(self) -> int:
        """How many characters were taken."""
        return self._base + self._at

    @property
    def was_cut(self) -> bool:
        """The text ended, and not because its writer was done."""
        return self.ended and not self.complete

    @property
    def char(self) -> str:
        """The next character; empty when it is not there yet, or never will be."""
        return self._text[self._at : self._at + 1]

    def feed(self, text: str) -> None:
        """More text has arrived."""
        if self._fence is not None:
            text = self._fence.feed(text)
            self.ended = self.ended or self._fence.reached
        self._base += self._at
        self._text = self._text[self._at :] + text
        self._at = 0
        self._next.clear()

    def end(self, *, complete: bool) -> None:
        """No more text will come; `complete` says that its writer was done."""
        if self._fence is not None:
            self._fence.ends = complete
            if self._fence.reached:
                return
            self._text += self._fence.open()
        self.ended, self.complete = True, complete

    @property
    def at_fence(self) -> bool | None:
        """Whether the text goes on behind a fence; None where there is no fence."""
        return None if self._fence is None else self._fence.reached

    def fence(self, markers: Markers) -> None:
        """Let the text end, as if its writer was done, before the next of `markers`."""
        self._fence = _Fence(markers, self.complete if self.ended else None)
        text, self._text = self._text[self._at :], self._text[: self._at]
        self.ended, self.complete = False, True
        self.feed(text)
        if self._fence.ends is not None and not self._fence.reached:
            self.end(complete=self._fence.ends)

    def unfence(self) -> None:
        """Let the text go on behind the fence."""
        assert self._fence is not None, "there is a fence"
        fence, self._fence = self._fence, None
        self.ended, self.complete = fence.ends is not None, bool(fence.ends)
        self.feed(fence.open())

    def record(self) -> None:
        """Note what is taken from here on, whatever becomes of it."""
        self._recorded = []

    def recorded(self) -> str:
        """What was taken since the record began, which ends here."""
        text = "".join(self._recorded or ())
        self._recorded = None
        return text

    def mark(self, text: str = "") -> None:
        """Keep what is taken from here on, after `text` that was taken already."""
        self._marked = [text]

    def since_mark(self) -> str:
        """What was taken since the mark, which is gone now."""
        text = "".join(self._marked or ())
        self._marked = None
        return text

    def forget(self) -> None:
        """Keep nothing any more."""
        self._marked = None

    def ahead(self, count: int) -> str:
        """Up to `count` of the next characters, without taking them."""
        return self._text[self._at : self._at + count]

    def take(self, count: int) -> str:
        """Take `count` characters that are there."""
        taken = self._text[self._at : self._at + count]
        self._at += len(taken)
        if self._marked is not None:
            self._marked.append(taken)
        if self._recorded is not None:
            self._recorded.append(taken)
        return taken

    def back(self, text: str) -> None:
        """Put back `text`, which was taken last."""
        for taken in (self._marked, self._recorded):
            if taken is not None:
                whole = "".join(taken)
                taken[:] = [whole[: len(whole) - len(text)]]
        before = self._at
        self._at -= len(text)
        if self._at < 0:
            self._base += self._at
            self._text = text + self._text[before:]
            self._at = 0
            self._next.clear()
            return
        # Only what comes back is searched: the text behind it may be long.
        for marker, at in self._next.items():
            found = self._text.find(marker, self._at, before + len(marker) - 1)
            self._next[marker] = at if found < 0 else found

    def rest(self) -> str:
        """Take all that is there."""
        return self.take(len(self._text))

    def take_run(self, pattern: re.Pattern[str]) -> str:
        """Take what `pattern`, a repeated class of characters, matches of what is there."""
        found = pattern.match(self._text, self._at)
        return self.take(found.end() - self._at) if found else ""

    def wait(self) -> Steps[str]:
        """The next character, empty at the end of the text."""
        while self._at == len(self._text) and not self.ended:
            yield
        return self.char

    def wait_for(self, count: int) -> Steps[str]:
        """The next `count` characters, fewer at the end of the text."""
        while len(self._text) - self._at < count and not self.ended:
            yield
        return self.ahead(count)

    def run(self, pattern: re.Pattern[str]) -> Steps[str]:
        """Take all that `pattern`, a repeated class of characters, matches."""
        text = ""
        while True:
            text += self.take_run(pattern)
            if self.char or self.ended:
                return text
            yield

    def space(self) -> Steps[str]:
        """Take white space."""
        return (yield from self.run(_SPACES))

    def starts(self, literal: str) -> Steps[bool]:
        """Whether `literal` comes next."""
        while True:
            here = self.ahead(len(literal))
            if here == literal:
                return True
            if self.ended or not literal.startswith(here):
                return False
            yield

    def accept(self, literal: str) -> Steps[bool]:
        """Take `literal` if it comes next."""
        found = yield from self.starts(literal)
        if found:
            self.take(len(literal))
        return found

    def accept_any(self, markers: Markers) -> Steps[str]:
        """Take the marker that comes next; empty if none does."""
        for text in markers.texts:
            if (yield from self.accept(text)):
                return text
        return ""

    def at_any(self, markers: Markers) -> Steps[bool]:
        """Whether a marker comes next."""
        for text in markers.texts:
            if (yield from self.starts(text)):
                return True
        return False

    def upto(self, literal: str, limit: int) -> Steps[str | None]:
        """Take up to and with `literal`; returns what comes before it.

        None, with nothing taken, when it is not found within `limit` characters.
        """
        while True:
            window = self.ahead(limit + len(literal))
            size = window.find(literal)
            if size >= 0:
                return self.take(size + len(literal))[:size]
            if self.ended or len(window) == limit + len(literal):
                return None
            yield

    def head(self, end: str, limit: int) -> Steps[str | None]:
        """Take the rest of a tag, up to and with `end`; returns what comes before that.

        None, with nothing taken, when another tag begins first or `limit` characters hold no end.
        """
        while True:
            window = self.ahead(limit + len(end))
            size = window.find(end)
            if size >= 0 and "<" not in window[:size]:
                return self.take(size + len(end))[:size]
            other = window.find("<")
            other = -1 if end.startswith(window[other:]) else other
            if self.ended or size >= 0 or other >= 0 or len(window) == limit + len(end):
                return None
            yield

    def piece(self, markers: Markers, *, take_marker: bool = True) -> Steps[tuple[str, str]]:
        """Take text up to the first marker, as much as is certain; returns (text, marker).

        Without a marker more text may follow; both are empty at the end of the text. With
        `take_marker` false the marker itself stays.
        """
        while True:
            limit, marker = self._first(markers)
            if marker:
                text = self.take(limit - self._at)
                if take_marker:
                    self.take(len(marker))
                return text, marker
            if limit > self._at or self.ended:
                return self.take(limit - self._at), ""
            yield

    def pour(
        self, markers: Markers, emit: Callable[[str], None], *, take_marker: bool = True
    ) -> Steps[str]:
        """Take all text up to the first marker as `piece` does; returns the marker."""
        while True:
            text, marker = yield from self.piece(markers, take_marker=take_marker)
            emit(text)
            if marker or not text:
                return marker

    def _first(self, markers: Markers) -> tuple[int, str]:
        """(where certain text ends, the marker there if there is a whole one)."""
        size = len(self._text)
        # Most pieces hold no marker at all; this is every token of every answer.
        if self._at == size or (self._at == 0 and not markers.might_be_in(self._text)):
            return size, ""
        found, where = "", size
        for text in markers.texts:
            at = self._find(text)
            if 0 <= at < where:
                found, where = text, at
        partial = size if self.ended else partial_marker(self._text, markers, self._at)
        return (partial, "") if partial <= where else (where, found)

    def _find(self, marker: str) -> int:
        """Where `marker` is, -1 if nowhere; a text is searched once for each marker."""
        at = self._next.get(marker, 0)
        if 0 <= at < self._at or marker not in self._next:
            at = self._text.find(marker, self._at)
            self._next[marker] = at
        return at


def advance(steps: Steps[T]) -> tuple[T] | None:
    """Let a reader go on with the text there is; its result when it is done."""
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return (result,)
    return None
