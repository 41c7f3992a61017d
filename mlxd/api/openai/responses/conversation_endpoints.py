"""The endpoints of conversations and their items."""

from collections.abc import Mapping
from typing import cast

import msgspec
from quart import Response

from mlxd.api.dialect import ItemDialect, JsonObject
from mlxd.api.http.error_replies import json_response
from mlxd.api.http.request_reader import Asked, Operation, Reception, ignored_header
from mlxd.api.openai.responses.pagination import asked_page, item_list
from mlxd.errors import InvalidField, ItemNotFound
from mlxd.history import Conversation, Item, Store

MAX_ITEMS = 20
"""Items that are added at once."""
FIELDS = ("items", "metadata")
"""What the bodies of these endpoints hold."""


class ConversationViews:
    """Keeps conversations for their owners."""

    def __init__(self, store: Store, reception: Reception) -> None:
        self._store = store
        self._reception = reception

    def table(self) -> Mapping[str, Operation]:
        """The endpoint of each operation."""
        return {
            "create_conversation": self.create,
            "conversation": self.read,
            "update_conversation": self.update,
            "delete_conversation": self.delete,
            "items": self.items,
            "add_items": self.add_items,
            "item": self.item,
            "delete_item": self.delete_item,
        }

    async def create(self, asked: Asked) -> Response:
        """A new conversation, with items if some are given."""
        body = await self._reception.body(asked, may_be_empty=True)
        conversation = await self._store.create_conversation(
            asked.owner,
            metadata=_dialect(asked).metadata(body.get("metadata")),
            items=await self._checked_items(asked, body.get("items")),
        )
        return json_response(conversation_object(conversation), headers=_ignored(body))

    async def read(self, asked: Asked) -> Response:
        """A conversation without its items."""
        conversation = await self._store.conversation(asked.owner, asked.path("conversation"))
        return json_response(conversation_object(conversation))

    async def update(self, asked: Asked) -> Response:
        """Replace the metadata."""
        body = await self._reception.body(asked)
        if "metadata" not in body:
            message = "Missing required parameter: 'metadata'."
            raise InvalidField("metadata", "missing", message)
        conversation = await self._store.update_conversation(
            asked.owner,
            asked.path("conversation"),
            metadata=_dialect(asked).metadata(body["metadata"]),
        )
        return json_response(conversation_object(conversation), headers=_ignored(body))

    async def delete(self, asked: Asked) -> Response:
        """Forget a conversation."""
        name = asked.path("conversation")
        await self._store.delete_conversation(asked.owner, name)
        return json_response({"id": name, "object": "conversation.deleted", "deleted": True})

    async def items(self, asked: Asked) -> Response:
        """A page of the items."""
        page = asked_page(asked.request.args)
        items = await self._store.items(asked.owner, asked.path("conversation"))
        return json_bytes(page.of(items))

    async def add_items(self, asked: Asked) -> Response:
        """Append items; the answer lists them."""
        body = await self._reception.body(asked)
        if "items" not in body:
            raise InvalidField("items", "missing", "Missing required parameter: 'items'.")
        items = await self._checked_items(asked, body["items"])
        await self._store.add_items(asked.owner, asked.path("conversation"), items)
        return json_bytes(item_list(items), _ignored(body))

    async def item(self, asked: Asked) -> Response:
        """One item."""
        wanted = asked.path("item")
        for item in await self._store.items(asked.owner, asked.path("conversation")):
            if item.id == wanted:
                return json_bytes(item.body)
        raise ItemNotFound(wanted)

    async def delete_item(self, asked: Asked) -> Response:
        """Take an item out; the answer is the conversation."""
        conversation = await self._store.delete_item(
            asked.owner, asked.path("conversation"), asked.path("item")
        )
        return json_response(conversation_object(conversation))

    async def _checked_items(self, asked: Asked, values: object) -> tuple[Item, ...]:
        """The items of a body; raises `InvalidField` or `ItemNotFound`."""
        if values is None:
            return ()
        if isinstance(values, list) and len(values) > MAX_ITEMS:
            message = (
                f"Invalid 'items': array too long. Expected an array with maximum length "
                f"{MAX_ITEMS}, but got an array with length {len(values)} instead."
            )
            raise InvalidField("items", "value", message, "array_above_max_length")
        dialect = _dialect(asked)
        names = dialect.references(values, "items")
        referenced = await self._store.find_items(asked.owner, names) if names else {}
        return dialect.items(values, "items", referenced)


def json_bytes(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A response with JSON that is already written."""
    return Response(body, 200, dict(headers or {}), content_type="application/json")


def conversation_object(conversation: Conversation) -> JsonObject:
    """A conversation as its owner sees it."""
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(conversation.created),
        "metadata": msgspec.Raw(conversation.metadata),
    }


def _dialect(asked: Asked) -> ItemDialect:
    return cast(ItemDialect, asked.dialect)


def _ignored(body: JsonObject) -> dict[str, str]:
    """The header that names what of a body changed nothing."""
    return ignored_header([n for n, value in body.items() if n not in FIELDS and value is not None])
