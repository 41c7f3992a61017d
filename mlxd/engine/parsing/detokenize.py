"""One row's tokens to final text: whole characters only, cut before a stop string.

Stop strings are the caller's, who sees the answer: they match its visible text and never thinking.
Special tokens that are no part of how a model's answers are read have no text.
"""

import codecs
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import msgspec

from mlxd.engine.interface import Markup
from mlxd.engine.notations.reading.calls import Calls
from mlxd.engine.notations.reading.scanner import Scanner
from mlxd.engine.parsing.markers import Item, Span, Splitter
from mlxd.events import TokenLogprob

LONGEST = 4
"""Tokens, of a byte each, that one character may take."""


_NO_MARKUP = Markup()
_NOTHING: Mapping[int, str] = MappingProxyType({})


class Detokenizer(Protocol):
    """Makes text of one row's tokens."""

    def add(self, token: int) -> str:
        """Take the next token; the text that it makes readable."""

    def finish(self) -> str:
        """The rest; nothing follows."""


class StreamingDetokenizer(Protocol):
    """mlx-lm's: what we use of it."""

    def add_token(self, token: int) -> None: ...

    def finalize(self) -> None: ...

    @property
    def last_segment(self) -> str:
        """The text that became readable since this was read last."""


class Streamed:
    """mlx-lm's detokenizer as one of ours."""

    def __init__(self, inner: StreamingDetokenizer) -> None:
        self._inner = inner

    def add(self, token: int) -> str:
        self._inner.add_token(token)
        return self._inner.last_segment

    def finish(self) -> str:
        self._inner.finalize()
        return self._inner.last_segment


class TokenPiece(NamedTuple):
    """What a token stands for; `text` is None where its bytes are no whole characters."""

    text: str | None
    raw: bytes


class ByteDetokenizer:
    """Looks each token up, and decodes only where a character lies in several tokens.

    With `trim` a space in front of the text is dropped: the tokenizer puts one there.
    """

    def __init__(self, pieces: Mapping[int, TokenPiece], *, trim: bool) -> None:
        self._pieces = pieces
        self._at_begin = trim
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = False

    def add(self, token: int) -> str:
        text, raw = self._pieces[token]
        if text is None or self._pending:
            text = self._decoder.decode(raw)
            self._pending = bool(self._decoder.getstate()[0])
        if self._at_begin and text:
            self._at_begin = False
            return text.removeprefix(" ")
        return text

    def finish(self) -> str:
        self._pending = False
        return self._decoder.decode(b"", final=True)


def going_on(make: Callable[[], Detokenizer], before: Sequence[int]) -> Detokenizer:
    """A detokenizer behind the tokens `before`, whose text is not read again.

    A fresh one drops a space in front of an answer; one that goes on with a text needs it. mlx-lm's
    also keep a space back at the end, which must not come twice. A character has `LONGEST` tokens
    at most, so no more are needed.
    """
    behind, segment = make(), ""
    for token in before[-LONGEST:]:
        segment = behind.add(token)
    return behind if segment else make()


class StopStrings:
    """Finds the first of some strings in a growing text, holding back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self._leading = False

    def restart(self) -> str:
        """What was held back; what comes next is behind thinking.

        The white space there separates the two and is not shown, so no stop string is in it alone:
        `"\\n\\n"` would end every answer of most models before its first word.
        """
        self._leading = True
        return self.flush()

    def feed(self, text: str) -> tuple[str, str | None]:
        """(text that is final, the stop string that was found); nothing follows a find."""
        if not self._stops:
            return text, None
        self._held += text
        lead = len(self._held) - len(self._held.lstrip()) if self._leading else 0
        found = [
            (at, stop)
            for stop in self._stops
            if (at := self._held.find(stop, 0 if stop.strip() else lead)) >= 0
        ]
        if found:
            at, stop = min(found)
            final, self._held = self._held[:at], ""
            return final, stop
        keep = self._partial()
        final, self._held = self._held[: len(self._held) - keep], self._held[-keep:] if keep else ""
        self._leading = self._leading and not final.strip()
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


class AnswerStops:
    """Finds stop strings in the visible text of an answer; thinking and headers are let through.

    A call is visible text here, as it is written.
    """

    def __init__(self, stops: Sequence[str], markup: Markup, *, opens_reasoning: bool) -> None:
        self._stops = StopStrings(stops)
        scan = Scanner()
        self._splitter = Splitter(markup, scan, Calls((), scan), opens_reasoning=opens_reasoning)
        self._headers = self._splitter.has_headers
        if opens_reasoning:
            self._stops.restart()

    def feed(self, text: str) -> tuple[str, str | None]:
        """See `StopStrings.feed`."""
        return self._take(self._splitter.feed(text))

    def finish(self) -> tuple[str, str | None]:
        """The rest, and the stop string in it."""
        text, stop = self._take(self._splitter.finish(complete=True))
        return (text, stop) if stop else (text + self._stops.flush(), None)

    def _take(self, items: Iterable[Item]) -> tuple[str, str | None]:
        final = ""
        for item in items:
            if not isinstance(item, Span):
                continue
            if item.channel == "text" or (item.channel == "markup" and not self._headers):
                text, stop = self._stops.feed(item.text)
                final += text
                if stop:
                    return final, stop
            else:
                final += self._stops.restart() + item.text
        return final, None


class FinalText(msgspec.Struct, frozen=True):
    """Final text, the logprobs of the tokens it completes, and the stop string that ended it."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    stop: str | None = None


NO_TEXT = FinalText("")


class RowText:
    """The text side of one row; the tokens `dropped` have no text but for a stop that names it."""

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: Sequence[str],
        *,
        markup: Markup = _NO_MARKUP,
        opens_reasoning: bool = False,
        dropped: Mapping[int, str] = _NOTHING,
    ) -> None:
        self._detokenizer = detokenizer
        stops = [stop for stop in stops if stop]
        self._stops = AnswerStops(stops, markup, opens_reasoning=opens_reasoning) if stops else None
        self._dropped = dropped
        self._named = {
            token for token, text in dropped.items() if any(text in stop for stop in stops)
        }
        self._hidden: deque[tuple[int, int]] = deque()
        """Where text of dropped tokens lies that is not let out."""
        self._seen = 0
        self._emitted = 0
        self._unread: list[TokenLogprob] = []
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()

    def add(self, token: int, logprob: TokenLogprob | None) -> FinalText:
        """Take the next token of the answer (not the end token)."""
        if (special := self._dropped.get(token)) is not None:
            if token not in self._named:
                return NO_TEXT
            self._hidden.append((self._seen, self._seen + len(special)))
            return self._read(special)
        text = self._detokenizer.add(token)
        if logprob is not None:
            self._unread.append(logprob)
        elif self._stops is None:
            # Of most rows: nothing is held back, and nothing waits for its text.
            return FinalText(text) if text else NO_TEXT
        return self._read(text)

    def finish(self) -> FinalText:
        """The answer is over: everything that was held back."""
        piece = self._read(self._detokenizer.finish())
        if piece.stop is not None:
            return piece
        rest, stop = self._stops.finish() if self._stops else ("", None)
        shown, logprobs = self._release(rest, everything=stop is None)
        return FinalText(piece.text + shown, piece.logprobs + logprobs, stop)

    def _read(self, segment: str) -> FinalText:
        if segment:
            self._seen += len(segment)
            self._waiting.extend((self._seen, entry) for entry in self._unread)
            self._unread.clear()
        text, stop = self._stops.feed(segment) if self._stops else (segment, None)
        return FinalText(*self._release(text), stop)

    def _release(
        self, text: str, *, everything: bool = False
    ) -> tuple[str, tuple[TokenLogprob, ...]]:
        """What is shown of `text`, which is final, and the logprobs of its tokens."""
        begin, self._emitted = self._emitted, self._emitted + len(text)
        while self._hidden and self._hidden[0][0] < self._emitted:
            start, end = self._hidden.popleft()
            if end > self._emitted:
                self._hidden.appendleft((self._emitted, end))
                end = self._emitted
            text = text[: start - begin] + text[end - begin :]
            begin += end - start
        released = []
        while self._waiting and (everything or self._waiting[0][0] <= self._emitted):
            released.append(self._waiting.popleft()[1])
        if everything:
            released += self._unread
            self._unread = []
        return text, tuple(released)
