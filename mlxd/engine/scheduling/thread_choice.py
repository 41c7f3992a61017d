"""With how many threads products of matrices are computed: tried on pieces of prefill. Pure."""

LEAST_TOKENS = 64
"""Shorter pieces say little of a product's speed."""
CLEARLY = 0.85
"""The other number is taken where its pieces take less than this share of the time."""
FIRST_PAUSE, LONGEST_PAUSE = 16, 1024
"""Pieces until the other number is tried again; twice as many each time that it was slower."""


class ThreadChoice:
    """Chooses between `most` threads and one less.

    The threads of a product wait for the slowest of them. Where another program keeps a core busy,
    all of them together are several times as slow as one less.
    """

    def __init__(self, most: int) -> None:
        self.threads = most
        """For the next piece."""
        self._other = max(1, most - 1)
        self._best = most
        self._each: dict[int, float] = {}
        self._pause = FIRST_PAUSE
        self._until_trial = 1

    def took(self, tokens: int, seconds: float) -> None:
        """A piece of so many tokens took so long, with `threads` threads."""
        if tokens < LEAST_TOKENS or self._other == self._best:
            return
        self._each[self.threads] = seconds / tokens
        if self.threads != self._best:
            self._decide()
            return
        self._until_trial -= 1
        if self._until_trial <= 0:
            self.threads = self._other

    def _decide(self) -> None:
        """After a trial of the other number."""
        if self._each[self._other] < CLEARLY * self._each[self._best]:
            self._best, self._other = self._other, self._best
            self._pause = FIRST_PAUSE
        else:
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        self.threads, self._until_trial = self._best, self._pause
