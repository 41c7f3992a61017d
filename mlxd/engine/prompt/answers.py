"""What was said in answers, for the turns that go on from them.

The main thread adds, the preparing thread looks up.
"""

import threading
from array import array
from collections import Counter, OrderedDict
from typing import NamedTuple

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


def scope_of(model: str, owner: str) -> str:
    """What bounds everything that is reused: a model, and the API key's owner."""
    return f"{model}\n{owner}"


def token_ids(tokens: "list[int]") -> "array[int]":
    """Tokens in four bytes each."""
    return array("I", tokens)


class Answers:
    """The answers of one engine process; what was not used for longest goes first."""

    def __init__(self, limit: int = MEMORY) -> None:
        self._limit = limit
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

    def after(self, scope: str, before: bytes) -> tuple[RememberedAnswer, ...]:
        """What was answered to a prompt, the newest first."""
        with self._lock:
            held = self._take(scope, before)
            if held:
                self._put(scope, before, held)
            return tuple(held)

    def knows(self, scope: str) -> bool:
        """Whether anything is remembered there."""
        with self._lock:
            return scope in self._scopes

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
