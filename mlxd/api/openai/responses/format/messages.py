"""Items of the Responses API as the messages of a conversation, in no dialect.

What is said the same becomes the same, whichever way it was written, so that a longer conversation
keeps its beginning. What the model said in one go (thinking, text, calls) is one message again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import assert_never

import msgspec

from mlxd.api.openai.errors import unsupported
from mlxd.api.openai.responses.format.items import (
    AdditionalToolsItem,
    CallOutputItem,
    CompactionItem,
    CustomCallItem,
    FunctionCallItem,
    InputItem,
    LocalCallItem,
    LocalOutputItem,
    MessageItem,
    OtherItem,
    ReasoningItem,
    ReferenceItem,
)
from mlxd.api.openai.responses.format.parts import ContentPart, RefusalPart, TextPart, neutral_parts
from mlxd.api.openai.responses.format.tools import flat_name
from mlxd.api.openai.tools import custom_arguments
from mlxd.api.wire.opaque_text import unseal
from mlxd.messages import Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult

SUMMARY = "Summary of the conversation so far:\n\n"
"""What stands before the text of a compaction."""


@dataclass(frozen=True)
class Said:
    """What one item adds to the conversation."""

    role: Role
    parts: tuple[Part, ...]


def neutral_said(item: InputItem, field: str) -> Iterator[Said]:
    """What an item says, if it says anything here; raises `InvalidField`."""
    match item:
        case MessageItem():
            yield from _message(item, f"{field}.content")
        case FunctionCallItem():
            name = flat_name(item.name, item.namespace)
            yield Said("assistant", (ToolCall(item.call_id, name, item.arguments),))
        case CustomCallItem():
            name = flat_name(item.name, item.namespace)
            call = ToolCall(item.call_id, name, custom_arguments(item.input))
            yield Said("assistant", (call,))
        case CallOutputItem():
            parts = tuple(neutral_parts(item.output, f"{field}.output"))
            yield Said("tool", (ToolResult(item.call_id, parts),))
        case ReasoningItem():
            if thought := _thought(item):
                yield Said("assistant", (Reasoning(thought),))
        case CompactionItem():
            if summary := unseal(item.encrypted_content):
                yield Said("user", (Text(SUMMARY + summary),))
        case LocalCallItem():
            given = msgspec.json.encode(item.action or item.operation or {}).decode()
            name = item.type.removesuffix("_call")
            yield Said("assistant", (ToolCall(item.call_id, name, given),))
        case LocalOutputItem():
            text = item.output if isinstance(item.output, str) else _json(item.output)
            call_id = item.call_id or str(item.id or "")
            yield Said("tool", (ToolResult(call_id, (Text(text),) if text else ()),))
        case AdditionalToolsItem() | ReferenceItem() | OtherItem():
            pass
        case _:
            assert_never(item)


def messages(pieces: Iterable[Said]) -> tuple[Message, ...]:
    """The conversation; neighbours of the assistant's are one message."""
    found: list[Message] = []
    for role, group in groupby(pieces, key=lambda piece: piece.role):
        if role == "assistant":
            found.append(Message(role, tuple(part for piece in group for part in piece.parts)))
        else:
            found += [Message(role, piece.parts) for piece in group]
    return tuple(found)


def not_read(items: Iterable[InputItem]) -> Iterator[str]:
    """The names, as fields, of items that are left out."""
    for item in items:
        foreign = isinstance(item, CompactionItem) and unseal(item.encrypted_content) is None
        if isinstance(item, OtherItem) or foreign:
            yield f"input.{item.type}"


def _message(item: MessageItem, field: str) -> Iterator[Said]:
    parts = tuple(neutral_parts(item.content, field))
    if item.role == "user":
        yield Said("user", parts)
        return
    if any(isinstance(part, Image) for part in parts):
        raise unsupported(field, "only user messages and outputs of tools may hold images.")
    if parts:
        yield Said("assistant" if item.role == "assistant" else "system", parts)


def _thought(item: ReasoningItem) -> str:
    """The whole thinking where there is more than one way to know it."""
    told = _joined(item.content)
    return told or unseal(item.encrypted_content or "") or _joined(item.summary)


def _joined(parts: Iterable[ContentPart]) -> str:
    texts = []
    for part in parts:
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                texts.append(text)
            case _:
                pass
    return "\n\n".join(texts)


def _json(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
