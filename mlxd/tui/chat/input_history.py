"""What was typed before: the lines of earlier chats, in a file that only its owner can read."""

import json
from contextlib import suppress
from pathlib import Path

import platformdirs

from mlxd.tui.chat.local.lines import append_line, read_lines, rewrite

FILE_NAME = "chat_history.jsonl"
MAX_LINES = 500
"""Messages that are kept."""
MAX_LENGTH = 20_000
"""Characters of a message that is kept; longer ones are not."""


def default_file() -> Path:
    """The file in the user's state folder."""
    return platformdirs.user_state_path("mlxd") / FILE_NAME


class InputHistory:
    """Earlier messages, oldest first, and a place in them.

    A file that can't be read or written costs the memory of other chats, nothing else. A message
    that begins with a space is not kept.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lines = _read(file) if file else []
        self._at = len(self._lines)
        self._draft = ""

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def add(self, text: str) -> None:
        """Keep a message that was sent, and go back to the end."""
        self._at = len(self._lines)
        self._draft = ""
        repeated = bool(self._lines) and self._lines[-1] == text
        if not text.strip() or text.startswith(" ") or len(text) > MAX_LENGTH or repeated:
            return
        self._lines = [*self._lines, text][-MAX_LINES:]
        self._at = len(self._lines)
        if self._file:
            with suppress(OSError, UnicodeError):
                append_line(self._file, text)

    def older(self, current: str) -> str | None:
        """The message before; `current` is kept for coming back. None at the oldest."""
        if self._at == 0:
            return None
        if self._at == len(self._lines):
            self._draft = current
        self._at -= 1
        return self._lines[self._at]

    def newer(self) -> str | None:
        """The message after, at the end what was being written. None if that is shown."""
        if self._at >= len(self._lines):
            return None
        self._at += 1
        return self._draft if self._at == len(self._lines) else self._lines[self._at]


def _read(file: Path) -> list[str]:
    written = read_lines(file)
    found = []
    for line in written[-MAX_LINES:]:
        with suppress(ValueError):
            value = json.loads(line)
            found += [value] if isinstance(value, str) else []
    if len(written) > 2 * MAX_LINES:
        rewrite(file, list(found))
    return found
