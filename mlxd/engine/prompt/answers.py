"""What was said in answers, for the turns that go on from them.

The main thread adds, the preparing thread looks up.
"""

import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, Protocol, Self

import msgspec

MEMORY = 64 * 2**20
"""Bytes that remembered answers may take, with the prompts that they belong to."""
ALIKE = 8
"""Answers to one prompt that are remembered: a request may want several."""
OVERHEAD = 500
"""Bytes of an answer besides its tokens, about."""


class RememberedAnswer(NamedTuple):
    """What one row read and wrote: `tokens` are its prompt and, from `begins` on, its answer.

    `before` is what `Prompt.before` was, `boundaries` are those of the prompt.
    """

    before: bytes
    tokens: "array[int]"
    begins: int
    boundaries: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        return len(self.tokens) * self.tokens.itemsize + OVERHEAD

    @classmethod
    def noted(cls, note: bytes, tokens: bytes = b"") -> Self:
        """The answer that a file holds: see `note_of`."""
        before, begins, boundaries = _NOTE.decode(note)
        return cls(before, array("I", tokens), begins, boundaries)


_NOTE = msgspec.msgpack.Decoder(tuple[bytes, int, tuple[int, ...]])


def note_of(before: bytes, begins: int, boundaries: tuple[int, ...]) -> bytes:
    """All of an answer but its tokens, which stand beside it on the disk."""
    return msgspec.msgpack.encode((before, begins, boundaries))


class StoredAnswers(Protocol):
    """Answers that outlive the process."""

    def knows(self, scope: str) -> bool:
        """Whether there may be any of a scope."""

    def after(self, scope: str, before: bytes) -> Iterator[RememberedAnswer]:
        """What was answered to a prompt, the newest first."""


def scope_of(model: str, owner: str) -> str:
    """What bounds everything that is reused: a model, and the API key's owner."""
    return f"{model}\n{owner}"


def token_ids(tokens: "list[int]") -> "array[int]":
    """Tokens in four bytes each."""
    return array("I", tokens)


class Answers:
    """The answers of one engine process; what was not used for longest goes first.

    What is not found among them may be `stored`.
    """

    def __init__(self, limit: int = MEMORY, stored: StoredAnswers | None = None) -> None:
        self._limit = limit
        self._stored = stored
        self._lock = threading.Lock()
        self._nbytes = 0
        self._held: OrderedDict[tuple[str, bytes], list[RememberedAnswer]] = OrderedDict()
        self._scopes: Counter[str] = Counter()

    def add(self, scope: str, answer: RememberedAnswer) -> None:
        """Remember an answer."""
        with self._lock:
            held = self._take(scope, answer.before)
            # The newest first; one that was said again is kept once.
            others = (other for other in held if other.tokens != answer.tokens)
            self._put(scope, answer.before, [answer, *others][:ALIKE])
            while self._nbytes > self._limit:
                self._take(*next(iter(self._held)))

    def after(self, scope: str, before: bytes) -> Iterator[RememberedAnswer]:
        """What was answered to a prompt, the newest first; files are read once they are wanted."""
        with self._lock:
            held = self._take(scope, before)
            if held:
                self._put(scope, before, held)
        yield from held
        for answer in self._stored.after(scope, before) if self._stored else ():
            if answer not in held:
                self.add(scope, answer)
                yield answer

    def knows(self, scope: str) -> bool:
        """Whether anything is remembered there."""
        with self._lock:
            held = scope in self._scopes
        return held or (self._stored is not None and self._stored.knows(scope))

    def forget(self, scope_prefix: str) -> None:
        """Drop everything of the scopes that begin with `scope_prefix` (a model)."""
        with self._lock:
            for scope, before in [key for key in self._held if key[0].startswith(scope_prefix)]:
                self._take(scope, before)

    def _take(self, scope: str, before: bytes) -> list[RememberedAnswer]:
        held = self._held.pop((scope, before), [])
        if held:
            self._nbytes -= sum(answer.nbytes for answer in held)
            self._scopes[scope] -= 1
            if not self._scopes[scope]:
                del self._scopes[scope]
        return held

    def _put(self, scope: str, before: bytes, held: list[RememberedAnswer]) -> None:
        self._held[scope, before] = held
        self._scopes[scope] += 1
        self._nbytes += sum(answer.nbytes for answer in held)
