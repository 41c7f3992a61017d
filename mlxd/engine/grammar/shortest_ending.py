"""How a constrained answer can end soon: a short way from where a grammar stands to its end.

A row near its length limit is led along such a way, so that it ends whole. The search is greedy in
bytes: it closes what is open before it begins anything, and takes the shortest of a few attempts.
"""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from llguidance import LLMatcher, LLTokenizer

LONGEST = 1024
"""Tokens of the longest way that is looked for."""
_ATTEMPTS = 6
_DETOUR = 512
"""Bytes after which all attempts but the first two give up."""
_RUN = (3, 12)
"""After so many bytes of free text, or of anything, that lead nowhere, others are tried in turn."""
_LOOKED_AT = 64
_REMEMBERED = 1024
_INSIDE = b"~zqQ"
"""Characters that are all allowed only inside of free text."""
_CLOSE = b'/}])>,"<0[tn{1-:. \n'
_QUOTE = b'"<}])>0'
_ONWARD = b'"}]>)@.-:/0a1AZ,'


class Closer:
    """Finds short ways to the end of grammars, for one tokenizer."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._end = tokenizer.eos_token
        self._token_of_byte = _single_bytes(tokenizer)
        self.steps = 0
        """All that were taken in search of ways: a measure of work that no machine changes."""
        # All ways through one grammar are forced to write the same names and marks.
        self._tokens_of = lru_cache(_REMEMBERED)(tokenizer.tokenize_bytes)

    def way(
        self, matcher: LLMatcher, longest: int = LONGEST, ends: Sequence[tuple[int, ...]] = ()
    ) -> list[int] | None:
        """Tokens that end what `matcher` has begun, the end token last; None when none is found.

        Finds none longer than `longest`. `ends` are tokens that close something in this grammar.
        """
        best: list[int] | None = None
        # A token has some four bytes, and a way is written in single ones first.
        room = longest * 4
        for attempt in range(_ATTEMPTS):
            limit = min(room, _DETOUR) if attempt > 1 else room
            # What closes one thing may only be a character of another: once, go without.
            hints = ends if attempt != 1 else ()
            found = self._attempt(_Attempt(matcher.deep_copy(), attempt, hints), limit)
            if found is not None:
                # What is longer in such steps is hardly ever shorter in the end.
                room = min(room, len(found))
                way = [*self._merged(matcher, found), self._end]
                if best is None or len(way) < len(best):
                    best = way
            if best is not None and (attempt or not ends or len(best) < _ATTEMPTS):
                break
        return best if best is not None and len(best) <= longest else None

    def still_ends(self, matcher: LLMatcher, way: Sequence[int]) -> bool:
        """Whether `way` ends what `matcher` has begun, too."""
        probe = matcher.deep_copy()
        body = list(way[:-1])
        return probe.try_consume_tokens(body) == len(body) and probe.is_accepting()

    def _attempt(self, attempt: "_Attempt", longest: int) -> list[int] | None:
        while not attempt.matcher.is_accepting():
            step = self._step(attempt)
            if not step or len(attempt.taken) > longest or not attempt.take(step):
                return None
        return attempt.taken

    def _step(self, attempt: "_Attempt") -> list[int]:
        self.steps += 1
        matcher = attempt.matcher
        for end in () if attempt.led_on else attempt.ends:
            if attempt.last != end and matcher.validate_tokens(list(end)) == len(end):
                return list(end)
        forced = matcher.compute_ff_bytes()
        if forced:
            tokens = self._tokens_of(forced)
            if matcher.validate_tokens(tokens) == len(tokens):
                attempt.run = 0
                return tokens
        attempt.run += 1
        for token in self._candidates(attempt):
            if matcher.validate_tokens([token]) == 1:
                return [token]
        return self._shortest_allowed(matcher)

    def _candidates(self, attempt: "_Attempt") -> Iterator[int]:
        inside = self._inside(attempt.matcher)
        wanted = _QUOTE if inside else _CLOSE
        if attempt.number > 2:
            mixed = list(bytes(range(32, 127)))
            attempt.order.shuffle(mixed)
            wanted = bytes(mixed)
        elif attempt.run > _RUN[0 if inside else 1]:
            turn = attempt.run % len(_ONWARD)
            wanted = b'"' + _ONWARD[turn:] + _ONWARD[:turn]
        elif attempt.number == 2:
            wanted = _ONWARD + wanted
        for byte in wanted:
            token = self._token_of_byte.get(byte)
            if token is not None:
                yield token

    def _inside(self, matcher: LLMatcher) -> bool:
        """Whether the matcher stands in free text, where brackets close nothing."""
        tokens = [self._token_of_byte.get(byte) for byte in _INSIDE]
        return all(token is not None and matcher.validate_tokens([token]) for token in tokens)

    def _shortest_allowed(self, matcher: LLMatcher) -> list[int]:
        """The first byte that is allowed, else a short one of the first tokens that are."""
        # One mask costs less than a question for each of the bytes. Of a text that is forced it has
        # the longest token alone.
        mask = matcher.compute_bitmask()
        for token in self._token_of_byte.values():
            if mask[token >> 3] >> (token & 7) & 1:
                return [token]
        for token in self._token_of_byte.values():
            if matcher.validate_tokens([token]) == 1:
                return [token]
        allowed = allowed_tokens(mask)[:_LOOKED_AT]
        if not allowed:
            return []
        return [min(allowed, key=lambda token: len(self._tokenizer.decode_bytes([token])))]

    def _merged(self, matcher: LLMatcher, tokens: list[int]) -> list[int]:
        """The same text in fewer tokens, if the grammar takes those."""
        # The bytes of a control token, tokenised again, are plain text.
        if any(self._tokenizer.is_special_token(token) for token in tokens):
            return tokens
        merged = self._tokenizer.tokenize_bytes(self._tokenizer.decode_bytes(tokens))
        shorter = len(merged) < len(tokens)
        if shorter and self.still_ends(matcher, [*merged, self._end]):
            return merged
        return tokens


class _Attempt:
    """One search: where it stands and what it has taken."""

    def __init__(self, matcher: LLMatcher, number: int, ends: Sequence[tuple[int, ...]]) -> None:
        self.matcher = matcher
        self.number = number
        self.ends = ends
        # Seeded, so that the same request is led to the same end.
        self.order = random.Random(number)
        self.taken: list[int] = []
        self.last: tuple[int, ...] = ()
        self.led_on = False
        """The last two steps were ends, of which only few can follow each other."""
        self.run = 0
        """Bytes chosen since the grammar forced some."""

    def take(self, tokens: list[int]) -> bool:
        """Go on with `tokens`; false if the grammar does not."""
        self.taken += tokens
        end = tuple(tokens)
        self.led_on = self.last in self.ends and end in self.ends
        self.last = end
        return self.matcher.consume_tokens(tokens)


def allowed_tokens(bitmask: bytes) -> list[int]:
    """The token ids whose bits are set."""
    bits = np.unpackbits(np.frombuffer(bitmask, dtype=np.uint8), bitorder="little")
    return [int(token) for token in np.flatnonzero(bits)]


def _single_bytes(tokenizer: LLTokenizer) -> dict[int, int]:
    """The token of each byte that is a token of its own."""
    found: dict[int, int] = {}
    for token in range(tokenizer.vocab_size):
        if not tokenizer.is_special_token(token):
            raw = tokenizer.decode_bytes([token])
            if len(raw) == 1:
                found.setdefault(raw[0], token)
    return found
