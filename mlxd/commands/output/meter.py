"""How far something is that takes long, on stderr."""

import sys
import time
from collections.abc import Callable, Mapping

TERMINAL_EVERY, LOG_EVERY = 0.2, 2.0
"""Seconds between two pictures of the same phase, on a terminal and elsewhere."""
BAR = 24


class Meter:
    """One line on a terminal that changes; elsewhere a line for each phase, and now and then one.

    `names` are the phases as people read them. A phase without a measure shows its seconds, so that
    it is seen to go on.
    """

    def __init__(
        self, names: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names = names
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._every = TERMINAL_EVERY if self._terminal else LOG_EVERY
        self._phase = ""
        self._whole = False
        self._begun = self._shown = 0.0

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *error: object) -> None:
        self._end_line()

    def show(self, phase: str, done: int, total: int) -> None:
        """How much of a phase is done; may be called from any one thread at a time."""
        now = self._clock()
        if phase != self._phase:
            self._end_line()
            self._phase, self._begun = phase, now
            self._whole = False
        elif self._whole or (now - self._shown < self._every and (not total or done < total)):
            return
        self._shown, self._whole = now, 0 < total == done
        line = f"{self._names[phase]}  {_measure(done, total, now - self._begun)}".rstrip()
        sys.stderr.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def _end_line(self) -> None:
        if self._terminal and self._phase:
            sys.stderr.write("\n")


def _measure(done: int, total: int, seconds: float) -> str:
    if not total:
        return f"{seconds:.0f} s" if seconds >= 1 else ""
    full = BAR * done // total
    bar = "#" * full + "." * (BAR - full)
    return f"[{bar}] {done / 1e6:.0f} of {total / 1e6:.0f} MB, {100 * done // total}%"
