"""A store in a few dictionaries, which any number of event loops may share."""

import secrets
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from mlxd.errors import (
    ConversationNotFound,
    ItemNotFound,
    PreviousNotFound,
    ResponseNotFound,
    StoreUnavailable,
)
from mlxd.history import RUNNING, Conversation, Item, StoredResponse
from mlxd.status import StoreStatus


class MemoryStore:
    """Implements `Store`. `puts` are the states that were put, in order.

    While `full`, nothing can be written; so it is once `room` more responses were put.
    """

    def __init__(self) -> None:
        self.full = False
        self.room: int | None = None
        self.puts: list[tuple[str, str]] = []
        self.responses: dict[str, StoredResponse] = {}
        self.conversations: dict[str, Conversation] = {}
        self._items: dict[str, list[Item]] = {}
        self._deleted: set[str] = set()

    async def open(self) -> None:
        """Nothing has to be opened."""

    async def close(self) -> None:
        """Nothing has to be closed."""

    def status(self) -> StoreStatus:
        return StoreStatus("memory", responses=len(self.responses))

    async def past(
        self, owner: str, *, previous: str = "", conversation: str = ""
    ) -> tuple[Item, ...]:
        if conversation:
            return await self.items(owner, conversation)
        response = await self.response(owner, previous)
        return (*await self.context(owner, previous), *response.output)

    async def find_items(self, owner: str, ids: Iterable[str]) -> Mapping[str, Item]:
        known: dict[str, Item] = {}
        for response in self.responses.values():
            if response.owner == owner:
                known |= {item.id: item for item in (*response.input, *response.output)}
        for name, items in self._items.items():
            if self.conversations[name].owner == owner:
                known |= {item.id: item for item in items}
        return {name: known[name] for name in ids if name in known}

    async def put_response(self, response: StoredResponse) -> None:
        self._check_room()
        before = self.responses.get(response.id)
        if response.id in self._deleted or (before and before.state not in RUNNING):
            return
        if before is None and response.previous and response.previous not in self.responses:
            raise PreviousNotFound(response.previous)
        if before is None and response.conversation and response.conversation not in self._items:
            raise ConversationNotFound(response.conversation)
        self.puts.append((response.id, response.state))
        self.responses[response.id] = response
        items = self._items.get(response.conversation)
        if response.state not in RUNNING and items is not None:
            items += [*response.input, *response.output]

    async def response(self, owner: str, response: str) -> StoredResponse:
        found = self.responses.get(response)
        if found is None or found.owner != owner:
            raise ResponseNotFound(response)
        return found

    async def delete_response(self, owner: str, response: str) -> None:
        await self.response(owner, response)
        self._check_room()
        del self.responses[response]
        self._deleted.add(response)

    async def context(self, owner: str, response: str) -> tuple[Item, ...]:
        found = await self.response(owner, response)
        if not found.previous:
            return found.input
        return (*await self.past(owner, previous=found.previous), *found.input)

    async def create_conversation(
        self, owner: str, *, metadata: bytes, items: Sequence[Item]
    ) -> Conversation:
        self._check_room()
        made = Conversation(f"conv_{secrets.token_hex(16)}", owner, 1767225600.0, metadata)
        self.conversations[made.id] = made
        self._items[made.id] = list(items)
        return made

    async def conversation(self, owner: str, conversation: str) -> Conversation:
        found = self.conversations.get(conversation)
        if found is None or found.owner != owner:
            raise ConversationNotFound(conversation)
        return found

    async def update_conversation(
        self, owner: str, conversation: str, *, metadata: bytes
    ) -> Conversation:
        found = replace(await self.conversation(owner, conversation), metadata=metadata)
        self._check_room()
        self.conversations[conversation] = found
        return found

    async def delete_conversation(self, owner: str, conversation: str) -> None:
        await self.conversation(owner, conversation)
        self._check_room()
        del self.conversations[conversation], self._items[conversation]

    async def items(self, owner: str, conversation: str) -> tuple[Item, ...]:
        await self.conversation(owner, conversation)
        return tuple(self._items[conversation])

    async def add_items(self, owner: str, conversation: str, items: Sequence[Item]) -> None:
        await self.conversation(owner, conversation)
        self._check_room()
        self._items[conversation] += items

    async def delete_item(self, owner: str, conversation: str, item: str) -> Conversation:
        found = await self.conversation(owner, conversation)
        items = self._items[conversation]
        kept = [each for each in items if each.id != item]
        if len(kept) == len(items):
            raise ItemNotFound(item)
        self._check_room()
        self._items[conversation] = kept
        return found

    def _check_room(self) -> None:
        if self.full or self.room == 0:
            raise StoreUnavailable(reason="the disk is full")
        if self.room is not None:
            self.room -= 1
