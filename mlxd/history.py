"""What is remembered between requests: the values of the store and the protocol it is used by.

Items are kept as the JSON of the Responses API, because that is what callers get back. The store
does not look inside them; the dialect makes them and reads them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from mlxd.status import StoreStatus

ResponseState = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
RUNNING: tuple[ResponseState, ...] = ("queued", "in_progress")


class Item(msgspec.Struct, frozen=True):
    """One item of a history; `body` is its JSON object, which holds `id` too."""

    id: str
    body: bytes


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response and what it was made from.

    `owner` is the hash of the API key that made it; `created` is in seconds since 1970. `body` is
    the Response object as JSON, its output included. `input` is what this call added to the history
    of `previous` (a response) or `conversation`; `root` is the first response of its chain, empty
    where it is that itself. `frames` are the events of a background response, so that its stream
    can be read again.
    """

    id: str
    owner: str
    created: float
    state: ResponseState
    body: bytes
    input: tuple[Item, ...] = ()
    output: tuple[Item, ...] = ()
    previous: str = ""
    root: str = ""
    conversation: str = ""
    background: bool = False
    frames: tuple[bytes, ...] = ()


class Conversation(msgspec.Struct, frozen=True):
    """A conversation as its owner named it; `metadata` is a JSON object."""

    id: str
    owner: str
    created: float
    metadata: bytes = b"{}"


class Store(Protocol):
    """Responses and conversations, each visible to its owner alone.

    What belongs to someone else does not exist: `ResponseNotFound`, `ConversationNotFound` or
    `ItemNotFound`. A method returns when what it changed is on the disk. Where that can't be had
    (disk full, read-only) it raises `StoreUnavailable` and nothing has changed. Using something
    keeps it from expiring for another time to live.
    """

    async def open(self) -> None:
        """Begin; responses that were running when the last server ended become `failed`."""

    async def close(self) -> None:
        """Finish what is being written, and let the next server in."""

    def status(self) -> StoreStatus:
        """The store's state now; cheap."""

    async def past(
        self, owner: str, *, previous: str = "", conversation: str = ""
    ) -> tuple[Item, ...]:
        """All items a new call goes on from, oldest first.

        Those of a response are what it was built on, its input and its output.
        """

    async def find_items(self, owner: str, ids: Iterable[str]) -> Mapping[str, Item]:
        """The items of these ids that exist, wherever they are stored."""

    async def put_response(self, response: StoredResponse) -> None:
        """Store a new response, or the new state of one.

        With the first state that is not running, its input and output are appended to its
        conversation, in one step with the response itself. A deleted response stays deleted, and
        one that has ended stays as it ended.
        """

    async def response(self, owner: str, response: str) -> StoredResponse:
        """A response that was put."""

    async def delete_response(self, owner: str, response: str) -> None:
        """Forget a response; responses that went on from it keep their history."""

    async def context(self, owner: str, response: str) -> tuple[Item, ...]:
        """Everything the response was answered from: what it was built on, and its input."""

    async def create_conversation(
        self, owner: str, *, metadata: bytes, items: Sequence[Item]
    ) -> Conversation:
        """A new conversation that begins with `items`."""

    async def conversation(self, owner: str, conversation: str) -> Conversation:
        """A conversation without its items."""

    async def update_conversation(
        self, owner: str, conversation: str, *, metadata: bytes
    ) -> Conversation:
        """Replace the metadata."""

    async def delete_conversation(self, owner: str, conversation: str) -> None:
        """Forget a conversation; responses that were made in it stay."""

    async def items(self, owner: str, conversation: str) -> tuple[Item, ...]:
        """All items of a conversation, oldest first."""

    async def add_items(self, owner: str, conversation: str, items: Sequence[Item]) -> None:
        """Append to a conversation."""

    async def delete_item(self, owner: str, conversation: str, item: str) -> Conversation:
        """Take one item out of a conversation."""
