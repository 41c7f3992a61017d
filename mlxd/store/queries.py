"""Reading the store's rows, on one connection."""

import sqlite3
from typing import NamedTuple

from mlxd.errors import ConversationNotFound, ResponseNotFound
from mlxd.history import Conversation, Item, ResponseState, StoredResponse
from mlxd.store.nodes import Node, items_between

COLUMNS = """number, id, owner, thread, created, state, background, previous, root,
    conversation, base, asked, head, body"""


class StoredRow(NamedTuple):
    """A row of `responses`, with the columns in the order of `COLUMNS`.

    `group` is its column `thread`, `input_end` its column `asked`: files of the first version are
    out there, so the columns have kept their names.
    """

    number: int
    id: str
    owner: str
    group: int
    created: float
    state: ResponseState
    background: int
    previous: str
    root: str
    conversation: str
    base: Node
    input_end: Node
    head: Node
    body: bytes


class ConversationRow(NamedTuple):
    """A conversation's row, as far as writing needs it."""

    group: int
    created: float
    metadata: bytes
    head: Node


class Queries:
    """What is stored, by owner; nothing is changed here."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def counts(self) -> tuple[int, int]:
        """How many responses and conversations there are."""
        row = self.db.execute(
            "SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM conversations)"
        ).fetchone()
        return int(row[0]), int(row[1])

    def responses_of(self, group: int) -> tuple[StoredResponse, ...]:
        """The responses of a group, oldest first."""
        query = f"SELECT {COLUMNS} FROM responses WHERE thread = ? ORDER BY number"
        return tuple(self.whole(StoredRow(*row)) for row in self.db.execute(query, (group,)))

    def conversation_of(self, group: int) -> tuple[Conversation, tuple[Item, ...]] | None:
        """The conversation of a group with its items."""
        row = self.db.execute(
            "SELECT id, owner, created, metadata, head FROM conversations WHERE thread = ?",
            (group,),
        ).fetchone()
        return (Conversation(*row[:4]), items_between(self.db, row[4])) if row else None

    def anyones(self, response: str) -> StoredRow | None:
        """The row of a response, whoever made it."""
        query = f"SELECT {COLUMNS} FROM responses WHERE id = ?"
        row = self.db.execute(query, (response,)).fetchone()
        return StoredRow(*row) if row else None

    def find(self, owner: str, response: str) -> StoredRow | None:
        """The row of an owner's response."""
        row = self.anyones(response)
        return row if row and row.owner == owner else None

    def get(self, owner: str, response: str) -> StoredRow:
        """As `find`; raises `ResponseNotFound`."""
        row = self.find(owner, response)
        if row is None:
            raise ResponseNotFound(response)
        return row

    def conversation_row(self, owner: str, conversation: str) -> ConversationRow:
        """Where a conversation stands; raises `ConversationNotFound`."""
        row = self.db.execute(
            "SELECT thread, created, metadata, head FROM conversations WHERE id = ? AND owner = ?",
            (conversation, owner),
        ).fetchone()
        if row is None:
            raise ConversationNotFound(conversation)
        return ConversationRow(*row)

    def whole(self, row: StoredRow) -> StoredResponse:
        """A response with its items and frames."""
        frames = self.db.execute(
            "SELECT data FROM frames WHERE response = ? ORDER BY number", (row.number,)
        )
        return StoredResponse(
            id=row.id,
            owner=row.owner,
            created=row.created,
            state=row.state,
            body=row.body,
            input=items_between(self.db, row.input_end, row.base),
            output=items_between(self.db, row.head, row.input_end),
            previous=row.previous,
            root=row.root,
            conversation=row.conversation,
            background=bool(row.background),
            frames=tuple(data for (data,) in frames),
        )

    def was_deleted(self, response: str) -> bool:
        """Whether its owner deleted it, not long ago."""
        found = self.db.execute("SELECT 1 FROM deleted WHERE id = ?", (response,)).fetchone()
        return found is not None
