"""How often a growing answer is drawn: often while that is cheap, rarely when it is not."""

import time
from collections.abc import Callable

SHORTEST = 0.1
LONGEST = 2.0
SHARE = 0.25
"""The part of a processor that drawing may take."""


class RedrawPace:
    """Spaces drawings so that the processor time they cost stays below a share.

    The time of the whole thread counts, because most of a drawing's work comes after it was asked
    for.
    """

    def __init__(
        self, clock: Callable[[], float], work: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._work = work
        self._next = 0.0
        self._worked = 0.0

    def begin(self) -> None:
        """The first drawing is due at once."""
        self._next = 0.0
        self._worked = self._work()

    def due(self) -> bool:
        """Whether it is time to draw."""
        return self._clock() >= self._next

    def shown(self) -> None:
        """Something was drawn; the next time depends on what the last one cost."""
        worked = self._work()
        cost, self._worked = worked - self._worked, worked
        self._next = self._clock() + min(max(cost / SHARE, SHORTEST), LONGEST)
