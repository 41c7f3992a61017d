"""The tables of the store and their versions.

A migration is only ever added, never changed: files of every version are out there. Each runs in
one transaction with the new version number, so that a file is of one version or of the next.
"""

import sqlite3
from collections.abc import Sequence

Migration = tuple[str, ...]

MIGRATIONS: tuple[Migration, ...] = (
    (
        # One row: the version once more, and when `elapsed` was true by each of the clocks.
        """CREATE TABLE meta (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            version INTEGER NOT NULL,
            elapsed REAL NOT NULL DEFAULT 0,
            wall REAL NOT NULL DEFAULT 0,
            monotonic REAL NOT NULL DEFAULT 0,
            boot TEXT NOT NULL DEFAULT ''
        ) STRICT""",
        "INSERT INTO meta (id, version) VALUES (1, 0)",
        # What expires together: a conversation with its responses, or a chain with its forks.
        """CREATE TABLE threads (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL,
            owner TEXT NOT NULL,
            used REAL NOT NULL
        ) STRICT""",
        "CREATE INDEX threads_used ON threads (used)",
        """CREATE TABLE items (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            hash BLOB NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            name TEXT NOT NULL,
            body BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX items_name ON items (owner, name)",
        # A history is its last node. A parent is always older, so no walk can go in circles.
        """CREATE TABLE nodes (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            hash BLOB NOT NULL UNIQUE,
            parent INTEGER REFERENCES nodes (id) CHECK (parent < id),
            item INTEGER NOT NULL REFERENCES items (id)
        ) STRICT""",
        "CREATE INDEX nodes_parent ON nodes (parent)",
        "CREATE INDEX nodes_item ON nodes (item)",
        """CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            thread INTEGER NOT NULL REFERENCES threads (id),
            created REAL NOT NULL,
            metadata BLOB NOT NULL,
            head INTEGER REFERENCES nodes (id)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX conversations_thread ON conversations (thread)",
        "CREATE INDEX conversations_head ON conversations (head)",
        # base, asked, head: what it was built on, that and its input, that and its output.
        """CREATE TABLE responses (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            thread INTEGER NOT NULL REFERENCES threads (id),
            created REAL NOT NULL,
            state TEXT NOT NULL CHECK (state IN
                ('queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled')),
            background INTEGER NOT NULL CHECK (background IN (0, 1)),
            previous TEXT NOT NULL,
            root TEXT NOT NULL,
            conversation TEXT NOT NULL,
            base INTEGER REFERENCES nodes (id),
            asked INTEGER REFERENCES nodes (id),
            head INTEGER REFERENCES nodes (id),
            body BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX responses_thread ON responses (thread)",
        "CREATE INDEX responses_base ON responses (base)",
        "CREATE INDEX responses_asked ON responses (asked)",
        "CREATE INDEX responses_head ON responses (head)",
        """CREATE INDEX responses_running ON responses (thread)
            WHERE state IN ('queued', 'in_progress')""",
        """CREATE TABLE frames (
            response INTEGER NOT NULL REFERENCES responses (number) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (response, number)
        ) STRICT, WITHOUT ROWID""",
        # Deleted while it ran, perhaps: what is still to be put of it must not bring it back.
        """CREATE TABLE deleted (
            id TEXT PRIMARY KEY,
            at REAL NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
)


def version_of(db: sqlite3.Connection) -> int:
    """The version of the tables; 0 for a new file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the tables to the last version, step by step."""
    for version in range(version_of(db) + 1, len(migrations) + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[version - 1]:
                db.execute(statement)
            db.execute("UPDATE meta SET version = ?", (version,))
            # A pragma takes no parameters; the version is our own number.
            db.execute(f"PRAGMA user_version = {version:d}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def tables_of(db: sqlite3.Connection) -> dict[str, str]:
    """Every table and index with the statement that made it."""
    return dict(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def expected_tables(version: int, migrations: Sequence[Migration] = MIGRATIONS) -> dict[str, str]:
    """What `tables_of` says of a sound file of that version."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(db, migrations[:version])
        return tables_of(db)
    finally:
        db.close()
