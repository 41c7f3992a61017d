"""The conversations of earlier chats: their names, in a file; what was said is with the server."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import platformdirs

from mlxd.tui.chat.local.lines import append_line, read_lines, rewrite

FILE_NAME = "chats.jsonl"
MOST = 200
"""Conversations that are listed."""
TITLE = 60
"""Characters of the first question that stand for a conversation."""


class KeptChat(msgspec.Struct, frozen=True):
    """A conversation of the server at `url`; `at` is the time of its last answer."""

    id: str
    title: str
    url: str = ""
    model: str = ""
    at: float = 0.0
    turns: int = 0


def default_file() -> Path:
    """The file in the user's state folder."""
    return platformdirs.user_state_path("mlxd") / FILE_NAME


class KeptChats:
    """The list in `file`, latest first; without a file nothing is kept, and nothing was.

    Several chats may write at once: each appends a line, and the last line of a name counts.
    """

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    @property
    def on(self) -> bool:
        """Whether conversations are kept."""
        return self._file is not None

    def all(self, url: str) -> list[KeptChat]:
        """Those of a server."""
        return [chat for chat in self._read() if chat.url == url]

    def find(self, url: str, text: str) -> KeptChat | None:
        """The one of this number in the list, or whose id begins so; the last one for no text."""
        chats = self.all(url)
        if not text:
            return chats[0] if chats else None
        if text.isdecimal() and 0 < int(text) <= len(chats):
            return chats[int(text) - 1]
        found = [chat for chat in chats if chat.id.removeprefix("conv_").startswith(bare(text))]
        return found[0] if len(found) == 1 else None

    def keep(self, chat: KeptChat) -> None:
        """Put it first; costs the list, nothing else, where that fails."""
        if self._file is None:
            return
        with suppress(OSError):
            append_line(self._file, msgspec.structs.replace(chat, at=self._clock()))

    def _read(self) -> list[KeptChat]:
        if self._file is None:
            return []
        lines, found = read_lines(self._file), dict[str, KeptChat]()
        for line in lines:
            with suppress(msgspec.MsgspecError):
                chat = msgspec.json.decode(line.encode(), type=KeptChat)
                found.pop(chat.id, None)
                found[chat.id] = chat
        last = list(found.values())[-MOST:]
        if len(lines) > 5 * MOST:
            rewrite(self._file, list(last))
        return last[::-1]


def bare(name: str) -> str:
    """An id without what all of them begin with."""
    return name.removeprefix("conv_")


def age(seconds: float) -> str:
    """How long ago: `now`, `5 min`, `3 h`, `2 days`."""
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''}"
    return "now"


def row(number: int, chat: KeptChat, now: float) -> str:
    """A conversation in the list."""
    turns = f"{chat.turns} turn{'' if chat.turns == 1 else 's'}"
    return f"{number:>3}  {age(now - chat.at):>7}  {turns:>8}  {chat.title}"
