"""Prompts that don't fit, for callers who would rather lose the oldest part than be refused."""

from collections.abc import Iterator, Sequence

from mlxd.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult

IMAGE = 2000
"""Characters that an image counts for."""
ROOM = 0.75
"""The part of the window that what is left should fill; the answer needs room too."""


def share_that_fits(tokens: int, window: int) -> float:
    """How much to leave of a prompt of so many tokens."""
    return min(1.0, ROOM * window / max(1, tokens))


def shortened(messages: Sequence[Message], share: float) -> tuple[Message, ...] | None:
    """About `share` of `messages`, without the oldest; None when there is nothing to leave out.

    The system's words stay, the last thing the user said, and everything since the last answer.
    A tool's result goes with its call.
    """
    groups = list(_groups(messages))
    users = [number for number, group in enumerate(groups) if group[0].role == "user"]
    lasting = {len(groups) - 1, *users[-1:]}
    lasting |= {number for number, group in enumerate(groups) if group[0].role == "system"}
    # By characters: what single messages have in tokens only the engine could say.
    spare = sum(map(_size, messages)) * (1 - share)
    gone: set[int] = set()
    for number, group in enumerate(groups):
        if number not in lasting and spare > 0:
            spare -= sum(map(_size, group))
            gone.add(number)
    if not gone:
        return None
    return tuple(m for number, group in enumerate(groups) if number not in gone for m in group)


def _groups(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Messages that only make sense together: an answer and the results of its calls."""
    group: list[Message] = []
    for message in messages:
        if group and message.role != "tool":
            yield group
            group = []
        group.append(message)
    if group:
        yield group


def _size(message: Message) -> int:
    return sum(map(_part_size, message.parts))


def _part_size(part: object) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text):
            return len(text)
        case ToolCall(name=name, arguments=arguments):
            return len(name) + len(arguments)
        case ToolResult(parts=parts):
            return sum(map(_part_size, parts))
        case Image():
            return IMAGE
        case _:
            return 0
