"""One look at the server, as text for people or JSON for scripts."""

import asyncio
import os
import shutil
from collections.abc import Iterator, Sequence

import msgspec

from mlxd.status import Status
from mlxd.tui.format import fit
from mlxd.tui.problems import ConnectionLost
from mlxd.tui.terminal import Glyphs, Terminal, terminal_of
from mlxd.tui.toned_text import plain
from mlxd.tui.top.columns import GAP, Column, RowItem, widths
from mlxd.tui.top.header import heading
from mlxd.tui.top.server_feed import Connect
from mlxd.tui.top.tables import (
    conversation_columns,
    model_columns,
    running_columns,
    waiting_columns,
    with_titles,
)

PATIENCE = 15.0
"""Seconds to wait for the answer."""
WIDTH = 120
"""Columns where no terminal says how many there are."""


async def fetch(connect: Connect) -> Status:
    """The status now; raises `ServerProblem`."""
    async with connect() as client:
        try:
            async with asyncio.timeout(PATIENCE):
                return await client.get("/admin/status", Status)
        except TimeoutError as error:
            raise ConnectionLost(client.url, f"no answer in {PATIENCE:.0f} s") from error


def pretty(status: Status) -> str:
    """The status as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(status)).decode()


def as_text(status: Status, width: int | None = None, terminal: Terminal | None = None) -> str:
    """The header and every table that has rows; `width` is that of the terminal unless given."""
    columns = width or shutil.get_terminal_size((WIDTH, 0)).columns
    glyphs = (terminal or terminal_of(os.environ)).glyphs
    return "\n".join(line.rstrip() for line in _lines(with_titles(status), columns, glyphs))


def _lines(status: Status, width: int, glyphs: Glyphs) -> Iterator[str]:
    yield from (plain(line) for line in heading(status, [], width, glyphs))
    yield from _table("Running", status.running, running_columns(glyphs), (width, glyphs))
    yield from _table("Queue", status.waiting, waiting_columns(), (width, glyphs))
    shown = conversation_columns()
    yield from _table("Conversations", status.conversations, shown, (width, glyphs))
    yield from _table("Models", status.engine.models, model_columns(glyphs), (width, glyphs))


def _table(
    title: str,
    items: Sequence[RowItem],
    columns: Sequence[Column[RowItem]],
    page: tuple[int, Glyphs],
) -> Iterator[str]:
    """Nothing at all for a table without rows."""
    if not items:
        return
    width, glyphs = page
    shown = [
        (column, cells)
        for column, cells in zip(columns, widths(columns, width), strict=True)
        if cells
    ]
    yield from ("", f"{title} ({len(items)})")
    gap = " " * GAP
    yield gap.join(fit(c.title, cells, glyphs, right=c.right) for c, cells in shown)
    for item in items:
        texts = ((c, cells, glyphs.clean(c.text(item))) for c, cells in shown)
        yield gap.join(fit(text, cells, glyphs, right=c.right) for c, cells, text in texts)
