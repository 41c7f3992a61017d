"""The items of the Responses API as they arrive, and as they are stored.

A client sends back what it was given, by way of its own types: ids that are not ours, nulls, and
keys of other versions are taken everywhere.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter

from mlxd.api.dialect import JsonObject
from mlxd.api.openai.responses.format.parts import Content
from mlxd.api.openai.responses.format.tools import OfferedTool
from mlxd.api.openai.wire import (
    AN_OBJECT,
    FAIL_FAST,
    CallArguments,
    Wire,
    arguments_text,
    without_nulls,
)
from mlxd.history import Item

MAX_ID = 256
"""Characters of an item's id; a longer one is replaced."""


class AnyItem(Wire):
    """What every item may carry."""

    id: Any = None
    status: Any = None
    caller: Any = None
    created_by: Any = None


class MessageItem(AnyItem):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content = Field(default_factory=list)
    phase: Any = None


class FunctionCallItem(AnyItem):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: CallArguments = ""
    namespace: str | None = None


class CustomCallItem(AnyItem):
    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str = ""
    namespace: str | None = None


class CallOutputItem(AnyItem):
    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str
    output: Content = Field(default_factory=list)
    name: Any = None


class ReasoningItem(AnyItem):
    type: Literal["reasoning"]
    summary: Content = Field(default_factory=list)
    content: Content = Field(default_factory=list)
    encrypted_content: str | None = None


class CompactionItem(AnyItem):
    type: Literal["compaction", "compaction_summary"]
    encrypted_content: str


class CompactionTriggerItem(AnyItem):
    """As the last item: the answer is to be a compaction of all that stands before."""

    type: Literal["compaction_trigger"]


class ReferenceItem(AnyItem):
    type: Literal["item_reference"] = "item_reference"
    id: str


class AdditionalToolsItem(AnyItem):
    """Brings tools into the conversation."""

    type: Literal["additional_tools"]
    role: Any = None
    tools: Annotated[list[OfferedTool], FAIL_FAST]


class LocalCallItem(AnyItem):
    """A call of a tool of OpenAI's that the caller runs; it reads like any call."""

    type: Literal["local_shell_call", "shell_call", "apply_patch_call"]
    call_id: str
    action: Any = None
    operation: Any = None


class LocalOutputItem(AnyItem):
    type: Literal["local_shell_call_output", "shell_call_output", "apply_patch_call_output"]
    call_id: str | None = None
    output: Any = None


class OtherItem(Wire):
    """What a vendor's own tools left behind, or an item nobody has heard of; not read."""

    model_config = ConfigDict(extra="ignore")

    type: str


KNOWN_TYPES = frozenset(
    {
        *("message", "function_call", "custom_tool_call", "function_call_output"),
        *("custom_tool_call_output", "reasoning", "compaction", "compaction_summary"),
        *("item_reference", "additional_tools", "local_shell_call", "shell_call"),
        *("apply_patch_call", "local_shell_call_output", "shell_call_output"),
        *("apply_patch_call_output", "compaction_trigger"),
    }
)


def _item_type_tag(value: dict[str, Any]) -> str:
    """A reference may be an id alone; anything else without a type is a message."""
    kind = value.get("type")
    if kind is not None:
        return f"#{kind}" if isinstance(kind, str) and kind in KNOWN_TYPES else "#other"
    return "#item_reference" if without_nulls(value).keys() == {"id"} else "#message"


InputItem = Annotated[
    Annotated[MessageItem, Tag("#message")]
    | Annotated[FunctionCallItem, Tag("#function_call")]
    | Annotated[CustomCallItem, Tag("#custom_tool_call")]
    | Annotated[CallOutputItem, Tag("#function_call_output")]
    | Annotated[CallOutputItem, Tag("#custom_tool_call_output")]
    | Annotated[ReasoningItem, Tag("#reasoning")]
    | Annotated[CompactionItem, Tag("#compaction")]
    | Annotated[CompactionItem, Tag("#compaction_summary")]
    | Annotated[CompactionTriggerItem, Tag("#compaction_trigger")]
    | Annotated[ReferenceItem, Tag("#item_reference")]
    | Annotated[AdditionalToolsItem, Tag("#additional_tools")]
    | Annotated[LocalCallItem, Tag("#local_shell_call")]
    | Annotated[LocalCallItem, Tag("#shell_call")]
    | Annotated[LocalCallItem, Tag("#apply_patch_call")]
    | Annotated[LocalOutputItem, Tag("#local_shell_call_output")]
    | Annotated[LocalOutputItem, Tag("#shell_call_output")]
    | Annotated[LocalOutputItem, Tag("#apply_patch_call_output")]
    | Annotated[OtherItem, Tag("#other")],
    Discriminator(_item_type_tag),
    AN_OBJECT,
]


def user_message(text: str) -> list[JsonObject]:
    """The items that a string as input stands for."""
    return [{"type": "message", "role": "user", "content": text}]


InputItems = Annotated[list[InputItem], FAIL_FAST]
ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(InputItems)
ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)


def parsed_item(item: Item) -> InputItem:
    """An item that was stored."""
    return ITEM.validate_json(item.body)


def mentioned_ids(models: Iterable[InputItem]) -> tuple[str, ...]:
    """The ids of items that are referred to and not sent."""
    return tuple(model.id for model in models if isinstance(model, ReferenceItem))


PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}


# What clients' types demand of items that come back, and callers leave out of those they send.
_DEFAULTS: Mapping[str, JsonObject] = {
    "message": {"content": (), "status": "completed"},
    "function_call": {"arguments": "", "status": "completed"},
    "function_call_output": {"output": "", "status": "completed"},
    "custom_tool_call": {"input": "", "status": "completed"},
    "custom_tool_call_output": {"output": "", "status": "completed"},
    "reasoning": {"summary": ()},
}


def stored_items(values: Sequence[JsonObject], salt: str = "") -> tuple[Item, ...]:
    """The items as they are stored, each with its id; `values` must have been validated.

    An item without an id gets one made from its content and from `salt`, so that the same input
    sent again is the same items.
    """
    items = []
    seen: Counter[bytes] = Counter()
    for value in values:
        body = _stored_body(value)
        id_ = body.pop("id", None)
        if not isinstance(id_, str) or not 0 < len(id_) <= MAX_ID:
            content = msgspec.json.encode(body, order="sorted")
            # The same words twice in one input are two items.
            source = b"%d:%s:" % (seen[content], salt.encode()) + content
            seen[content] += 1
            id_ = f"{PREFIXES.get(body['type'], 'item')}_{hashlib.sha256(source).hexdigest()[:48]}"
        items.append(Item(id_, msgspec.json.encode({"id": id_, **body})))
    return tuple(items)


def _stored_body(value: JsonObject) -> JsonObject:
    """The shape in which items are given back: parts, never a string, and no field missing."""
    body = without_nulls(value)
    kind = body.setdefault("type", "item_reference" if set(body) == {"id"} else "message")
    for name, default in _DEFAULTS.get(kind, {}).items():
        body.setdefault(name, default)
    match kind:
        case "message":
            text_type = "output_text" if body["role"] == "assistant" else "input_text"
            body["content"] = [_stored_part(part) for part in _parts(body["content"], text_type)]
        case "function_call":
            body["arguments"] = arguments_text(body["arguments"])
        case "reasoning":
            body["summary"] = _parts(body["summary"], "summary_text")
            if "content" in body:
                body["content"] = _parts(body["content"], "reasoning_text")
    return body


def _parts(content: Any, text_type: str) -> Any:
    return [{"type": text_type, "text": content}] if isinstance(content, str) else content


def _stored_part(part: JsonObject) -> JsonObject:
    match part:
        case {"type": "output_text"}:
            return {"annotations": [], "logprobs": [], **without_nulls(part)}
        case {"type": "input_image"}:
            return {"detail": "auto", **part}
        case _:
            return part
