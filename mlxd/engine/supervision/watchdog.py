"""Notices that work is waiting and nothing moves."""

import asyncio
from collections.abc import Callable

import msgspec


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds without progress after which the engine process is replaced.

    `load` holds while a model loads, `stall` otherwise.
    """

    stall: float
    load: float

    @property
    def start(self) -> float:
        """While a process starts: it imports its libraries, which reads many files, no weights."""
        return min(self.load, 2 * self.stall)


class Watchdog:
    """Calls `stalled` with the seconds of silence when they reach the patience of the moment.

    `patience` gives the seconds that may pass without progress now, None while nothing is to be
    done. One timer at most; progress costs one look at the clock.
    """

    def __init__(
        self, patience: Callable[[], float | None], stalled: Callable[[float], None]
    ) -> None:
        self._patience = patience
        self._stalled = stalled
        self._watermark = 0.0
        self._allowed: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def silence(self) -> float:
        """Seconds since the last progress; 0 while nothing is to be done."""
        if self._allowed is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._watermark

    def moved(self) -> None:
        """There was progress."""
        # The timer stays as it is and finds this out when it fires: a step must not cost a timer.
        self._watermark = asyncio.get_running_loop().time()

    def update(self) -> None:
        """Look at the patience again; must follow every change of what is to be done."""
        allowed = self._patience()
        if allowed == self._allowed:
            return
        if self._allowed is None:
            # Time in which nothing was to be done is no silence.
            self.moved()
        self._allowed = allowed
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._allowed is not None:
            self._timer = asyncio.get_running_loop().call_at(
                self._watermark + self._allowed, self._check
            )

    def _check(self) -> None:
        self._timer = None
        if self._allowed is not None and self.silence >= self._allowed:
            # One silence is reported once: what is done about it changes the patience again.
            silence, self._allowed = self.silence, None
            self._stalled(silence)
        else:
            self._set_timer()
