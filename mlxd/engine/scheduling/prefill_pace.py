"""How long a piece of prefill takes, learnt from those that were computed."""

FORGET = 0.85
"""What the pieces before count for with each new one."""
SPREAD = 0.05
"""How different the sizes of pieces must be to tell a fixed cost, as a share of their mean."""


class PrefillPace:
    """Fits `fixed + tokens / rate`, in seconds, to the latest pieces.

    The fixed part is what every forward pass costs, however few tokens it has: each weight is read
    once. Without it a short piece looks slow, the next one is made shorter, and so on.
    """

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = 0.0
        self._squares = self._products = 0.0
        self._fixed_share = 0.0
        self.latest = 0
        """Tokens of the latest piece."""

    @property
    def known(self) -> bool:
        """Whether a piece was computed."""
        return self._weight > 0

    @property
    def each(self) -> float:
        """The seconds of a token, its share of a piece's fixed part among them."""
        return self._seconds / self._tokens

    def took(self, tokens: int, seconds: float) -> None:
        """A piece of so many tokens took so long."""
        self.latest = tokens
        self._weight = FORGET * self._weight + 1
        self._tokens = FORGET * self._tokens + tokens
        self._seconds = FORGET * self._seconds + seconds
        self._squares = FORGET * self._squares + tokens * tokens
        self._products = FORGET * self._products + tokens * seconds

    def tokens_in(self, seconds: float) -> int:
        """How many tokens a piece may have to take so long.

        At least so many that no more than half of its time is the fixed cost.
        """
        mean_tokens, mean_seconds = self._tokens / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - mean_tokens**2
        if variance > (SPREAD * mean_tokens) ** 2:
            slope = (self._products / self._weight - mean_tokens * mean_seconds) / variance
            fixed = mean_seconds - slope * mean_tokens
            self._fixed_share = min(max(fixed / mean_seconds, 0.0), 0.9)
        fixed = self._fixed_share * mean_seconds
        return int(max(fixed, seconds - fixed) * mean_tokens / (mean_seconds - fixed))
