"""Answers made of messages with headers that name their channel and recipient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_NO_HEADER = frozenset('<{["\n')


class Route(NamedTuple):
    """Where a message belongs: to a tool if `tool` names one, else to reasoning or text."""

    reasoning: bool
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
    route: Callable[[str], Route]
    end: str = "<|message|>"

    def is_header(self, text: str) -> bool:
        """Whether `text` up to its end marker is a header and nothing else."""
        for mark in (*self.begins, self.end):
            text = text.replace(mark, "")
        return not _NO_HEADER.intersection(text)


def _recipient(header: str) -> str:
    after = header.partition("to=")[2].replace("<", " ").split()
    return after[0] if after else ""


def _harmony_route(header: str) -> Route:
    recipient = _recipient(header)
    if recipient in ("user", "assistant", "all"):
        recipient = ""
    return Route("<|channel|>analysis" in header, recipient.removeprefix("functions."))


def _muse_route(header: str) -> Route:
    return Route(_recipient(header) == "self")


HARMONY = Headers(
    begins=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "assistant", "to="),
    opens=("<|start|>", "<|channel|>"),
    closes=("<|end|>", "<|call|>", "<|return|>"),
    route=_harmony_route,
)
MUSE = Headers(
    begins=("<|start|>", "<|message|>", "assistant", "to="),
    opens=("<|start|>",),
    closes=("<|eom|>", "<|eot|>"),
    route=_muse_route,
)
