"""The bodies of the conversation endpoints: items and metadata in, the object out."""

import secrets
from collections.abc import Mapping

import msgspec
from pydantic import ValidationError

from mlxd.api.dialect import JsonObject
from mlxd.api.openai.errors import from_pydantic, wrong_type
from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.full_input import resolved
from mlxd.api.openai.responses.format.items import ITEMS, InputItem, mentioned_ids, stored_items
from mlxd.api.openai.responses.format.messages import item_messages
from mlxd.api.openai.responses.format.neutral_request import check_metadata
from mlxd.api.wire.images import Unseen
from mlxd.errors import InvalidField
from mlxd.history import Conversation, Item

MAX_ITEMS = 20
"""Items that are added at once."""


def referenced_ids(values: object) -> tuple[str, ...]:
    """The ids of items that `values` mentions and does not hold; raises `InvalidField`."""
    if isinstance(values, list) and len(values) > MAX_ITEMS:
        message = (
            f"Invalid 'items': array too long. Expected an array with maximum length "
            f"{MAX_ITEMS}, but got an array with length {len(values)} instead."
        )
        raise InvalidField("items", "value", message, "array_above_max_length")
    return mentioned_ids(_checked(values))


def new_items(values: object, referenced: Mapping[str, Item]) -> tuple[Item, ...]:
    """Items as a caller wrote them, each with an id, those that it mentions put in.

    Raises `InvalidField` or `ItemNotFound`.
    """
    models = _checked(values)
    for index, model in enumerate(models):
        # For what it raises: an item that can't be read would spoil every later request.
        list(item_messages(model, f"items.{index}", Unseen(), newest=True))
    assert isinstance(values, list), "what is no list was refused"
    # Items of a conversation are distinct whatever they say, so their ids are made at random.
    items = stored_items(values, secrets.token_hex(16))
    past = Past(referenced=referenced)
    return tuple(resolved(*each, past)[0] for each in zip(items, models, strict=True))


def metadata_json(value: object) -> bytes:
    """A caller's `metadata` as JSON; raises `InvalidField`."""
    if value is None:
        return b"{}"
    if not isinstance(value, dict):
        raise wrong_type("metadata", "an object", value)
    check_metadata(value)
    return msgspec.json.encode(value)


def conversation_object(conversation: Conversation) -> JsonObject:
    """A conversation as its owner sees it."""
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created),
        "metadata": msgspec.Raw(conversation.metadata),
    }


def deleted_conversation(name: str) -> JsonObject:
    """What is left of a conversation."""
    return {"id": name, "object": "conversation.deleted", "deleted": True}


def _checked(values: object) -> list[InputItem]:
    try:
        return ITEMS.validate_python(values)
    except ValidationError as error:
        raise from_pydantic(error, "items") from None
