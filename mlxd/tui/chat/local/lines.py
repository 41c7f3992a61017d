"""Files of a JSON value a line that only their owner can read, and that several chats append to."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec


def append_line(file: Path, value: object) -> None:
    """One line at the end, in one write, so that two chats do not mix theirs. Raises `OSError`."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(handle, 0o600)
        os.write(handle, msgspec.json.encode(value) + b"\n")
    finally:
        os.close(handle)


def read_lines(file: Path) -> list[str]:
    """The lines; none where the file can't be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def rewrite(file: Path, values: list[object]) -> None:
    """Write the file anew, unless that fails."""
    with suppress(OSError):
        # Beside it and then over it: a chat that begins meanwhile reads one of both, whole.
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}")
        with os.fdopen(handle, "wb") as new:
            new.writelines(msgspec.json.encode(value) + b"\n" for value in values)
        os.replace(name, file)
