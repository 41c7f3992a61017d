"""What a Responses request goes on from and what it adds, as one conversation."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlxd.api.dialect import Past
from mlxd.api.openai_errors import wrong_value
from mlxd.api.openai_responses_history import Said, messages, neutral_said
from mlxd.api.openai_responses_items import (
    AdditionalToolsItem,
    InputItem,
    MessageItem,
    ReferenceItem,
    read,
)
from mlxd.api.openai_responses_tools import OfferedTool
from mlxd.api.openai_responses_wire import HistoryRequest
from mlxd.errors import ItemNotFound
from mlxd.history import Item
from mlxd.messages import Message, Text


@dataclass(frozen=True)
class History:
    """The whole conversation; `input` is what the request adds to it, references put in.

    `tools` are those that items brought along; `lasting` are the items with the system's words.
    """

    messages: tuple[Message, ...]
    input: tuple[Item, ...]
    tools: tuple[OfferedTool, ...]
    lasting: tuple[Item, ...]


def recalled(wire: HistoryRequest, items: Sequence[Item], past: Past) -> History:
    """Raises `InvalidField` or `ItemNotFound`."""
    before = [(item, read(item)) for item in past.items]
    added = [_resolved(*each, past) for each in zip(items, wire.input or [], strict=True)]
    pieces = [Said("system", (Text(wire.instructions),))] if wire.instructions else []
    for _, model in before:
        pieces += neutral_said(model, "input")
    for index, (_, model) in enumerate(added):
        pieces += neutral_said(model, f"input.{index}")
    if not pieces:
        raise wrong_value("input", "nothing in it is read here.")
    whole = [*before, *added]
    return History(
        messages=messages(pieces),
        input=tuple(item for item, _ in added),
        tools=tuple(tool for _, model in whole for tool in _tools(model)),
        lasting=tuple(item for item, model in whole if _lasts(model)),
    )


def _resolved(item: Item, model: InputItem, past: Past) -> tuple[Item, InputItem]:
    if not isinstance(model, ReferenceItem):
        return item, model
    if (found := past.referenced.get(model.id)) is None:
        raise ItemNotFound(model.id)
    return found, read(found)


def _tools(model: InputItem) -> Sequence[OfferedTool]:
    return model.tools if isinstance(model, AdditionalToolsItem) else ()


def _lasts(model: InputItem) -> bool:
    said = isinstance(model, MessageItem) and model.role in ("system", "developer")
    return said or isinstance(model, AdditionalToolsItem)
