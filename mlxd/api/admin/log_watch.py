"""Warnings and errors of the log, for those who watch the server."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

MAX_LINE = 300
"""Characters of a line that are shown."""
OTHERS = "mlxd.engine"
"""The logger of what the engine process and its libraries print, which may be anything."""

OnLine = Callable[[str, Literal["warning", "error"]], None]


class LogWatch(logging.Handler):
    """Passes lines on to `on_line`, in the event loop, from whatever thread they come."""

    def __init__(self, on_line: OnLine) -> None:
        super().__init__(logging.WARNING)
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == OTHERS or self._loop.is_closed():
            return
        line = record.getMessage()[:MAX_LINE]
        shown = "".join(char if char.isprintable() else "?" for char in line)
        level: Literal["warning", "error"] = (
            "error" if record.levelno >= logging.ERROR else "warning"
        )
        self._loop.call_soon_threadsafe(self._on_line, shown, level)


@contextmanager
def log_watched(on_line: OnLine) -> Iterator[None]:
    """Pass on our warnings and errors meanwhile."""
    watch, ours = LogWatch(on_line), logging.getLogger("mlxd")
    ours.addHandler(watch)
    try:
        yield
    finally:
        ours.removeHandler(watch)
