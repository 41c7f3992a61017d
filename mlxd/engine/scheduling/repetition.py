"""When an answer only repeats itself: found in its token ids, without their text.

Small models fall into a loop and fill their limit with it. What an agent waits for is not coming
any more, so the row ends as if its limit were reached.
"""

from array import array
from collections.abc import Callable, Sequence

LOOK = 32
"""Tokens between two looks."""
PERIOD = 256
"""The longest period, in tokens."""
TIMES = 8
"""How often it must have come in a row."""
LEAST = 512
"""Tokens that the repetition must have at least."""
LEAST_IN_CALL = 2048
"""The same where a tool call is being written: tables and data repeat themselves."""

_TAIL = max(TIMES * PERIOD, LEAST_IN_CALL)


def repeats(tokens: Sequence[int], least: int) -> bool:
    """Whether the end of `tokens` is one period again and again."""
    # As bytes, which compare a hundred times faster than numbers: this runs in the step loop.
    tail = array("q", tokens[-_TAIL:])
    data, width = tail.tobytes(), tail.itemsize
    for period in range(1, PERIOD + 1):
        size = max(TIMES * period, least)
        if size > len(tail):
            return False
        begin, shift = len(data) - size * width, period * width
        # Most periods are ruled out by one comparison.
        if tail[-1] == tail[-1 - period] and data[begin + shift :] == data[begin:-shift]:
            return True
    return False


class RepetitionGuard:
    """Watches one row's tokens.

    `writes_call` says of the tokens so far whether they end inside a tool call. `choices` counts
    the draws that left a choice, None where all do: what a grammar enforces is no loop of the
    model's.
    """

    def __init__(
        self,
        writes_call: Callable[[Sequence[int]], bool],
        choices: Callable[[], int] | None = None,
    ) -> None:
        self._writes_call = writes_call
        self._choices = choices
        self._tokens: list[int] = []
        self._counts = [0]
        self._in_call = False

    def add(self, token: int) -> bool:
        """Take the next token; true when the answer is to end."""
        self._tokens.append(token)
        if len(self._tokens) % LOOK:
            return False
        if self._choices is not None:
            self._counts.append(self._choices())
        if not repeats(self._tokens, LEAST):
            self._in_call = False
            return False
        if self._enforced():
            return False
        # The text is read once for each repetition: that it is inside a call goes on as long.
        self._in_call = self._in_call or self._writes_call(self._tokens)
        return not self._in_call or repeats(self._tokens, LEAST_IN_CALL)

    def _enforced(self) -> bool:
        return len(self._counts) > LEAST // LOOK and (
            self._counts[-1] == self._counts[-1 - LEAST // LOOK]
        )
