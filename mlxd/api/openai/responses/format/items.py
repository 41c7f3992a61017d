"""The items of the Responses API as they arrive, and as they are kept.

A client sends back what it was given, by way of its own types: ids that are not ours, nulls, and
keys of other versions are taken everywhere.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from mlxd.api.dialect import JsonObject
from mlxd.api.openai.responses.format.parts import Content
from mlxd.api.openai.responses.format.tools import OfferedTool
from mlxd.api.openai.wire import AN_OBJECT, FAIL_FAST, Wire, expected
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


def _as_json_text(value: object) -> object:
    """Arguments of a past call: any text, as the model may have broken it; some send objects."""
    if value is None:
        return ""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else value


class FunctionCallItem(AnyItem):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: Annotated[str, BeforeValidator(_as_json_text)] = ""
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
        *("apply_patch_call_output",),
    }
)


def _item_type_tag(value: dict[str, Any]) -> str:
    """A reference may be an id alone; anything else without a type is a message."""
    kind = value.get("type")
    if kind is not None:
        return f"#{kind}" if isinstance(kind, str) and kind in KNOWN_TYPES else "#other"
    told = {name for name, given in value.items() if given is not None}
    return "#item_reference" if told == {"id"} else "#message"


InputItem = Annotated[
    Annotated[MessageItem, Tag("#message")]
    | Annotated[FunctionCallItem, Tag("#function_call")]
    | Annotated[CustomCallItem, Tag("#custom_tool_call")]
    | Annotated[CallOutputItem, Tag("#function_call_output")]
    | Annotated[CallOutputItem, Tag("#custom_tool_call_output")]
    | Annotated[ReasoningItem, Tag("#reasoning")]
    | Annotated[CompactionItem, Tag("#compaction")]
    | Annotated[CompactionItem, Tag("#compaction_summary")]
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


def as_items(value: object) -> object:
    """A string as input is one message of the user's."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if isinstance(value, list):
        return value
    raise expected("one of a string or array of objects")


InputItems = Annotated[list[InputItem], FAIL_FAST]
ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(InputItems)
ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)


def read(item: Item) -> InputItem:
    """An item that was kept."""
    return ITEM.validate_json(item.body)


def mentioned(models: Iterable[InputItem]) -> tuple[str, ...]:
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


def kept(values: Sequence[JsonObject], salt: str = "") -> tuple[Item, ...]:
    """The items as they are kept, each with its id; `values` must have been validated.

    An item without an id gets one made from what it says and from `salt`, so that the same input
    sent again is the same items.
    """
    seen: Counter[bytes] = Counter()
    return tuple(_kept(value, salt, seen) for value in values)


def _kept(value: JsonObject, salt: str, seen: Counter[bytes]) -> Item:
    body = {name: given for name, given in value.items() if given is not None}
    body.setdefault("type", "item_reference" if set(body) == {"id"} else "message")
    _FILL.get(body["type"], _fill_nothing)(body)
    given = body.pop("id", None)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_ID:
        said = msgspec.json.encode(body, order="sorted")
        source = b"%d:%s:" % (seen[said], salt.encode()) + said
        seen[said] += 1
        given = f"{PREFIXES.get(body['type'], 'item')}_{hashlib.sha256(source).hexdigest()[:48]}"
    return Item(given, msgspec.json.encode({"id": given, **body}))


def _fill_nothing(body: JsonObject) -> None:
    pass


def _fill_message(body: JsonObject) -> None:
    """The shape in which messages are given back: parts, never a string."""
    answers = body["role"] == "assistant"
    content = body.get("content", [])
    if isinstance(content, str):
        content = [{"type": "output_text" if answers else "input_text", "text": content}]
    body["content"] = [_filled_part(part) for part in content]
    body.setdefault("status", "completed")


def _filled_part(part: JsonObject) -> JsonObject:
    match part:
        case {"type": "output_text"}:
            told = {name: given for name, given in part.items() if given is not None}
            return {"annotations": [], "logprobs": [], **told}
        case {"type": "input_image"}:
            return {"detail": "auto", **part}
        case _:
            return part


def _fill_call(body: JsonObject) -> None:
    body["arguments"] = _as_json_text(body.get("arguments"))
    body.setdefault("status", "completed")


def _fill_custom_call(body: JsonObject) -> None:
    body.setdefault("input", "")
    body.setdefault("status", "completed")


def _fill_output(body: JsonObject) -> None:
    body.setdefault("output", "")
    body.setdefault("status", "completed")


def _fill_reasoning(body: JsonObject) -> None:
    summary = body.setdefault("summary", [])
    if isinstance(summary, str):
        body["summary"] = [{"type": "summary_text", "text": summary}]
    if isinstance(body.get("content"), str):
        body["content"] = [{"type": "reasoning_text", "text": body["content"]}]


_FILL = {
    "message": _fill_message,
    "function_call": _fill_call,
    "function_call_output": _fill_output,
    "custom_tool_call": _fill_custom_call,
    "custom_tool_call_output": _fill_output,
    "reasoning": _fill_reasoning,
}
