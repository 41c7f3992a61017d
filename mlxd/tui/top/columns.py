"""A table's columns: what each shows of an item, how it orders items, and how wide it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlxd.tui.toned_text import Tone

RowItem = TypeVar("RowItem")
GAP = 1
"""Cells between columns."""


@dataclass(frozen=True, kw_only=True)
class Column(Generic[RowItem]):
    """One column. `tone` is a fixed tone, or a function of the item.

    `grow` is its share of what is left of the width; where the width does not suffice, columns with
    the largest `rank` go first.
    """

    name: str
    title: str
    width: int
    text: Callable[[RowItem], str]
    order: Callable[[RowItem], float | str]
    tone: Tone | Callable[[RowItem], Tone] = "plain"
    right: bool = False
    grow: int = 0
    rank: int = 0
    highest_first: bool = False

    def tone_of(self, item: RowItem) -> Tone:
        """The tone of this column's text for `item`."""
        return self.tone(item) if callable(self.tone) else self.tone


def words(
    name: str,
    title: str,
    text: Callable[[RowItem], str],
    *,
    width: int,
    tone: Tone | Callable[[RowItem], Tone] = "plain",
    grow: int = 0,
    rank: int = 0,
) -> Column[RowItem]:
    """A column of text, ordered by it."""
    return Column(
        name=name, title=title, width=width, text=text, order=text, tone=tone, grow=grow, rank=rank
    )


def number(
    name: str,
    title: str,
    value: Callable[[RowItem], float],
    shown: Callable[[float], str],
    *,
    width: int = 6,
    tone: Tone | Callable[[RowItem], Tone] = "plain",
    rank: int = 0,
    zero: bool = False,
) -> Column[RowItem]:
    """A column of numbers, the highest first when ordered by it; 0 is blank unless `zero`."""

    def text(item: RowItem) -> str:
        amount = value(item)
        return shown(amount) if amount or zero else ""

    return Column(
        name=name,
        title=title,
        width=width,
        text=text,
        order=value,
        tone=tone,
        right=True,
        rank=rank,
        highest_first=True,
    )


def widths(columns: Sequence[Column[RowItem]], total: int) -> list[int]:
    """Cells for each column, 0 for one that is not shown, so that all fit into `total`."""
    shown = [column.width for column in columns]
    # Whole columns go before any is made narrower: half a number says something wrong.
    by_rank = sorted(range(len(columns)), key=lambda index: -columns[index].rank)
    for index in by_rank:
        if _needed(shown) <= total or columns[index].rank == 0:
            break
        shown[index] = 0
    left = total - _needed(shown)
    if left < 0:
        return _squeezed(columns, shown, left)
    shares = sum(column.grow for column, width in zip(columns, shown, strict=True) if width)
    for index, column in enumerate(columns):
        if shown[index] and column.grow:
            given = left * column.grow // shares
            shown[index] += given
            left, shares = left - given, shares - column.grow
    return shown


def _needed(shown: Sequence[int]) -> int:
    visible = [width for width in shown if width]
    return sum(visible) + GAP * max(0, len(visible) - 1)


def _squeezed(columns: Sequence[Column[RowItem]], shown: list[int], left: int) -> list[int]:
    """Even the columns that always stay are too wide: those that grow give first."""
    order = sorted(range(len(columns)), key=lambda index: -columns[index].grow)
    for index in order:
        taken = min(max(shown[index] - 1, 0), -left)
        shown[index] -= taken
        left += taken
    return shown


@dataclass(frozen=True)
class Sorting:
    """By which column a table is ordered; without a name, in the order of arrival."""

    name: str = ""
    reverse: bool = False

    def apply(self, items: Sequence[RowItem], columns: Sequence[Column[RowItem]]) -> list[RowItem]:
        """The items in order; equal ones stay in the order of arrival."""
        column = next((column for column in columns if column.name == self.name), None)
        if column is None:
            return list(reversed(items)) if self.reverse else list(items)
        # Both directions keep equal items as they came.
        return sorted(items, key=column.order, reverse=self.reverse != column.highest_first)

    def by(self, name: str) -> "Sorting":
        """Ordered by another column; by the same one, the other way round."""
        return Sorting(name, not self.reverse) if name == self.name else Sorting(name)

    def next(self, columns: Sequence[Column[RowItem]]) -> "Sorting":
        """Ordered by the column after this one; after the last comes the order of arrival."""
        names = ["", *(column.name for column in columns)]
        after = names.index(self.name) + 1 if self.name in names else 1
        return Sorting(names[after % len(names)])


def matches(item: RowItem, columns: Sequence[Column[RowItem]], words: str) -> bool:
    """Whether every word stands somewhere in the item's row, in any case of letters."""
    row = " ".join(column.text(item) for column in columns).lower()
    return all(word in row for word in words.lower().split())
