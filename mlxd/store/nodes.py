"""Histories as chains of content-addressed nodes.

A node is an item and the node before it, and is known by the hash of both. Equal histories of one
owner are the same nodes; a fork is a second node with the same parent. None is the empty history.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from operator import itemgetter

from mlxd.history import Item

Node = int | None

_WALK = """
WITH RECURSIVE chain (node, parent, item, depth) AS (
    SELECT id, parent, item, 0 FROM nodes WHERE id = :head
    UNION ALL
    SELECT nodes.id, nodes.parent, nodes.item, chain.depth + 1
    FROM chain JOIN nodes ON nodes.id = chain.parent
    WHERE chain.parent IS NOT :stop
)
SELECT chain.depth, items.name, items.body FROM chain JOIN items ON items.id = chain.item
"""

_IN_USE = """
SELECT EXISTS (SELECT 1 FROM nodes WHERE parent = :node)
    OR EXISTS (SELECT 1 FROM responses WHERE head = :node)
    OR EXISTS (SELECT 1 FROM responses WHERE asked = :node)
    OR EXISTS (SELECT 1 FROM responses WHERE base = :node)
    OR EXISTS (SELECT 1 FROM conversations WHERE head = :node)
"""


def items_between(db: sqlite3.Connection, head: Node, stop: Node = None) -> tuple[Item, ...]:
    """The items from after `stop` up to `head`, oldest first."""
    if head is None or head == stop:
        return ()
    rows = db.execute(_WALK, {"head": head, "stop": stop}).fetchall()
    # SQLite would sort with the bodies, and write a long history to a file of its own for that.
    rows.sort(key=itemgetter(0), reverse=True)
    return tuple(Item(name, body) for _, name, body in rows)


def extend(db: sqlite3.Connection, owner: str, node: Node, items: Iterable[Item]) -> Node:
    """The history that `node` becomes with `items` after it; within a transaction."""
    # A node without what refers to it is never collected, so both are written or neither.
    assert db.in_transaction
    for item in items:
        content = _hash(owner.encode(), item.id.encode(), item.body)
        values = {"hash": content, "owner": owner, "name": item.id, "body": item.body}
        number = _find_or_insert(db, "items", values)
        before = b""
        if node is not None:
            (before,) = db.execute("SELECT hash FROM nodes WHERE id = ?", (node,)).fetchone()
        # The owner is part of it: equal words of two people must not share a node.
        digest = _hash(owner.encode(), before, content)
        node = _find_or_insert(db, "nodes", {"hash": digest, "parent": node, "item": number})
    return node


def without(
    db: sqlite3.Connection, owner: str, node: Node, name: str
) -> tuple[Node, Sequence[Item]]:
    """The history without the items of that name, and the items that were left out."""
    items = items_between(db, node)
    left = [item for item in items if item.id != name]
    left_out = [item for item in items if item.id == name]
    return extend(db, owner, None, left), left_out


def collect(db: sqlite3.Connection, node: Node) -> None:
    """Remove what nobody refers to any more, from `node` towards the beginning."""
    assert db.in_transaction
    while node is not None and not db.execute(_IN_USE, {"node": node}).fetchone()[0]:
        row = db.execute("SELECT parent, item FROM nodes WHERE id = ?", (node,)).fetchone()
        if row is None:
            return
        parent, item = row
        db.execute("DELETE FROM nodes WHERE id = ?", (node,))
        db.execute(
            "DELETE FROM items WHERE id = :item"
            " AND NOT EXISTS (SELECT 1 FROM nodes WHERE item = :item)",
            {"item": item},
        )
        node = parent


def _find_or_insert(db: sqlite3.Connection, table: str, values: Mapping[str, object]) -> int:
    """The id of the row of `table` with this `hash`, which is made if it is not there."""
    row = db.execute(f"SELECT id FROM {table} WHERE hash = :hash", values).fetchone()
    if row is None:
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        query = f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING id"
        row = db.execute(query, values).fetchone()
    return int(row[0])


def _hash(*parts: bytes) -> bytes:
    """SHA-256 of the parts; their lengths keep ("a", "bc") and ("ab", "c") apart."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
