"""What was computed for each API key, and how many tokens it has left in this minute."""

import math
from collections.abc import Callable, Iterable, Mapping

from mlxd.engine.protocol import KeyShare
from mlxd.errors import RateLimited
from mlxd.status import KeyStatus, RequestStatus

MINUTE = 60.0


class KeyAccounts:
    """A key may spend a minute's tokens at once, and gets them back as time goes by.

    What a request will cost is known when it is over, so one is taken on while anything is left,
    and what it takes too much is waited for by those behind it.
    """

    def __init__(self, keys: Mapping[str, KeyShare], clock: Callable[[], float]) -> None:
        self._keys = keys
        self._tokens: dict[str, int] = dict.fromkeys(keys, 0)
        self._recent: dict[str, tuple[float, float]] = {}
        """Tokens of about the last minute, with the time for which that holds."""
        limits = {key: share.tokens_per_minute for key, share in keys.items()}
        self._limits = {key: float(limit) for key, limit in limits.items() if limit is not None}
        self._clock = clock
        self._left = dict(self._limits)
        self._updated = dict.fromkeys(self._limits, clock())

    def check(self, key: str) -> None:
        """Raises `RateLimited` where `key` has nothing left."""
        limit = self._limits.get(key)
        if limit is None:
            return
        left = self._refilled(key, limit)
        if left < 1:
            raise RateLimited(
                retry_after=(1 - left) * MINUTE / limit,
                reason=f"This API key has used its {limit:.0f} tokens per minute.",
            )

    def spent(self, key: str, tokens: int) -> None:
        """So many tokens were computed for `key`."""
        self._tokens[key] = self._tokens.get(key, 0) + tokens
        self._recent[key] = self._lately(key) + tokens, self._clock()
        limit = self._limits.get(key)
        if limit is not None:
            self._left[key] = self._refilled(key, limit) - tokens

    def status(self, requests: Iterable[tuple[str, RequestStatus]]) -> tuple[KeyStatus, ...]:
        """How each key stands that has a table or was used; nothing where no key is asked for."""
        waiting: dict[str, int] = {}
        running: dict[str, int] = {}
        for key, request in requests:
            counts = waiting if request.phase == "queued" else running
            counts[key] = counts.get(key, 0) + 1
        lately = {key: self._lately(key) for key in self._tokens}
        whole = sum(lately.values())
        return tuple(
            KeyStatus(
                name=self._keys[key].name if key in self._keys else key,
                weight=self._keys[key].weight if key in self._keys else 1.0,
                tokens=tokens,
                share=lately[key] / whole if whole >= 1 else 0.0,
                running=running.get(key, 0),
                waiting=waiting.get(key, 0),
            )
            for key, tokens in self._tokens.items()
            if key
        )

    def _lately(self, key: str) -> float:
        tokens, at = self._recent.get(key, (0.0, 0.0))
        return tokens * math.exp((at - self._clock()) / MINUTE)

    def _refilled(self, key: str, limit: float) -> float:
        now = self._clock()
        regained = (now - self._updated[key]) * limit / MINUTE
        self._left[key] = min(limit, self._left[key] + regained)
        self._updated[key] = now
        return self._left[key]
