"""Whose row goes next: tokens are shared between API keys by their weights. Pure, no clock."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from mlxd.engine.protocol import KeyShare

FIRST_GUESS = 64
"""Tokens that an answer is taken to have until some have ended."""
FORGET = 0.9
"""What the answers before count for with each new one."""
USUAL = KeyShare()
"""The share of a key that no table is for."""


class Served(Protocol):
    """What is counted of a row."""

    group: str
    tokens: list[int]
    cached: int
    prefilled: int
    generated: int
    max_tokens: int


class Fairness:
    """Counts for each key the tokens computed for it, in prompts and answers, over its weight.

    The key with the least goes next. A row that has begun counts with the whole of its prompt and
    with a usual answer, or with all rows of one key would begin at once. A key that comes after a
    pause begins beside those that work: what it left unused is not saved up.
    """

    def __init__(self, keys: Mapping[str, KeyShare]) -> None:
        self._keys = keys
        self._served: dict[str, float] = {}
        self._usual = float(FIRST_GUESS)

    def share(self, key: str) -> KeyShare:
        """What `key` may take."""
        return self._keys.get(key, USUAL)

    def loads(self, begun: Iterable[Served]) -> dict[str, float]:
        """What counts for each key whose rows have begun, or ended."""
        loads = dict(self._served)
        for row in begun:
            answer = max(row.generated, min(self._usual, row.max_tokens))
            cost = len(row.tokens) - row.cached + answer
            loads[row.group] = loads.get(row.group, 0.0) + cost / self.share(row.group).weight
        return loads

    def joined(self, key: str, begun: Sequence[Served], waiting: Iterable[Served]) -> None:
        """The first row of `key` comes, if it is not among the keys of the others."""
        active = {row.group for row in (*begun, *waiting)}
        if not active:
            # Nobody is owed anything by those who are not there.
            self._served.clear()
        elif key not in active:
            loads = self.loads(begun)
            least = min(loads.get(other, 0.0) for other in active)
            self._served[key] = max(self._served.get(key, 0.0), least)

    def ended(self, row: Served) -> None:
        """A row that had begun is over, however it ended."""
        computed = max(0, row.prefilled - row.cached) + row.generated
        share = computed / self.share(row.group).weight
        self._served[row.group] = self._served.get(row.group, 0.0) + share
        if row.generated:
            self._usual = FORGET * self._usual + (1 - FORGET) * row.generated
