"""The dashboard's screen: header, chart and tables, arranged for the size of the terminal."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.markup import escape
from textual.screen import Screen
from textual.widgets import Footer, Input

from mlxd.status import ConversationStatus, ModelInfo, Rates, RequestStatus, Second, Status
from mlxd.tui.terminal import Glyphs
from mlxd.tui.toned_text import Line, apart, cleaned, cut, wrapped
from mlxd.tui.toned_widgets import Lines
from mlxd.tui.top.columns import Sorting
from mlxd.tui.top.connection_state import ConnectionState
from mlxd.tui.top.header import heading
from mlxd.tui.top.live_table import LiveTable
from mlxd.tui.top.tables import (
    LogLine,
    conversation_columns,
    log_columns,
    model_columns,
    running_columns,
    waiting_columns,
)
from mlxd.tui.top.throughput import Throughput

SMALLEST = (60, 15)
"""Columns and lines below which only the header is shown."""
TALL, WIDE, VERY_TALL = 32, 110, 46
"""From these on all panes are shown at once; below, one at a time."""

AnyTable = LiveTable[Any]


class Filter(Input):
    """The words that rows must hold. Its ends are the screen's keys, in order with the letters."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.end_filter", show=False),
        Binding("escape", "screen.clear_filter", show=False),
    ]


TITLES = ("Running", "Queue", "Conversations", "Models", "Log")


class Dashboard(Screen[None]):
    """Shows what it is given; what the person asks for beyond looking goes to the app."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(at + 1), f"pane({at})", show=False) for at in range(len(TITLES))),
        Binding("tab", "next_pane(1)", show=False),
        Binding("shift+tab", "next_pane(-1)", show=False),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("z", "zoom", "Zoom"),
        Binding("escape", "clear_filter", show=False),
    ]

    def __init__(self, glyphs: Glyphs, clock: Callable[[], float]) -> None:
        super().__init__()
        self.head = Lines("head")
        self.notice = Lines("notice")
        self.tabs = Lines("tabs")
        self.chart = Throughput(glyphs, "chart")
        self.running: LiveTable[RequestStatus] = LiveTable(
            *(running_columns(glyphs), lambda item: item.id, glyphs),
            identity="running",
            empty="no request runs",
        )
        self.waiting: LiveTable[RequestStatus] = LiveTable(
            *(waiting_columns(), lambda item: item.id, glyphs),
            identity="waiting",
            empty="no request waits",
        )
        self.conversations: LiveTable[ConversationStatus] = LiveTable(
            *(conversation_columns(), lambda item: item.id, glyphs),
            identity="conversations",
            empty="no conversation was active lately",
        )
        self.models: LiveTable[ModelInfo] = LiveTable(
            *(model_columns(glyphs), lambda item: item.id, glyphs),
            identity="models",
            empty="no model is known",
        )
        self.log_table: LiveTable[LogLine] = LiveTable(
            *(log_columns(), lambda line: str(line.number), glyphs),
            identity="log",
            empty="nothing has happened yet",
            follow=True,
        )
        self.tables: tuple[AnyTable, ...] = (
            *(self.running, self.waiting, self.conversations),
            *(self.models, self.log_table),
        )
        self.active: AnyTable = self.running
        self.status: Status | None = None
        self.connection = ConnectionState()
        self._passing_notice: Line = []
        self._zoomed = False
        self._glyphs = glyphs
        self._clock = clock

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.notice
        yield self.chart
        yield self.tabs
        with Container(id="tables"):
            yield Container(self.running, classes="row")
            yield Container(self.waiting, self.conversations, classes="row")
            yield Container(self.models, self.log_table, classes="row")
        yield Filter(placeholder="words to look for; escape shows all", id="filter")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.set_focus(self.running)

    def show_status(self, status: Status) -> None:
        """Show the newest status."""
        self.status = status
        rates = status.rates.get("1s", Rates())
        at = status.server.at
        self.chart.put([Second(at, rates.decode, rates.prefill)], at)
        self.running.show(status.running)
        self.waiting.show(status.waiting)
        self.conversations.show(status.conversations)
        self.models.show(status.engine.models)
        self.refresh_words()

    def show_log(self, lines: Sequence[LogLine]) -> None:
        """Show the newest events."""
        self.log_table.show(lines)
        self._draw_titles()

    def show_connection(self, connection: ConnectionState) -> None:
        """Show how the dashboard stands with its server."""
        self.connection = connection
        self.refresh_words()

    def show_notice(self, line: Line) -> None:
        """Show a line above the tables for a while; an empty one ends it."""
        self._passing_notice = line
        self.refresh_words()

    def refresh_words(self) -> None:
        """Everything that changes with time alone."""
        now = self._clock()
        stale = self.connection.is_stale(now) and not self.connection.paused
        for widget in (self.chart, *self.tables):
            widget.set_stale(stale and self.status is not None)
        self._draw_head(now)
        self._draw_notice(now)
        self._draw_titles()

    def _draw_head(self, now: float) -> None:
        mark, width = self.connection.mark(now), self.size.width
        if self.status is None:
            self.head.show([apart([("mlxd top", "title")], mark, width, self._glyphs)])
        else:
            gone = bool(self.connection.seen) and not self.connection.connected
            self.head.show(heading(self.status, mark, width, self._glyphs, gone=gone))

    def _draw_notice(self, now: float) -> None:
        line = self.connection.notice(now) or self._passing_notice
        if self.has_class("-tiny"):
            size = f"{self.size.width}x{self.size.height}"
            needed = "x".join(map(str, SMALLEST))
            line = [*line, (f"The terminal is {size}; more needs {needed}.", "warn")]
        lines = wrapped(cleaned(line, self._glyphs), self.size.width, self._glyphs)
        self.notice.display = bool(lines)
        if lines:
            self.notice.styles.height = len(lines)
        self.notice.show(lines)

    def _draw_titles(self) -> None:
        tabs: Line = []
        for at, (table, title) in enumerate(zip(self.tables, TITLES, strict=True), start=1):
            title = f"{at} {title} {len(table.rows)}"
            if table.words:
                title += f" of {len(table.rows) + table.hidden}: {table.words}"
            title = self._glyphs.clean(title)
            tabs.append((f" {title} ", "title" if table is self.active else "dim"))
            # Setting it draws the table again, even where it is the same.
            if table.border_title != escape(title):
                table.border_title = escape(title)
        self.tabs.show([cut(tabs, self.size.width, self._glyphs)])

    def _arrange(self) -> None:
        """Show what there is room for."""
        width, height = self.size
        alone = height < TALL or (width < WIDE and height < VERY_TALL)
        tiny = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(tiny, "-tiny")
        self.set_class(self._zoomed, "-zoomed")
        self.set_class(alone or self._zoomed, "-alone")
        self.set_class(width >= WIDE, "-wide")
        self.set_class(height >= TALL, "-tall")
        for row in self.query(".row"):
            shown = [table for table in self.tables if table.parent is row]
            for table in shown:
                table.display = table is self.active or not (alone or self._zoomed)
            row.display = any(table.display for table in shown)

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()
        self.refresh_words()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, LiveTable):
            self.active = event.widget
            self._draw_titles()

    def _turn_to(self, table: AnyTable) -> None:
        self.active = table
        self._arrange()
        self.set_focus(table)
        self._draw_titles()

    def action_pane(self, pane: int) -> None:
        """Turn to a pane."""
        self._turn_to(self.tables[pane])

    def action_next_pane(self, by: int) -> None:
        """Turn to the next pane, or the one before."""
        pane = self.tables.index(self.active) + by
        self._turn_to(self.tables[pane % len(self.tables)])

    def action_zoom(self) -> None:
        """The pane alone, and back."""
        self._zoomed = not self._zoomed
        self._arrange()

    def action_sort(self) -> None:
        """Order by the next column."""
        self.active.sort_by(self.active.sorting.next(self.active.columns))

    def action_reverse(self) -> None:
        """Order the other way round."""
        sorting = self.active.sorting
        self.active.sort_by(Sorting(sorting.name, not sorting.reverse))

    def action_filter(self) -> None:
        """Ask for the words that rows must hold."""
        box = self.query_one(Filter)
        box.value = self.active.words
        box.cursor_position = len(box.value)
        box.display = True
        # `focus()` comes a little later, and the letters that follow would be taken as commands.
        self.set_focus(box)

    def action_clear_filter(self) -> None:
        """Show all rows, and end asking for words."""
        self.query_one(Filter).value = ""
        self.action_end_filter()

    def action_end_filter(self) -> None:
        """End asking for words, and keep those that were given."""
        box = self.query_one(Filter)
        self._keep_matching(box.value)
        box.display = False
        self.set_focus(self.active)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.has_focus:
            self._keep_matching(event.value)

    def _keep_matching(self, words: str) -> None:
        self.active.keep_matching(words)
        self._draw_titles()
