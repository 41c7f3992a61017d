"""Which token made which character: counts and logprobs follow their text through the splitter."""

import codecs
from collections import deque
from typing import NamedTuple

from mlxd.events import TokenLogprob


class Share(NamedTuple):
    """What belongs to a stretch of text."""

    tokens: int
    logprobs: tuple[TokenLogprob, ...]


class Attribution:
    """Gives each token to the stretch of text in which its last character lies.

    Stretches are taken in the text's order; what lies between them belongs to none.
    """

    def __init__(self) -> None:
        self._size = 0
        self._read = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tokens: deque[int] = deque()
        self._logprobs: deque[tuple[int, TokenLogprob]] = deque()

    def add(self, text: str, tokens: int, logprobs: tuple[TokenLogprob, ...]) -> None:
        """`text` has arrived with the tokens that made it."""
        before, self._size = self._size, self._size + len(text)
        for number in range(1, tokens + 1):
            # Without text of its own a token is a part of the next character.
            self._tokens.append(before + max(1, len(text) * number // tokens))
        for entry in logprobs:
            self._logprobs.append((min(self._end_of(entry), max(self._size, before + 1)), entry))
        # A detokeniser may drop characters, such as the space that begins an answer.
        self._read = min(self._read, self._size)

    def take(self, start: int, end: int) -> Share:
        """What belongs to the characters from `start` to `end`."""
        while self._tokens and self._tokens[0] <= start:
            self._tokens.popleft()
        while self._logprobs and self._logprobs[0][0] <= start:
            self._logprobs.popleft()
        tokens = 0
        while self._tokens and self._tokens[0] <= end:
            self._tokens.popleft()
            tokens += 1
        logprobs = []
        while self._logprobs and self._logprobs[0][0] <= end:
            logprobs.append(self._logprobs.popleft()[1])
        return Share(tokens, tuple(logprobs))

    def _end_of(self, entry: TokenLogprob) -> int:
        """Where the last character of a token ends; it may be one that later tokens complete."""
        before = self._read
        self._read += len(self._decoder.decode(entry.bytes))
        pending = bool(self._decoder.getstate()[0])
        return self._read + (pending or self._read == before)
