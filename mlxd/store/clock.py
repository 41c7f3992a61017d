"""The store's own time: how long it has existed, whatever is done to the clock on the wall.

Ages are differences of this time. While the machine runs it goes by the monotonic clock, also
between two servers; only from one boot to the next does the wall clock say how long it was.

What this prevents: clocks get set, by hand, after an empty battery, by NTP seconds after the start.
Were ages differences of dates, a clock set a year ahead would make every conversation look expired,
and the next sweep would delete them all for good; one set back would keep them for as long again.
Within a boot the date is not read at all. Between two boots it is all there is: a wrong one can add
one wrong span, and never takes time away.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot() -> str:
    """What tells this run of the machine from others; empty where nothing does."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


@dataclass(frozen=True)
class StoreClock:
    """Where times come from, in seconds: since 1970, and since some moment of this boot."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    boot: Callable[[], str] = this_boot


class Mark(NamedTuple):
    """A moment: the store's own time, and what the clocks showed."""

    elapsed: float = 0.0
    wall: float = 0.0
    monotonic: float = 0.0
    boot: str = ""


class StoreTime:
    """The store's own time in a running server, going on from the last mark."""

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._boot = clock.boot()
        self._start = Mark(0.0, clock.wall(), clock.monotonic(), self._boot)
        self._seen = self._start

    def go_on(self, last: Mark) -> None:
        """Count on from a mark that an earlier server left."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        if self._boot and self._boot == last.boot and monotonic >= last.monotonic:
            passed = monotonic - last.monotonic
        else:
            # A wall clock that went backwards says nothing; then no time has passed.
            passed = max(0.0, wall - last.wall) if last.wall else 0.0
        self._start = Mark(last.elapsed + passed, wall, monotonic, self._boot)
        self._seen = self._start

    def now(self) -> float:
        """Seconds that the store has existed; never goes backwards."""
        return self._start.elapsed + self._clock.monotonic() - self._start.monotonic

    def mark(self) -> Mark:
        """This moment, for `go_on`."""
        monotonic = self._clock.monotonic()
        elapsed = self._start.elapsed + monotonic - self._start.monotonic
        return Mark(elapsed, self._clock.wall(), monotonic, self._boot)

    def wall(self) -> float:
        """Seconds since 1970, as the machine has it."""
        return self._clock.wall()

    def jump(self) -> float:
        """Seconds by which the wall clock went more than time did since the last call."""
        before, self._seen = self._seen, self.mark()
        return (self._seen.wall - before.wall) - (self._seen.elapsed - before.elapsed)
