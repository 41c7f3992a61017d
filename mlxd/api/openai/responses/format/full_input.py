"""What a Responses request goes on from and what it adds, as one conversation."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlxd.api.openai.errors import wrong_value
from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.items import (
    AdditionalToolsItem,
    CallOutputItem,
    CompactionItem,
    CustomCallItem,
    FunctionCallItem,
    InputItem,
    LocalCallItem,
    MessageItem,
    ReferenceItem,
    parsed_item,
)
from mlxd.api.openai.responses.format.messages import item_messages, joined_messages
from mlxd.api.openai.responses.format.tools import OfferedTool
from mlxd.api.openai.responses.format.wire import HistoryRequest
from mlxd.errors import InvalidField, ItemNotFound
from mlxd.history import Item
from mlxd.messages import Message, Text

CALLS = (FunctionCallItem, CustomCallItem, LocalCallItem)


@dataclass(frozen=True)
class FullInput:
    """The whole conversation; `input` is what the request adds to it, references put in.

    `tools` are those that items brought along; `lasting` are the items with the system's words.
    """

    messages: tuple[Message, ...]
    input: tuple[Item, ...]
    tools: tuple[OfferedTool, ...]
    lasting: tuple[Item, ...]


def full_input(wire: HistoryRequest, items: Sequence[Item], past: Past) -> FullInput:
    """Raises `InvalidField` or `ItemNotFound`."""
    before = [(item, parsed_item(item)) for item in past.items]
    added = [resolved(*each, past) for each in zip(items, wire.input or [], strict=True)]
    # Instructions are this request's alone: those of earlier ones are no items of the past.
    messages = [Message("system", (Text(wire.instructions),))] if wire.instructions else []
    for _, model in before:
        messages += item_messages(model, "input")
    for index, (_, model) in enumerate(added):
        messages += item_messages(model, f"input.{index}")
    if not messages:
        raise wrong_value("input", "nothing in it is read here.")
    whole = [*before, *added]
    if wire.previous_response_id is not None:
        _check_calls([model for _, model in whole])
    brought = [model.tools for _, model in whole if isinstance(model, AdditionalToolsItem)]
    return FullInput(
        messages=joined_messages(messages),
        input=tuple(item for item, _ in added),
        tools=tuple(tool for tools in brought for tool in tools),
        lasting=tuple(
            item
            for item, model in whole
            if isinstance(model, AdditionalToolsItem)
            or (isinstance(model, MessageItem) and model.role in ("system", "developer"))
        ),
    )


def resolved(item: Item, model: InputItem, past: Past) -> tuple[Item, InputItem]:
    """What a reference refers to, anything else as it is; raises `ItemNotFound`."""
    if not isinstance(model, ReferenceItem):
        return item, model
    if (found := past.referenced.get(model.id)) is None:
        raise ItemNotFound(model.id)
    return found, parsed_item(found)


def _check_calls(models: Sequence[InputItem]) -> None:
    """Raises `InvalidField` for the output of a call that nobody made.

    Only for a history that the server has as a whole: callers may leave out what they like, and so
    does a compaction.
    """
    if any(isinstance(model, CompactionItem) for model in models):
        return
    made = {model.call_id for model in models if isinstance(model, CALLS)}
    for model in models:
        if isinstance(model, CallOutputItem) and model.call_id not in made:
            message = f"No tool call found for function call output with call_id {model.call_id}."
            raise InvalidField("input", "value", message)
