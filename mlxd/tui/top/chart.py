"""A bar chart over time, as lines of text."""

from collections.abc import Iterable, Sequence

from mlxd.status import Second
from mlxd.tui.terminal import Glyphs

SPANS = (1, 2, 5, 10, 15, 30)
"""Seconds that one column may stand for."""
SHOWN = 180
"""Seconds that a chart shows at least, if its columns can."""
KEPT = 900
"""Seconds that are kept: enough for the widest chart."""


def span_for(width: int) -> int:
    """Seconds for each of `width` columns, so that the chart shows the last minutes."""
    return next((span for span in SPANS if span * width >= SHOWN), SPANS[-1])


def columns(
    seconds: Iterable[tuple[float, float]], width: int, span: int, now: float
) -> list[float]:
    """Averages over `span` seconds, oldest first: `seconds` has times and values.

    Columns begin at multiples of `span`, so that a bar keeps its height while it moves. The one
    that holds `now` is not finished: it is the average of the seconds it has.
    """
    last = int(now // span)
    sums, counts = [0.0] * width, [0] * width
    for at, value in seconds:
        column = width - 1 - (last - int(at // span))
        if 0 <= column < width:
            sums[column] += value
            counts[column] += 1
    # A finished column counts the seconds that nobody reported as zero.
    divisors = [span] * (width - 1) + counts[-1:]
    return [total / max(1, divisor) for total, divisor in zip(sums, divisors, strict=True)]


def top_of(values: Sequence[float]) -> float:
    """A round number at or above every value, for the top of the scale."""
    highest = max(values, default=0.0)
    if highest <= 0:
        return 1.0
    step = 1.0
    while step * 10 <= highest:
        step *= 10
    return next(top for top in (step, step * 2, step * 5, step * 10) if top >= highest)


def plot(values: Sequence[float], height: int, top: float, glyphs: Glyphs) -> list[str]:
    """`height` lines, the highest first; a value above zero is always seen."""
    levels = len(glyphs.levels) - 1
    heights = []
    for value in values:
        scaled = round(min(value / top, 1.0) * height * levels)
        heights.append(max(scaled, 1) if value > 0 else 0)
    return [
        "".join(glyphs.levels[min(max(tall - row * levels, 0), levels)] for tall in heights)
        for row in reversed(range(height))
    ]


class Timeline:
    """The seconds that a chart is made of, from the server's history and then live."""

    def __init__(self) -> None:
        self._seconds: dict[int, Second] = {}

    def put(self, seconds: Iterable[Second]) -> None:
        """Add or correct seconds; the oldest go when there are too many."""
        for second in seconds:
            self._seconds[int(second.at)] = second
        if len(self._seconds) > KEPT:
            newest = max(self._seconds)
            self._seconds = {at: s for at, s in self._seconds.items() if at > newest - KEPT}

    def decode(self) -> Iterable[tuple[float, float]]:
        """Tokens generated, by second."""
        return ((second.at, second.decode) for second in self._seconds.values())

    def prefill(self) -> Iterable[tuple[float, float]]:
        """Prompt tokens computed, by second."""
        return ((second.at, second.prefill) for second in self._seconds.values())
