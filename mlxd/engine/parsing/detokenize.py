"""One row's tokens to final text: whole characters only, cut before a stop string."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlxd.events import TokenLogprob

LONGEST = 4
"""Tokens, of a byte each, that one character may take."""


class Detokenizer(Protocol):
    """mlx-lm's streaming detokenizer: what we use of it."""

    def add_token(self, token: int) -> None: ...

    def finalize(self) -> None: ...

    @property
    def last_segment(self) -> str:
        """The text that became readable since this was read last."""


def going_on(make: Callable[[], Detokenizer], before: Sequence[int]) -> Detokenizer:
    """A detokenizer behind the tokens `before`, whose text is not read again.

    mlx-lm's drop a space in front of an answer; one that goes on with a text needs it. They also
    keep a space back at the end, which must not come twice. A character has `LONGEST` tokens at
    most, so no more are needed.
    """
    behind, segment = make(), ""
    for token in before[-LONGEST:]:
        behind.add_token(token)
        segment = behind.last_segment
    return behind if segment else make()


class StopStrings:
    """Finds the first of some strings in a growing text, holding back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """(text that is final, the stop string that was found); nothing follows a find."""
        if not self._stops:
            return text, None
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, stop = min(found)
            final, self._held = self._held[:at], ""
            return final, stop
        keep = self._partial()
        final, self._held = self._held[: len(self._held) - keep], self._held[-keep:] if keep else ""
        return final, None

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        final, self._held = self._held, ""
        return final

    def _partial(self) -> int:
        """How much of the end of the held text begins a stop string."""
        for size in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0


@dataclass(frozen=True)
class FinalText:
    """Final text, the logprobs of the tokens it completes, and the stop string that ended it."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    stop: str | None = None


class RowText:
    """The text side of one row."""

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stops = StopStrings(stops)
        self._seen = 0
        self._emitted = 0
        self._unread: list[TokenLogprob] = []
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()

    def add(self, token: int, logprob: TokenLogprob | None) -> FinalText:
        """Take the next token of the answer (not the end token)."""
        self._detokenizer.add_token(token)
        if logprob is not None:
            self._unread.append(logprob)
        return self._read()

    def finish(self) -> FinalText:
        """The answer is over: everything that was held back."""
        self._detokenizer.finalize()
        piece = self._read()
        if piece.stop is not None:
            return piece
        rest = self._stops.flush()
        return FinalText(
            piece.text + rest, piece.logprobs + self._release(len(rest), everything=True)
        )

    def _read(self) -> FinalText:
        segment = self._detokenizer.last_segment
        if segment:
            self._seen += len(segment)
            self._waiting.extend((self._seen, entry) for entry in self._unread)
            self._unread.clear()
        text, stop = self._stops.feed(segment)
        return FinalText(text, self._release(len(text)), stop)

    def _release(self, length: int, *, everything: bool = False) -> tuple[TokenLogprob, ...]:
        self._emitted += length
        released = []
        while self._waiting and (everything or self._waiting[0][0] <= self._emitted):
            released.append(self._waiting.popleft()[1])
        if everything:
            released += self._unread
            self._unread = []
        return tuple(released)
