"""The store's file: whose it is, whether it is sound, and the connection to it."""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mlxd.errors import ConfigError
from mlxd.store.clock import StoreClock
from mlxd.store.schema import (
    MIGRATIONS,
    Migration,
    expected_tables,
    migrate,
    tables_of,
    version_of,
)

MEMORY = Path(":memory:")
RESERVE = 16 * 1024 * 1024
"""Bytes set aside, so that something can still be deleted on a full disk."""
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another program that reads the store's file."""
COMPANIONS = ("", "-wal", "-shm", "-journal")
LOG_COPY = ".kept-wal"
_SETTINGS = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    # What a caller was answered must be there after a loss of power.
    "PRAGMA synchronous = FULL",
    # On macOS a plain fsync leaves the data in the disk's own cache.
    "PRAGMA fullfsync = ON",
    "PRAGMA journal_size_limit = 16777216",
    "PRAGMA foreign_keys = ON",
    # The file may come from elsewhere: what its definitions call must do no harm.
    "PRAGMA trusted_schema = OFF",
)
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

TROUBLE = (sqlite3.Error, OSError, UnicodeDecodeError)
Trouble = sqlite3.Error | OSError | UnicodeDecodeError
"""What working on a file may end in; text that is no UTF-8 is damage."""


class StoreInUse(Exception):
    """Another server holds the store's file; the text is for whoever starts this one."""


class Damaged(Exception):
    """What the file holds is not what a store of ours wrote."""


class StoreFile:
    """A store's file and its companions, from the lock to the end; `:memory:` has none of that."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        clock: StoreClock,
        reserve: int = RESERVE,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        self.path = path
        self.in_memory = path == MEMORY
        self.moved = ""
        """Name of the damaged file that was moved aside."""
        self._max_bytes = max_bytes
        self.clock = clock
        self._reserve_size = reserve
        self._migrations = migrations
        self._lock = -1
        self._inode = 0

    def lock(self) -> None:
        """Take the file for this process, as long as it lives.

        Raises `StoreInUse`, and `OSError` where the folder can't be written.
        """
        if self.in_memory or self._lock >= 0:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A file of its own: a damaged store is renamed, and SQLite has locks of its own on that.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self._beside(".lock"), flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise
            who = f" (process {holder})" if holder.isdecimal() else ""
            wrong = ConfigError(
                str(self.path),
                "conversations.path",
                f"another mlxd server{who} uses this file",
                'Stop it, or give this server another path, or store = "memory".',
            )
            raise StoreInUse(str(wrong)) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def unlock(self) -> None:
        """Let the next server in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def check_version(self) -> None:
        """Raise `ConfigError` for a file of a newer mlxd; anything else is for `connect`."""
        if self.in_memory or not self.path.exists():
            return
        self._save_log()
        with suppress(sqlite3.Error, UnicodeDecodeError), closing(self._bare()) as db:
            version = version_of(db)
            newest = len(self._migrations)
            written = db.execute("SELECT version FROM meta").fetchone()
            if version > newest and written == (version,):
                raise ConfigError(
                    str(self.path),
                    "conversations.path",
                    f"this file was written by a newer mlxd (version {version} of its tables; "
                    f"this mlxd knows {newest})",
                    "Use the newer mlxd, or give this one another path.",
                )

    def connect(self, *, check: bool) -> sqlite3.Connection:
        """A connection to a sound file of the current version.

        With `check`, a damaged file is moved aside and an empty one begun. Raises `sqlite3.Error`
        and `OSError`.
        """
        if not check or self.in_memory:
            return self._connect()
        self._save_log()
        try:
            db = self._connect(check=True)
        except (Damaged, UnicodeDecodeError, sqlite3.DatabaseError) as error:
            if not is_damage(error):
                raise
            self.moved = self._move_aside()
            return self._connect()
        self._beside(LOG_COPY).unlink(missing_ok=True)
        return db

    def was_replaced(self) -> bool:
        """Whether the open file is no longer the one that its name leads to."""
        if self.in_memory:
            return False
        # What is written to a file without a name is gone with the server, and no error says so.
        try:
            return os.stat(self.path).st_ino != self._inode
        except FileNotFoundError:
            return True

    def keep_reserve(self) -> None:
        """Set the reserve aside, if it is not there and the disk has room for it."""
        reserve = self._beside(".reserve")
        if self.in_memory or not self._reserve_size or reserve.exists():
            return
        try:
            with open(os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                # Written, as a file that is only made longer takes no room on the disk.
                file.write(bytes(self._reserve_size))
        except OSError:
            self.release_reserve()

    def release_reserve(self) -> bool:
        """Give the reserve back to the disk; whether there was one."""
        if self.in_memory:
            return False
        try:
            self._beside(".reserve").unlink()
        except OSError:
            return False
        return True

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _bare(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)

    def limit(self, db: sqlite3.Connection, max_bytes: int) -> None:
        """Let the file of `db` grow past `max_bytes` by a quarter, and no further."""
        self._max_bytes = max_bytes
        (page,) = db.execute("PRAGMA page_size").fetchone()
        # Beyond `max_bytes` the oldest go; this is where nothing is written any more.
        db.execute(f"PRAGMA max_page_count = {max_bytes * 5 // 4 // page:d}")

    def _connect(self, *, check: bool = False) -> sqlite3.Connection:
        if not self.in_memory:
            self._make_private()
        db = self._bare()
        try:
            # First, so that a damaged file is moved aside as it was found.
            if check:
                self._check(db)
            for setting in _SETTINGS:
                db.execute(setting)
            self.limit(db, self._max_bytes)
            if 0 < version_of(db) < len(self._migrations):
                self._back_up(db)
            migrate(db, self._migrations)
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        """Raise `Damaged`, or an error that is damage, if the file is not sound."""
        try:
            version, tables = version_of(db), tables_of(db)
            if not version and not tables:
                return
            sound = (
                version <= len(self._migrations)
                and tables == expected_tables(version, self._migrations)
                and db.execute("SELECT version FROM meta").fetchone() == (version,)
                # `integrity_check` would compare every index too, for which nobody would wait.
                and db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
                and not db.execute("PRAGMA foreign_key_check").fetchone()
            )
        except sqlite3.OperationalError as error:
            # A format that SQLite does not know, or tables that our own statements do not fit.
            if getattr(error, "sqlite_errorcode", 0) in (0, sqlite3.SQLITE_ERROR):
                raise Damaged from error
            raise
        if not sound:
            raise Damaged

    def _save_log(self) -> None:
        """A second name for the log: SQLite deletes that of a file which it can't read."""
        with suppress(OSError):
            os.link(self._beside("-wal"), self._beside(LOG_COPY))

    def _make_private(self) -> None:
        """The file for its owner alone; SQLite gives its companions the same rights."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self.path, flags, 0o600)
        try:
            os.fchmod(file, 0o600)
            self._inode = os.fstat(file).st_ino
        finally:
            os.close(file)

    def _back_up(self, db: sqlite3.Connection) -> None:
        """Copy the file before its tables are changed."""
        copy = self._beside(f".v{version_of(db)}.backup")
        # The name of a backup stands for a whole one.
        temporary = self._beside(".backup.tmp")
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(temporary)) as target:
            db.backup(target)
        temporary.replace(copy)

    def _move_aside(self) -> str:
        """Rename the file and its companions; the new name."""
        try:
            stamp = datetime.fromtimestamp(self.clock.wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
        except (OverflowError, OSError, ValueError):
            stamp = "unknown-time"
        number, name = 1, f"{self.path.name}.damaged-{stamp}"
        while self.path.with_name(name).exists():
            number, name = number + 1, f"{self.path.name}.damaged-{stamp}-{number}"
        for suffix in COMPANIONS:
            with suppress(FileNotFoundError):
                os.rename(self._beside(suffix), self.path.with_name(name + suffix))
        with suppress(FileNotFoundError):
            os.replace(self._beside(LOG_COPY), self.path.with_name(f"{name}-wal"))
        return name


class FileState(NamedTuple):
    """What can be seen of a store's file from outside; 0 bytes where there is none yet."""

    bytes: int = 0
    version: int = 0
    problem: str = ""


def inspect_file(path: Path) -> FileState:
    """Size and version of a file that may be in use, and what keeps it from being written."""
    nearest = next(each for each in path.absolute().parents if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return FileState(problem=f"{nearest} can't be written")
    if not path.exists():
        return FileState()
    size = path.stat().st_size
    try:
        # Without a log no server is at work here, and SQLite need not make one.
        log = path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.absolute().as_uri()}?mode=ro{'' if log else '&immutable=1'}"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            version = version_of(db)
            db.execute("SELECT version FROM meta").fetchone()
    except TROUBLE as error:
        return FileState(size, problem=reason_of(error))
    if version > len(MIGRATIONS):
        return FileState(size, version, "it was written by a newer mlxd")
    return FileState(size, version)


def is_damage(error: Exception) -> bool:
    """Whether the file is not sound, rather than that something is in its way."""
    if isinstance(error, Damaged | UnicodeDecodeError) or "Could not decode" in str(error):
        return True
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ


def reason_of(error: Trouble) -> str:
    """What is wrong, in words that name no path and end without a full stop."""
    if isinstance(error, OSError):
        return (error.strerror or "the disk reported an error").lower()
    if is_damage(error):
        return "the store's file is damaged"
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "the disk or the store is full"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return "the store's folder can't be written"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "another program holds the store's file"
        case sqlite3.SQLITE_IOERR:
            return "the disk reported an error"
        case _:
            return "the database reported an error"
