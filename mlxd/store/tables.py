"""What the store does, on one connection, in the thread that owns it.

Every method that changes something is one transaction. `now` is the store's own time, by which
groups expire; it is written down with what was used.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from mlxd.errors import ItemNotFound, PreviousNotFound
from mlxd.history import RUNNING, Conversation, Item, StoredResponse
from mlxd.store.nodes import Node, collect, extend, items_between, without
from mlxd.store.queries import COLUMNS, Queries, StoredRow

RESTARTED = "The server was restarted while this response was being generated."


class Tables(Queries):
    """Responses, conversations and their histories.

    A use is written down only if the last one that was is older than `slack` seconds, so that
    reading does not mean writing; whoever expires groups has to allow for that.
    """

    def __init__(self, db: sqlite3.Connection, now: Callable[[], float], slack: float) -> None:
        super().__init__(db)
        self._now = now
        self._slack = slack

    def now(self) -> float:
        """The store's own time in seconds."""
        return self._now()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        # A plain BEGIN takes the lock at the first write, which can fail when half of it is read.
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def past(self, owner: str, previous: str, conversation: str) -> tuple[Item, ...]:
        """As `Store.past`."""
        if previous:
            row = self.find(owner, previous)
            if row is None:
                raise PreviousNotFound(previous)
            self._touch(row.group)
            return items_between(self.db, row.head)
        return self.items(owner, conversation) if conversation else ()

    def find_items(self, owner: str, ids: Iterable[str]) -> Mapping[str, Item]:
        """As `Store.find_items`; the last written one, if an id was used again."""
        query = "SELECT body FROM items WHERE owner = ? AND name = ? ORDER BY id DESC LIMIT 1"
        found = {name: self.db.execute(query, (owner, name)).fetchone() for name in ids}
        return {name: Item(name, row[0]) for name, row in found.items() if row}

    def put_response(self, response: StoredResponse) -> None:
        """As `Store.put_response`."""
        with self.transaction():
            row = self.anyones(response.id)
            if row is None:
                if self.was_deleted(response.id):
                    return
                row = self._insert(response)
            elif row.owner != response.owner or row.state not in RUNNING:
                return
            else:
                row = self._update(row, response)
            # Frames are only ever added, so those that are there are not written again.
            query = "SELECT count(*) FROM frames WHERE response = ?"
            (there,) = self.db.execute(query, (row.number,)).fetchone()
            new = enumerate(response.frames[there:], there)
            self.db.executemany(
                "INSERT INTO frames (response, number, data) VALUES (?, ?, ?)",
                ((row.number, number, data) for number, data in new),
            )
            if response.state not in RUNNING:
                self._append(response)
            self._touch_now(row.group)

    def response(self, owner: str, response: str) -> StoredResponse:
        """As `Store.response`."""
        row = self.get(owner, response)
        self._touch(row.group)
        return self.whole(row)

    def delete_response(self, owner: str, response: str) -> None:
        """As `Store.delete_response`."""
        with self.transaction():
            row = self.get(owner, response)
            self.db.execute("DELETE FROM responses WHERE number = ?", (row.number,))
            self.db.execute(
                "INSERT OR REPLACE INTO deleted (id, at) VALUES (?, ?)", (row.id, self._now())
            )
            # From the end: a node is removed only when no other one has it as its parent.
            for node in dict.fromkeys((row.head, row.input_end, row.base)):
                collect(self.db, node)
            self._touch_now(row.group)
            self._drop_if_empty(row.group)

    def context(self, owner: str, response: str) -> tuple[Item, ...]:
        """As `Store.context`."""
        row = self.get(owner, response)
        self._touch(row.group)
        return items_between(self.db, row.input_end)

    def create_conversation(
        self, owner: str, created: float, metadata: bytes, items: Sequence[Item]
    ) -> Conversation:
        """As `Store.create_conversation`; `created` is in seconds since 1970."""
        made = Conversation(f"conv_{secrets.token_hex(24)}", owner, created, metadata)
        with self.transaction():
            group = self._new_group(made.id, owner)
            self.db.execute(
                "INSERT INTO conversations (id, owner, thread, created, metadata, head)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (made.id, owner, group, created, metadata, extend(self.db, owner, None, items)),
            )
        return made

    def conversation(self, owner: str, conversation: str) -> Conversation:
        """As `Store.conversation`."""
        found = self.conversation_row(owner, conversation)
        self._touch(found.group)
        return Conversation(conversation, owner, found.created, found.metadata)

    def update_conversation(self, owner: str, conversation: str, metadata: bytes) -> Conversation:
        """As `Store.update_conversation`."""
        with self.transaction():
            found = self.conversation_row(owner, conversation)
            self.db.execute(
                "UPDATE conversations SET metadata = ? WHERE id = ?", (metadata, conversation)
            )
            self._touch_now(found.group)
        return Conversation(conversation, owner, found.created, metadata)

    def delete_conversation(self, owner: str, conversation: str) -> None:
        """As `Store.delete_conversation`."""
        with self.transaction():
            found = self.conversation_row(owner, conversation)
            self.db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
            collect(self.db, found.head)
            self._touch_now(found.group)
            self._drop_if_empty(found.group)

    def items(self, owner: str, conversation: str) -> tuple[Item, ...]:
        """As `Store.items`."""
        found = self.conversation_row(owner, conversation)
        self._touch(found.group)
        return items_between(self.db, found.head)

    def add_items(self, owner: str, conversation: str, items: Sequence[Item]) -> None:
        """As `Store.add_items`."""
        with self.transaction():
            found = self.conversation_row(owner, conversation)
            self._set_head(conversation, extend(self.db, owner, found.head, items))
            self._touch_now(found.group)

    def delete_item(self, owner: str, conversation: str, item: str) -> Conversation:
        """As `Store.delete_item`."""
        with self.transaction():
            found = self.conversation_row(owner, conversation)
            # What comes after the item becomes new nodes: a node's hash holds all before it.
            head, left_out = without(self.db, owner, found.head, item)
            if not left_out:
                raise ItemNotFound(item)
            self._set_head(conversation, head)
            collect(self.db, found.head)
            self._touch_now(found.group)
        return Conversation(conversation, owner, found.created, found.metadata)

    def fail_running(self) -> int:
        """Make what was running when the last server ended `failed`; how many there were."""
        query = f"SELECT {COLUMNS} FROM responses WHERE state IN (?, ?) ORDER BY number"
        rows = [StoredRow(*row) for row in self.db.execute(query, RUNNING)]
        error = {"code": "server_error", "message": RESTARTED}
        for row in rows:
            try:
                fields = msgspec.json.decode(row.body, type=dict[str, object])
            except (msgspec.DecodeError, UnicodeDecodeError):
                fields = {}
            body = msgspec.json.encode(fields | {"status": "failed", "error": error})
            with self.transaction():
                self.db.execute(
                    "UPDATE responses SET state = 'failed', body = ? WHERE number = ?",
                    (body, row.number),
                )
                self._touch_now(row.group)
        return len(rows)

    def _insert(self, new: StoredResponse) -> StoredRow:
        base: Node = None
        if new.previous:
            before = self.find(new.owner, new.previous)
            if before is None:
                raise PreviousNotFound(new.previous)
            group, base = before.group, before.head
        elif new.conversation:
            found = self.conversation_row(new.owner, new.conversation)
            group, base = found.group, found.head
        else:
            group = self._new_group(new.id, new.owner)
        input_end = extend(self.db, new.owner, base, new.input)
        head = extend(self.db, new.owner, input_end, new.output)
        values = (
            *(new.id, new.owner, group, new.created, new.state, int(new.background)),
            *(new.previous, new.root, new.conversation, base, input_end, head, new.body),
        )
        (number,) = self.db.execute(
            "INSERT INTO responses (id, owner, thread, created, state, background, previous,"
            " root, conversation, base, asked, head, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
            values,
        ).fetchone()
        return StoredRow(number, *values)

    def _update(self, old: StoredRow, new: StoredResponse) -> StoredRow:
        input_end = extend(self.db, old.owner, old.base, new.input)
        head = extend(self.db, old.owner, input_end, new.output)
        self.db.execute(
            "UPDATE responses SET state = ?, body = ?, asked = ?, head = ? WHERE number = ?",
            (new.state, new.body, input_end, head, old.number),
        )
        for node in {old.head, old.input_end} - {head, input_end}:
            collect(self.db, node)
        return old._replace(state=new.state, body=new.body, input_end=input_end, head=head)

    def _append(self, response: StoredResponse) -> None:
        """Add the items of an ended response to its conversation, if that is still there."""
        row = self.db.execute(
            "SELECT head FROM conversations WHERE id = ? AND owner = ?",
            (response.conversation, response.owner),
        ).fetchone()
        if row is not None:
            items = (*response.input, *response.output)
            head = extend(self.db, response.owner, row[0], items)
            self._set_head(response.conversation, head)

    def _set_head(self, conversation: str, head: Node) -> None:
        self.db.execute("UPDATE conversations SET head = ? WHERE id = ?", (head, conversation))

    def _new_group(self, name: str, owner: str) -> int:
        (group,) = self.db.execute(
            "INSERT INTO threads (name, owner, used) VALUES (?, ?, ?) RETURNING id",
            (name, owner, self._now()),
        ).fetchone()
        return int(group)

    def _drop_if_empty(self, group: int) -> None:
        self.db.execute(
            "DELETE FROM threads WHERE id = :group"
            " AND NOT EXISTS (SELECT 1 FROM responses WHERE thread = :group)"
            " AND NOT EXISTS (SELECT 1 FROM conversations WHERE thread = :group)",
            {"group": group},
        )

    def _touch_now(self, group: int) -> None:
        self.db.execute("UPDATE threads SET used = ? WHERE id = ?", (self._now(), group))

    def _touch(self, group: int) -> None:
        """Write down that a group was read."""
        (used,) = self.db.execute("SELECT used FROM threads WHERE id = ?", (group,)).fetchone()
        if self._now() - used <= self._slack:
            return
        try:
            self._touch_now(group)
        except sqlite3.OperationalError:
            # What can't be written can still be read.
            return
