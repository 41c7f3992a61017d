"""Items of the Responses API as the messages of a conversation, in no dialect.

What is said the same becomes the same, whichever way it was written, so that a longer conversation
keeps its beginning. What the model said in one go (thinking, text, calls) is one message again.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import assert_never

import msgspec

from mlxd.api.openai.responses.format.items import (
    AdditionalToolsItem,
    CallOutputItem,
    CompactionItem,
    CompactionTriggerItem,
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
from mlxd.api.openai.responses.format.parts import ContentPart, neutral_parts
from mlxd.api.openai.responses.format.tools import flat_name
from mlxd.api.openai.tools import custom_arguments
from mlxd.api.openai.wire import RefusalPart, TextPart
from mlxd.api.wire.images import Unseen
from mlxd.api.wire.opaque_text import unseal
from mlxd.messages import Message, Reasoning, Text, ToolCall, ToolResult

SUMMARY = "Summary of the conversation so far:\n\n"
"""What stands before the text of a compaction."""


def item_messages(
    item: InputItem, field: str, unseen: Unseen, *, newest: bool = False
) -> Iterator[Message]:
    """What one item adds to the conversation, if anything; raises `InvalidField`.

    `unseen` takes note of what is no text, but not in the `newest` of the user's messages.
    """
    match item:
        case MessageItem(role=role, content=content):
            passed = None if newest else unseen
            parts = tuple(neutral_parts(content, f"{field}.content", passed))
            if parts or role == "user":
                yield Message("system" if role == "developer" else role, parts)
        case FunctionCallItem():
            name = flat_name(item.name, item.namespace)
            yield Message("assistant", (ToolCall(item.call_id, name, item.arguments),))
        case CustomCallItem():
            name = flat_name(item.name, item.namespace)
            call = ToolCall(item.call_id, name, custom_arguments(item.input))
            yield Message("assistant", (call,))
        case CallOutputItem():
            parts = tuple(neutral_parts(item.output, f"{field}.output", unseen))
            yield Message("tool", (ToolResult(item.call_id, parts),))
        case ReasoningItem(content=content, encrypted_content=sealed, summary=summary):
            # Where the same thinking comes in several ways, the whole before its summary.
            if thought := _joined(content) or unseal(sealed or "") or _joined(summary):
                yield Message("assistant", (Reasoning(thought),))
        case CompactionItem():
            if text := unseal(item.encrypted_content):
                yield Message("user", (Text(SUMMARY + text),))
        case LocalCallItem():
            given = msgspec.json.encode(item.action or item.operation or {}).decode()
            name = item.type.removesuffix("_call")
            yield Message("assistant", (ToolCall(item.call_id, name, given),))
        case LocalOutputItem():
            output = "" if item.output is None else item.output
            text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
            call_id = item.call_id or str(item.id or "")
            yield Message("tool", (ToolResult(call_id, (Text(text),) if text else ()),))
        case AdditionalToolsItem() | ReferenceItem() | CompactionTriggerItem() | OtherItem():
            pass
        case _:
            assert_never(item)


def joined_messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The conversation; neighbours of the assistant's are one message."""
    joined: list[Message] = []
    # The model's thinking, text and calls are one message to a chat template, and several items.
    for role, group in groupby(messages, key=lambda message: message.role):
        if role == "assistant":
            joined.append(Message(role, tuple(part for each in group for part in each.parts)))
        else:
            joined += group
    return tuple(joined)


def not_read(items: Sequence[InputItem]) -> Iterator[str]:
    """The names, as fields, of items that are left out."""
    for item in items:
        match item:
            case CompactionItem(encrypted_content=sealed):
                left_out = unseal(sealed) is None
            case CompactionTriggerItem():
                left_out = item is not items[-1]
            case _:
                left_out = isinstance(item, OtherItem)
        if left_out:
            yield f"input.{item.type}"


def _joined(parts: Iterable[ContentPart]) -> str:
    texts = []
    for part in parts:
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                texts.append(text)
            case _:
                pass
    return "\n\n".join(texts)
