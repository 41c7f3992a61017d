"""The throughput chart: tokens a second, decoded and prefilled, over the last minutes."""

from collections.abc import Iterable

from textual import events

from mlxd.status import Second
from mlxd.tui.format import count, fit, rate, span
from mlxd.tui.terminal import Glyphs
from mlxd.tui.toned_text import Line, Tone, apart
from mlxd.tui.toned_widgets import Lines
from mlxd.tui.top.chart import Timeline, columns, plot, span_for, top_of

SCALE = 6
"""Cells for the number at the top of the scale."""
BETWEEN = 2
"""Cells between the two charts."""


class Throughput(Lines):
    """Two charts side by side, each with its own scale."""

    def __init__(self, glyphs: Glyphs, identity: str) -> None:
        super().__init__(identity)
        self._glyphs = glyphs
        self._timeline = Timeline()
        self._now = 0.0

    def put(self, seconds: Iterable[Second], now: float) -> None:
        """Add seconds; `now` is the server's time."""
        self._timeline.put(seconds)
        self._now = now
        self._draw()

    def _draw(self) -> None:
        width, height = self.size.width, self.size.height
        if width <= 2 * SCALE + BETWEEN or height < 2:
            return
        left = (width - BETWEEN) // 2
        charts = (
            self._chart(self._timeline.decode(), "decode", left),
            self._chart(self._timeline.prefill(), "prefill", width - BETWEEN - left),
        )
        gap: Line = [(" " * BETWEEN, "plain")]
        self.show([[*one, *gap, *other] for one, other in zip(*charts, strict=True)])

    def _chart(self, seconds: Iterable[tuple[float, float]], tone: Tone, width: int) -> list[Line]:
        """A title line with the last value, and the bars under it with their scale."""
        cells = width - SCALE
        each = span_for(cells)
        values = columns(seconds, cells, each, self._now)
        top = top_of(values)
        rows = self.size.height - 1
        # A column that has just begun says little, so the one before it.
        latest = values[-1] or values[-2] if len(values) > 1 else sum(values)
        title = apart(
            [(tone, "title"), (f" {rate(latest)} t/s", tone)],
            [(f"last {span(each * cells)}", "dim")],
            width,
            self._glyphs,
        )
        marks = [fit(count(top), SCALE - 1, self._glyphs, right=True) + " "]
        marks += [" " * SCALE] * (rows - 1)
        bars = plot(values, rows, top, self._glyphs)
        return [
            title,
            *([(mark, "dim"), (bar, tone)] for mark, bar in zip(marks, bars, strict=True)),
        ]

    def on_resize(self, event: events.Resize) -> None:
        self._draw()
        self.refresh()
