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
    LocalOutputItem,
    MessageItem,
    ReferenceItem,
    parsed_item,
)
from mlxd.api.openai.responses.format.messages import item_messages, joined_messages
from mlxd.api.openai.responses.format.tools import OfferedTool, placed
from mlxd.api.openai.responses.format.wire import HistoryRequest
from mlxd.api.wire.images import Unseen
from mlxd.errors import InvalidField, ItemNotFound
from mlxd.history import Item
from mlxd.messages import Message, Text

CALLS = (FunctionCallItem, CustomCallItem, LocalCallItem)


@dataclass(frozen=True)
class FullInput:
    """The whole conversation; `input` is what the request adds to it, references put in.

    `tools` are those that items brought along, with their places; `lasting` are the items with the
    system's words; `unseen` are the places of what is no text.
    """

    messages: tuple[Message, ...]
    input: tuple[Item, ...]
    tools: tuple[tuple[str, OfferedTool], ...]
    lasting: tuple[Item, ...]
    unseen: tuple[str, ...] = ()


def full_input(wire: HistoryRequest, items: Sequence[Item], past: Past) -> FullInput:
    """Raises `InvalidField` or `ItemNotFound`."""
    before = [(item, parsed_item(item)) for item in past.items]
    added = [resolved(*each, past) for each in zip(items, wire.input or [], strict=True)]
    # Instructions are this request's alone: those of earlier ones are no items of the past.
    messages = [Message("system", (Text(wire.instructions),))] if wire.instructions else []
    whole = [*before, *added]
    newest = max((n for n, (_, model) in enumerate(whole) if _is_heard(model)), default=-1)
    stored, unseen = Unseen(), Unseen()
    brought: list[tuple[str, OfferedTool]] = []
    origin = "previous_response_id" if wire.previous_response_id else "conversation"
    for number, (_, model) in enumerate(whole):
        index = number - len(before)
        place, notes = (origin, stored) if index < 0 else (f"input.{index}", unseen)
        messages += item_messages(model, place, notes, newest=number == newest)
        if isinstance(model, AdditionalToolsItem):
            brought += placed(f"{place}.tools", model.tools)
    if not messages:
        raise wrong_value("input", "nothing in it is read here.")
    if wire.previous_response_id is not None:
        _check_calls([model for _, model in whole])
    return FullInput(
        messages=joined_messages(messages),
        input=tuple(item for item, _ in added),
        tools=tuple(brought),
        lasting=tuple(
            item
            for item, model in whole
            if isinstance(model, AdditionalToolsItem)
            or (isinstance(model, MessageItem) and model.role in ("system", "developer"))
        ),
        unseen=(*([origin] if stored.places else ()), *unseen.places),
    )


def _is_heard(model: InputItem) -> bool:
    """Whether it is what the model is to answer to now, if it is the last such item."""
    if isinstance(model, MessageItem):
        return model.role == "user"
    return isinstance(model, CallOutputItem | LocalOutputItem)


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
