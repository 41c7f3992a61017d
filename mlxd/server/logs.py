"""The log: one line a message on stderr, or in files that are rotated, as text or as JSON.

Callers' text reaches messages in error texts and names, so no message can add a line or a control
sequence of its own. The text of an unexpected exception may quote a prompt and is left out: its
class and where it was raised are logged.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

from mlxd.service.log_files import FILES, MAX_BYTES

Format = Literal["text", "json"]

MAX_CAUSES = 4
"""Exceptions of a chain that are logged."""
MAX_FRAMES = 12
"""Calls of an exception that are logged, innermost first."""


def setup(level: str, form: Format, *handlers: logging.Handler) -> None:
    """Send our messages from `level` on, and others' warnings, to `handlers`, else to stderr."""
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    for handler in handlers or (logging.StreamHandler(sys.stderr),):
        handler.setFormatter(_formatter(form))
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("mlxd").setLevel(level.upper())


def change(level: str, form: Format) -> None:
    """Go on with another level and another form, in the same places."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, TextLines | JsonLines):
            handler.setFormatter(_formatter(form))
    logging.getLogger("mlxd").setLevel(level.upper())


def _formatter(form: Format) -> logging.Formatter:
    return JsonLines() if form == "json" else TextLines()


class LogFile(RotatingFileHandler):
    """A file for its owner alone, and some older ones beside it; raises `OSError`."""

    def __init__(self, path: Path) -> None:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=FILES - 1, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return open(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")


class TextLines(logging.Formatter):
    """`2026-11-23 08:15:00.123 INFO mlxd.request: …`, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).astimezone()
        stamp = when.isoformat(" ", "milliseconds")[:23]
        line = f"{stamp} {record.levelname} {record.name}: {record.getMessage()}"
        return printable(line + _raised(record))


class JsonLines(logging.Formatter):
    """An object with time (UTC), level, logger and message, and the facts a record carries."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = getattr(record, "facts", {})
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            **facts,
            "time": stamp,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() + _raised(record),
        }
        return json.dumps(line, default=str)


def printable(text: str) -> str:
    """`text` on one line, its control characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _raised(record: logging.LogRecord) -> str:
    """The exception of a record without its own text: ` [KeyError at file.py:3 in f < …]`."""
    error = record.exc_info[1] if record.exc_info else None
    causes = [_where(cause) for cause, _ in zip(_chain(error), range(MAX_CAUSES), strict=False)]
    return f" [{'; from '.join(causes)}]" if causes else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _where(error: BaseException) -> str:
    name = type(error).__name__
    # The system's own words for an error number quote nobody.
    if isinstance(error, OSError) and error.strerror:
        name += f" ({error.strerror})"
    frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
    # What is above the folder of packages differs from machine to machine.
    files = ["/".join(Path(frame.filename).parts[-3:]) for frame in frames]
    calls = [f"{f}:{frame.lineno} in {frame.name}" for f, frame in zip(files, frames, strict=True)]
    return f"{name} at {' < '.join(calls[::-1])}" if calls else name
