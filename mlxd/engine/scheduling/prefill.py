"""How much of the prompts is computed between two decode steps, and whose: no MLX, no clock."""

import math
from collections.abc import Sequence
from itertools import accumulate

from mlxd.engine.scheduling.prefill_pace import PrefillPace

PREFILL_CHUNK = (32, 2048)
"""Fewest and most tokens, over all prompts, in one piece of prefill.

A piece with fewer takes as long, since every weight is read for it; its time says nothing of speed.
"""
LEAST_EACH = 8
"""Fewest tokens of each prompt in a piece; the cost of a piece grows with the prompts it is for."""
FIRST_CHUNK = 256
"""Tokens in a piece while the speed is not known."""
FIRST_BESIDE = 64
"""The same beside rows that decode: 256 can take a second on a CPU."""
MOST_SHARE = 2.0
"""How much longer a piece of prefill may take when many rows wait for it and few decode."""
GROWTH = 4
"""How many times more tokens than the latest a piece may have: far off, the fit knows little."""
PIECE_SLACK = 0.5
"""How much longer than allowed pieces may become to save one, as a share of a piece.

Each piece reads every weight, and one of prompts that are not alike moves their KV caches.
"""
TOGETHER = 8.0
"""Prompts are prefilled together if that takes no longer than so many budgets.

Together they fill the pieces and begin to decode as one; but each then waits for all the others.
"""
OVERTAKES = 2
"""A prompt that is so many times shorter than what is left of another does not wait for it."""


class Prefill:
    """Sizes the pieces; `budget` is the seconds that one may take."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._pace = PrefillPace()

    def took(self, tokens: int, seconds: float) -> None:
        """A piece of so many tokens took so long."""
        if tokens >= PREFILL_CHUNK[0] and seconds > 0:
            self._pace.took(tokens, seconds)

    def together(self, lengths: Sequence[int]) -> int:
        """How many prompts of these lengths, in their order, begin as a group; at least one."""
        room = self._tokens_in(TOGETHER * self._budget)
        return max(1, sum(total <= room for total in accumulate(lengths)))

    def overtakes(self, left: Sequence[int], tokens: int, patience: int) -> bool:
        """Whether a prompt of `tokens` joins a group with so many tokens `left`.

        `patience` is the least of what those who came before it may still be held up by.
        """
        return OVERTAKES * tokens <= max(left) and tokens <= patience

    def piece(self, left: Sequence[int], *, waiting: int, decoding: int) -> int:
        """Tokens of each prompt in the next piece, for prompts with so many tokens `left`.

        The more rows wait, these among them, and the fewer decode meanwhile, the longer it may be.
        """
        share = min(MOST_SHARE, 1 + (waiting - 1) / decoding) if decoding else MOST_SHARE
        allowed = self._each(share, left, decoding)
        # A prompt's last token is computed with the step that draws the first one of the answer.
        longest = max(1, max(left) - 1)
        pieces = max(1, math.ceil(longest / allowed - PIECE_SLACK))
        if decoding:
            # No stream waits longer than it may, whatever is saved by it.
            pieces = max(pieces, math.ceil(longest / self._each(MOST_SHARE, left, decoding)))
        return math.ceil(longest / pieces)

    def seconds(self, tokens: int) -> float:
        """How long so many tokens take in pieces; 0 while the speed is not known."""
        return tokens * self._pace.each if self._pace.known else 0.0

    def _each(self, share: float, left: Sequence[int], decoding: int) -> int:
        """Tokens of each prompt that take `share` times the budget."""
        low, high = PREFILL_CHUNK
        if self._pace.known:
            chunk = min(self._tokens_in(share * self._budget), GROWTH * self._pace.latest)
        else:
            chunk = FIRST_BESIDE if decoding else FIRST_CHUNK
        return max(LEAST_EACH, math.ceil(max(low, min(high, chunk)) / len(left)))

    def _tokens_in(self, seconds: float) -> int:
        return self._pace.tokens_in(seconds) if self._pace.known else FIRST_CHUNK
