"""The endpoints of conversations and their items."""

from collections.abc import Sequence

from mlxd.api.dialect import JsonObject
from mlxd.api.endpoints import ApiCall, Reply, View, json_reply
from mlxd.api.http.request_reader import RequestReader, ignored_header
from mlxd.api.openai.errors import missing
from mlxd.api.openai.responses.format.conversation_bodies import (
    conversation_object,
    deleted_conversation,
    metadata_json,
    new_items,
    referenced_ids,
)
from mlxd.api.openai.responses.format.pagination import item_list, requested_page
from mlxd.errors import ItemNotFound
from mlxd.history import Item, Store

FIELDS = ("items", "metadata")
"""What the bodies of these endpoints hold."""


def conversation_views(store: Store, reader: RequestReader) -> Sequence[View]:
    """Every endpoint."""
    own = ConversationEndpoints(store, reader)
    one, items = "/v1/conversations/<conversation>", "/v1/conversations/<conversation>/items"
    return (
        View("POST", "/v1/conversations", own.create),
        View("GET", one, own.read),
        View("POST", one, own.update),
        View("DELETE", one, own.delete),
        View("GET", items, own.items),
        View("POST", items, own.add_items),
        View("GET", f"{items}/<item>", own.item),
        View("DELETE", f"{items}/<item>", own.delete_item),
    )


class ConversationEndpoints:
    """Keeps conversations for their owners."""

    def __init__(self, store: Store, reader: RequestReader) -> None:
        self._store = store
        self._reader = reader

    async def create(self, call: ApiCall) -> Reply:
        """A new conversation, with items if some are given."""
        body = await self._reader.body(call.request, may_be_empty=True)
        conversation = await self._store.create_conversation(
            call.owner,
            metadata=metadata_json(body.get("metadata")),
            items=await self._checked_items(call, body.get("items")),
        )
        return json_reply(conversation_object(conversation), _ignored(body))

    async def read(self, call: ApiCall) -> Reply:
        """A conversation without its items."""
        return json_reply(
            conversation_object(await self._store.conversation(call.owner, _name(call)))
        )

    async def update(self, call: ApiCall) -> Reply:
        """Replace the metadata."""
        body = await self._reader.body(call.request)
        if "metadata" not in body:
            raise missing("metadata")
        conversation = await self._store.update_conversation(
            call.owner, _name(call), metadata=metadata_json(body["metadata"])
        )
        return json_reply(conversation_object(conversation), _ignored(body))

    async def delete(self, call: ApiCall) -> Reply:
        """Forget a conversation."""
        await self._store.delete_conversation(call.owner, _name(call))
        return json_reply(deleted_conversation(_name(call)))

    async def items(self, call: ApiCall) -> Reply:
        """A page of the items."""
        page = requested_page(call.query)
        return Reply(page.of(await self._store.items(call.owner, _name(call))))

    async def add_items(self, call: ApiCall) -> Reply:
        """Append items; the answer lists them."""
        body = await self._reader.body(call.request)
        if "items" not in body:
            raise missing("items")
        items = await self._checked_items(call, body["items"])
        await self._store.add_items(call.owner, _name(call), items)
        return Reply(item_list(items), _ignored(body))

    async def item(self, call: ApiCall) -> Reply:
        """One item."""
        wanted = call.caller.path_args["item"]
        for item in await self._store.items(call.owner, _name(call)):
            if item.id == wanted:
                return Reply(item.body)
        raise ItemNotFound(wanted)

    async def delete_item(self, call: ApiCall) -> Reply:
        """Take an item out; the answer is the conversation."""
        item = call.caller.path_args["item"]
        conversation = await self._store.delete_item(call.owner, _name(call), item)
        return json_reply(conversation_object(conversation))

    async def _checked_items(self, call: ApiCall, values: object) -> tuple[Item, ...]:
        """The items of a body; raises `InvalidField` or `ItemNotFound`."""
        if values is None:
            return ()
        names = referenced_ids(values)
        referenced = await self._store.find_items(call.owner, names) if names else {}
        return new_items(values, referenced)


def _name(call: ApiCall) -> str:
    return call.caller.path_args["conversation"]


def _ignored(body: JsonObject) -> dict[str, str]:
    """The header that names what of a body changed nothing."""
    return ignored_header([n for n, value in body.items() if n not in FIELDS and value is not None])
