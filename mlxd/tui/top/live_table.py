"""A table whose rows change all the time: the cursor stays on its row, and only changed cells are
drawn again.

Textual's DataTable has no order or filter over rows that come anew four times a second: it would be
cleared and filled each time, which moves the cursor and draws every cell over a slow line again.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mlxd.tui.format import fit
from mlxd.tui.terminal import Glyphs
from mlxd.tui.toned_text import Line, TonedSpan, plain
from mlxd.tui.toned_widgets import Toned
from mlxd.tui.top.columns import GAP, Column, RowItem, Sorting, matches, widths

WIDEST = 10_000
HEADER = 1
"""Lines of the column titles, which do not scroll."""


class LiveTable(Toned, ScrollView, Generic[RowItem], can_focus=True):
    """Rows of `columns`, told apart by `key`.

    With `follow` the newest row is kept in sight; `empty` is shown where there are no rows.
    """

    DEFAULT_CSS = "LiveTable { overflow-x: hidden; overflow-y: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "jump(False)", "First", show=False),
        Binding("end,G", "jump(True)", "Last", show=False),
        Binding("enter", "choose", "Details", key_display="enter"),
    ]

    class Chosen(Message):
        """The person wants to know more about a row."""

        def __init__(self, table: "LiveTable[RowItem]", item: RowItem) -> None:
            super().__init__()
            self.table = table
            self.item = item

    class Rearranged(Message):
        """The table is ordered by something else now."""

        def __init__(self, table: "LiveTable[RowItem]") -> None:
            super().__init__()
            self.table = table

    def __init__(
        self,
        columns: Sequence[Column[RowItem]],
        key: Callable[[RowItem], str],
        glyphs: Glyphs,
        *,
        identity: str,
        empty: str = "",
        follow: bool = False,
    ) -> None:
        super().__init__(identity)
        self.columns = columns
        self.sorting = Sorting()
        self.words = ""
        self.rows: list[RowItem] = []
        self.cursor = 0
        self.hidden = 0
        """Rows that the filter leaves out."""
        self._key = key
        self._glyphs = glyphs
        self._follow = follow
        self._empty = empty
        self._items: Sequence[RowItem] = ()
        self._widths: list[int] = []
        self._fitted = -1
        self._drawn: dict[int, Line] = {}
        self._ready: dict[int, Line] = {}
        self._ready_for = (0, 0, False, 0)

    @property
    def current(self) -> RowItem | None:
        """The item under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def show(self, items: Sequence[RowItem]) -> None:
        """Show these items now."""
        self._items = items
        kept = [item for item in items if matches(item, self.columns, self.words)]
        self.hidden = len(items) - len(kept)
        at_end = self.cursor >= len(self.rows) - 1
        current = self.current
        self.rows = self.sorting.apply(kept, self.columns)
        self._measure()
        # A person who has moved away from the end is reading there.
        if self._follow and at_end:
            self._move_to(len(self.rows) - 1)
        else:
            self._keep_cursor(current)
        self._draw_changes()

    def sort_by(self, sorting: Sorting) -> None:
        """Order the rows by something else."""
        self.sorting = sorting
        self.show(self._items)
        self.refresh()
        self.post_message(self.Rearranged(self))

    def keep_matching(self, words: str) -> None:
        """Show the rows alone that hold these words."""
        self.words = words
        self.show(self._items)
        self.refresh()

    def _measure(self) -> None:
        """Divide the width among the columns anew if it is another; a scrollbar takes of it too."""
        width = self.scrollable_content_region.width
        if width != self._fitted:
            self._fitted = width
            # One cell for the cursor's mark; the gap behind the last column need not be there.
            self._widths = widths(self.columns, max(0, width - 1))
            self.refresh()
        self.virtual_size = Size(width, len(self.rows) + HEADER)

    def _keep_cursor(self, current: RowItem | None) -> None:
        """Stay on the same row wherever it is now, else at the same index."""
        index = self.cursor
        if current is not None:
            key = self._key(current)
            same = (at for at, item in enumerate(self.rows) if self._key(item) == key)
            index = next(same, self.cursor)
        self._move_to(index)

    def _move_to(self, index: int) -> None:
        index = max(0, min(index, len(self.rows) - 1))
        if index != self.cursor:
            self.cursor = index
            self._bring_into_sight()
            self._draw_changes()

    def _bring_into_sight(self) -> None:
        top, room = round(self.scroll_y), max(1, self.size.height - HEADER)
        if self.cursor < top:
            self._scroll_rows(self.cursor)
        elif self.cursor >= top + room:
            self._scroll_rows(self.cursor - room + 1)

    def _scroll_rows(self, top: int) -> None:
        # Forced: whether there is a scrollbar is only known after the next layout.
        self.scroll_to(y=top, animate=False, force=True)

    def _draw_changes(self) -> None:
        """Refresh the part of each visible line that is not as it was drawn."""
        # What was made for comparing is kept for drawing: making a line costs more than drawing it.
        self._ready.clear()
        self._ready_for = self._drawn_for()
        for y, before in list(self._drawn.items()):
            now = self._line(y)
            if now != before:
                self._ready[y] = now
                self.refresh(_changed(before, now, y))

    def _drawn_for(self) -> tuple[int, int, bool, int]:
        """What a line depends on besides the rows."""
        return self.scroll_offset.y, self.cursor, self.has_focus, self._fitted

    def _line(self, y: int) -> Line:
        """What line `y` of the widget should show; the first span is the cursor's mark."""
        index = y - HEADER + self.scroll_offset.y
        if y < HEADER:
            return self._titles()
        if index >= len(self.rows):
            words = "nothing matches the filter" if self.hidden else self._empty
            return [(f" {words}", "dim")] if index == 0 else []
        item = self.rows[index]
        line: Line = [self._mark(index)]
        for column, width in zip(self.columns, self._widths, strict=False):
            if width:
                text = self._glyphs.clean(column.text(item))
                fitted = fit(text, width, self._glyphs, right=column.right)
                line.append((fitted + " " * GAP, column.tone_of(item)))
        return line

    def _mark(self, index: int) -> TonedSpan:
        """Shows the cursor where colours can't."""
        if index != self.cursor:
            return " ", "plain"
        return (self._glyphs.cursor if self.has_focus else " "), "accent"

    def _titles(self) -> Line:
        line: Line = [(" ", "dim")]
        for column, width in zip(self.columns, self._widths, strict=False):
            if width:
                title = column.title
                sorted_by = column.name == self.sorting.name
                if sorted_by:
                    falling = self.sorting.reverse != column.highest_first
                    arrow = self._glyphs.down if falling else self._glyphs.up
                    title = f"{title[: width - 1]}{arrow}"
                fitted = fit(title, width, self._glyphs, right=column.right)
                line.append((fitted + " " * GAP, "title" if sorted_by else "dim"))
        return line

    def render_line(self, y: int) -> Strip:
        ready = self._ready.pop(y, None) if self._ready_for == self._drawn_for() else None
        line = self._line(y) if ready is None else ready
        self._drawn[y] = line
        over = None
        if self.rows and y >= HEADER and y - HEADER + self.scroll_offset.y == self.cursor:
            over = self.style_of("cursor" if self.has_focus else "cursor-blurred")
        return self.strip_of(line, self.size.width, over)

    def on_resize(self, event: events.Resize) -> None:
        self._drawn.clear()
        self._measure()
        self._bring_into_sight()
        self.refresh()

    def watch_show_vertical_scrollbar(self) -> None:
        self._measure()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor by some rows."""
        self._move_to(self.cursor + by)
        self.refresh()

    def action_page(self, by: int) -> None:
        """Move the cursor by some screens."""
        self.action_move(by * max(1, self.size.height - HEADER - 1))

    def action_jump(self, last: bool) -> None:
        """Move the cursor to the first or the last row."""
        self.action_move(len(self.rows) if last else -len(self.rows))

    def action_choose(self) -> None:
        """Ask for details of the row under the cursor."""
        if self.current is not None:
            self.post_message(self.Chosen(self, self.current))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y < HEADER:
            if name := self._column_at(offset.x):
                self.sort_by(self.sorting.by(name))
        elif (index := offset.y - HEADER + self.scroll_offset.y) < len(self.rows):
            again = index == self.cursor and event.chain > 1
            self._move_to(index)
            self.refresh()
            if again:
                self.action_choose()

    def _column_at(self, x: int) -> str:
        left = 1
        for column, width in zip(self.columns, self._widths, strict=False):
            if width and left <= x < left + width:
                return column.name
            left += width + GAP if width else 0
        return ""


def _changed(before: Line, now: Line, y: int) -> Region:
    """The smallest part of line `y` that holds every difference.

    That is all of it when the cursor came or went, and when characters take more than one cell.
    """
    text = plain(before) + plain(now)
    if len(before) != len(now) or before[:1] != now[:1] or cell_len(text) != len(text):
        return Region(0, y, WIDEST, 1)
    left, first, last = 0, WIDEST, 0
    for old, new in zip(before, now, strict=True):
        right = left + len(new[0])
        if old != new:
            first, last = min(first, left), right
        left = right
    return Region(first, y, last - first, 1)
