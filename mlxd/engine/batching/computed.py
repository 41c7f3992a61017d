"""What a model computes of tokens, as far as the tree of prefixes knows it. No MLX."""

from typing import Protocol


class Stretch(Protocol):
    """What layers computed of a stretch of tokens; it can be cut between any two."""

    @property
    def length(self) -> int:
        """Its tokens."""

    @property
    def nbytes(self) -> int:
        """Its memory."""

    def part(self, start: int, end: int) -> "Stretch":
        """A copy of the tokens from `start` up to `end`."""


class State(Protocol):
    """What layers computed up to one position; it serves there or nowhere."""

    @property
    def nbytes(self) -> int:
        """Its memory."""


class Computed(Protocol):
    """A KV cache that parts are taken out of."""

    @property
    def window(self) -> int:
        """How many tokens the sliding windows look back; 0 without any."""

    @property
    def held(self) -> int:
        """How many of the last tokens the sliding windows still hold."""

    @property
    def kv(self) -> Stretch:
        """What can be cut anywhere, of all tokens; nothing of it is copied yet."""

    @property
    def windows(self) -> Stretch:
        """What the sliding windows hold, likewise."""

    @property
    def has_state(self) -> bool:
        """Whether there is a layer that can't be cut."""

    @property
    def state(self) -> State:
        """A copy of what can't be cut, with memory of its own."""
