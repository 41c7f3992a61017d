"""How much happens a second: counts in a ring of short buckets, for the last ten minutes."""

from collections.abc import Callable
from typing import Literal, get_args

from mlxd.status import Rates, Second, ThroughputHistory

BUCKET = 0.25
"""Seconds of one bucket."""
HISTORY = 600
"""Seconds that are remembered."""
WINDOWS = {"1s": 1.0, "10s": 10.0, "60s": 60.0}
"""The windows of `Status.rates`, in seconds."""

CountKind = Literal["prefill", "prompt", "decode", "requests", "errors"]
COUNT_KINDS: tuple[CountKind, ...] = get_args(CountKind)

_A_SECOND = round(1 / BUCKET)
_SIZE = (HISTORY + 1) * _A_SECOND


class EventCounts:
    """Counts by kind; `now` gives the time in seconds, `wall` the time since 1970."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._now = now
        self._wall = wall
        self._began = now()
        self._newest = int(self._began / BUCKET)
        self._rings = {kind: [0] * _SIZE for kind in COUNT_KINDS}

    def add(self, kind: CountKind, amount: int) -> None:
        """`amount` more of something, now."""
        self._advance()
        self._rings[kind][self._newest % _SIZE] += amount

    def rates(self) -> dict[str, Rates]:
        """The averages over each window; a younger server's over its life so far."""
        self._advance()
        return {name: self._over(seconds) for name, seconds in WINDOWS.items()}

    def history(self) -> ThroughputHistory:
        """Tokens second by second, whole seconds only, oldest first."""
        self._advance()
        begin = int(self._began / BUCKET) // _A_SECOND
        end = self._newest // _A_SECOND
        offset = self._wall() - self._now()
        seconds = range(max(begin, end - HISTORY), end)
        return ThroughputHistory(tuple(self._second(second, offset) for second in seconds))

    def _second(self, second: int, offset: float) -> Second:
        first = second * _A_SECOND
        return Second(
            round(second + offset, 3),
            self._sum("decode", first, first + _A_SECOND),
            self._sum("prefill", first, first + _A_SECOND),
        )

    def _over(self, seconds: float) -> Rates:
        """The average over the whole buckets of the window and the one that is being filled."""
        buckets, now = round(seconds / BUCKET), self._now()
        filled = now - self._newest * BUCKET
        span = max(BUCKET, min(seconds + filled, now - self._began))
        first, end = self._newest - buckets, self._newest + 1

        def average(kind: CountKind, unit: float = 1.0) -> float:
            return round(unit * self._sum(kind, first, end) / span, 2)

        return Rates(
            prefill=average("prefill"),
            prompt=average("prompt"),
            decode=average("decode"),
            requests_per_minute=average("requests", 60.0),
            errors_per_minute=average("errors", 60.0),
        )

    def _sum(self, kind: CountKind, first: int, end: int) -> int:
        """The sum of the buckets numbered `first` to `end`."""
        ring, start, stop = self._rings[kind], first % _SIZE, end % _SIZE
        if start <= stop:
            return sum(ring[start:stop])
        return sum(ring[start:]) + sum(ring[:stop])

    def _advance(self) -> None:
        """Empty the buckets that time has reached."""
        # At most once round: after a long silence every bucket is old.
        newest = int(self._now() / BUCKET)
        for number in range(max(self._newest + 1, newest + 1 - _SIZE), newest + 1):
            for ring in self._rings.values():
                ring[number % _SIZE] = 0
        self._newest = max(self._newest, newest)
