"""Groups: what expires together, when it does, and how it goes."""

from collections.abc import Collection
from typing import NamedTuple

from mlxd.store.nodes import collect
from mlxd.store.tables import Tables

KEEP_DELETED = 24 * 3600.0
"""Seconds for which the id of a deleted response is remembered."""

_NODES = """
SELECT head FROM responses WHERE thread = :group
UNION SELECT asked FROM responses WHERE thread = :group
UNION SELECT base FROM responses WHERE thread = :group
UNION SELECT head FROM conversations WHERE thread = :group
"""
_OLDEST = """
SELECT id, name, owner, used FROM threads
WHERE used < ? AND NOT EXISTS (
    SELECT 1 FROM responses WHERE thread = threads.id AND state IN ('queued', 'in_progress')
)
ORDER BY used LIMIT 1
"""


class ExpiryGroup(NamedTuple):
    """A conversation with its responses, or a chain of responses with its forks.

    `name` is the id of the conversation or of the first response; `used` is in the store's time.
    """

    id: int
    name: str
    owner: str
    used: float


def oldest(tables: Tables, before: float) -> ExpiryGroup | None:
    """The group that was not used for longest, if that was before `before` and nothing runs."""
    row = tables.db.execute(_OLDEST, (before,)).fetchone()
    return ExpiryGroup(*row) if row else None


def last_use(tables: Tables) -> float:
    """When any group was used last."""
    (used,) = tables.db.execute("SELECT coalesce(max(used), 0) FROM threads").fetchone()
    return float(used)


def remove(tables: Tables, group: int) -> None:
    """Remove all of a group."""
    db = tables.db
    with tables.transaction():
        nodes: Collection[int | None] = [n for (n,) in db.execute(_NODES, {"group": group})]
        db.execute("DELETE FROM responses WHERE thread = ?", (group,))
        db.execute("DELETE FROM conversations WHERE thread = ?", (group,))
        # A node is younger than its parent, so the ends of all branches come first.
        for node in sorted((node for node in nodes if node is not None), reverse=True):
            collect(db, node)
        db.execute("DELETE FROM threads WHERE id = ?", (group,))


def forget_deleted(tables: Tables) -> None:
    """Drop the ids of responses that were deleted long ago."""
    before = tables.now() - KEEP_DELETED
    if tables.db.execute("SELECT 1 FROM deleted WHERE at < ? LIMIT 1", (before,)).fetchone():
        with tables.transaction():
            tables.db.execute("DELETE FROM deleted WHERE at < ?", (before,))
