"""What can be done to the text of a configuration that is somebody else's."""

from collections.abc import Mapping
from typing import Any, Protocol

NAME = "mlxd"
"""What every entry of ours is called."""

Value = Mapping[str, Any]


class LeftAlone(Exception):
    """A file is not touched; the text says why, behind the file's name."""


class HasEntry(LeftAlone):
    """It holds an entry of our name that is somebody's work."""


class Edit(Protocol):
    """One entry of ours in a text; whatever else the text holds stays byte for byte.

    Every method raises `LeftAlone` where the text is not understood.
    """

    def entry(self, text: str) -> object:
        """The entry of this name as it stands in the text, None without one."""

    def put(self, text: str) -> str:
        """The text with the entry, which it does not have yet; an empty text is a new file."""

    def drop(self, text: str, before: str) -> str:
        """The text without the entry; `before` is what it was when there was none yet."""


def is_ours(named: object) -> bool:
    """Whether an entry of a list is called as ours are."""
    return isinstance(named, str) and (named == NAME or named.startswith(f"{NAME}/"))


def newline_of(text: str) -> str:
    """How the lines of a text end."""
    return "\r\n" if "\r\n" in text else "\n"


class WholeFile:
    """A file that is all ours."""

    def __init__(self, text: str) -> None:
        self._text = text

    def entry(self, text: str) -> object:
        return text or None

    def put(self, text: str) -> str:
        return self._text

    def drop(self, text: str, before: str) -> str:
        raise LeftAlone("was changed by hand since: remove it if it is no longer wanted")
