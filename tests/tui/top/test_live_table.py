"""What a table draws again when its rows change: over a slow line every cell counts."""

from dataclasses import dataclass
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from mlxd.tui.terminal import UNICODE
from mlxd.tui.top.columns import Column, words
from mlxd.tui.top.live_table import WIDEST, LiveTable


@dataclass(frozen=True)
class Fruit:
    """A row: what tells it apart, and a text for each column."""

    key: str
    texts: tuple[str, str, str]


def column(at: int) -> Column[Fruit]:
    return words(str(at), "", lambda fruit: fruit.texts[at], width=5)


COLUMNS = [column(at) for at in range(3)]
PEAR, PLUM = Fruit("pear", ("one", "two", "three")), Fruit("plum", ("four", "five", "six"))


class WatchedTable(LiveTable[Fruit]):
    """Knows which parts of it are to be drawn again."""

    drawn: tuple[Region, ...] = ()

    def refresh(self, *regions: Region, **how: Any) -> "WatchedTable":
        self.drawn += regions
        return super().refresh(*regions, **how)


class OneTable(App[None]):
    """A table and nothing else."""

    def compose(self) -> ComposeResult:
        yield WatchedTable(COLUMNS, lambda item: item.key, UNICODE, identity="table")


def changed(*texts: str) -> Fruit:
    return Fruit("pear", (texts[0], texts[1], texts[2]))


@pytest.mark.parametrize(
    ("now", "drawn"),
    [
        ([PEAR, PLUM], []),
        ([changed("one", "2", "three"), PLUM], [Region(7, 1, 6, 1)]),
        ([changed("1", "two", "3"), PLUM], [Region(1, 1, 18, 1)]),
        ([PEAR, Fruit("plum", ("four", "five", "6"))], [Region(13, 2, 6, 1)]),
        # Characters of two cells: where the others are is not known without measuring each.
        ([changed("one", "二", "three"), PLUM], [Region(0, 1, WIDEST, 1)]),
        # The cursor's colour is over all of its line.
        ([PLUM, PEAR], [Region(0, y, WIDEST, 1) for y in (1, 2)] * 2),
        ([PEAR], [Region(0, 2, WIDEST, 1)]),
    ],
)
async def test_only_cells_that_changed_are_drawn_again(
    now: list[Fruit], drawn: list[Region]
) -> None:
    app = OneTable()
    async with app.run_test(size=(40, 10)) as pilot:
        table = app.query_one(WatchedTable)
        table.show([PEAR, PLUM])
        await pilot.pause()
        table.drawn = ()
        table.show(now)
        assert set(table.drawn) == set(drawn)
