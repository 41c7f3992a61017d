"""Answers made of messages with headers that name their channel and recipient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

_NO_HEADER = frozenset('<{["\n')


Place = Literal["text", "reasoning", "plain", "aside"]
"""`plain` is text in which no call can stand; what is said `aside` is for nobody to read."""


class MessageRoute(NamedTuple):
    """Where a message belongs: to a tool if `tool` names one, else to its place."""

    place: Place
    tool: str = ""


@dataclass(frozen=True)
class Headers:
    """How messages are told apart.

    A message may begin with one of `begins`, which `end` follows; `opens` begin a header anywhere,
    and `closes` end a message.
    """

    begins: tuple[str, ...]
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    route: Callable[[str], MessageRoute]
    end: str = "<|message|>"

    def is_header(self, text: str) -> bool:
        """Whether `text` up to its end marker is a header and nothing else."""
        for mark in (*self.begins, self.end):
            text = text.replace(mark, "")
        return not _NO_HEADER.intersection(text)


def recipient(header: str) -> str:
    """Whom a message is for; empty when its header names nobody."""
    after = header.partition("to=")[2].replace("<", " ").split()
    return after[0] if after else ""
