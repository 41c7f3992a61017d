"""The store's work in its own thread: when to open, what to make of errors, what has to go."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mlxd.config.settings import ConversationSettings
from mlxd.errors import ConfigError, StoreUnavailable
from mlxd.status import StoreStatus
from mlxd.store.archive import archived, write
from mlxd.store.clock import Mark, StoreTime
from mlxd.store.database import TROUBLE, StoreFile, StoreInUse, Trouble, is_damage, reason_of
from mlxd.store.expiry import ExpiryGroup, forget_deleted, last_use, oldest, remove
from mlxd.store.tables import Tables

log = logging.getLogger(__name__)

LONG_JUMP = 3600.0
"""Seconds by which the wall clock may be set without anybody hearing of it."""
DRIFT = 1.0
"""Seconds that the clocks may differ by before that is written down."""
UNUSED_SHARE = 4
"""Unused pages are given back when they are more than this part of the file."""
PAGES_AT_ONCE = 1000
REOPENS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)

T = TypeVar("T")


class DatabaseThread:
    """Everything here but `status` and `over_limit` belongs to the store's thread."""

    def __init__(
        self, settings: ConversationSettings, file: StoreFile, archive: Path | None, interval: float
    ) -> None:
        self._settings = settings
        self._file = file
        self._archive = archive
        self._interval = interval
        self._time = StoreTime(file.clock)
        self._saved = Mark()
        self._tables: Tables | None = None
        self._checked = False
        self._failed_running = False
        self._archived = 0
        self._problem = self._archive_problem = ""
        self._full = False
        """The problem is a lack of room; only a write that succeeds can say that it is over."""
        self.over_limit = False
        """The store is larger than it may be; the next sweep makes room."""
        path = "" if file.in_memory else str(file.path)
        self.status = StoreStatus(kind=settings.store, path=path)

    def configure(self, settings: ConversationSettings, interval: float) -> None:
        """Go by these settings from now on."""
        self._settings, self._interval = settings, interval
        if self._tables is not None:
            self._file.limit(self._tables.db, settings.max_bytes)

    def claim(self) -> None:
        """Take the file for this process.

        Raises `StoreInUse` if it is another's, `ConfigError` if it is of a newer mlxd.
        """
        try:
            self._file.lock()
            self._file.check_version()
        except OSError as error:
            # A folder that can't be written may be one later: the server starts without a store.
            self._met(error)
        except ConfigError:
            self._file.unlock()
            raise

    def begin(self) -> None:
        """Open the file; where that fails, every later call tries it again."""
        try:
            self.read(lambda tables: None)
        except StoreUnavailable as error:
            log.warning("conversations can't be stored: %s", error.reason)
        self._report()

    def end(self) -> None:
        """Close the file and let the next server in."""
        try:
            if self._tables is not None:
                self._save_mark(self._tables)
        except sqlite3.Error as error:
            log.warning("the conversation store did not end well: %s", reason_of(error))
        # In this order: the next server must not find SQLite's log while it is taken away.
        self._close()
        self._file.unlock()

    def read(self, work: Callable[[Tables], T]) -> T:
        """Do what changes nothing. Raises `StoreUnavailable`."""
        try:
            return work(self._ready())
        except TROUBLE as error:
            self._met(error)
            raise StoreUnavailable(reason=reason_of(error)) from error

    def write(self, work: Callable[[Tables], T]) -> T:
        """Do what adds something. A store that may not grow makes room for it."""
        return self._settled(self._attempt(work, self._make_room))

    def remove(self, work: Callable[[Tables], T]) -> T:
        """Do what takes something away; on a full disk with the help of the reserve."""
        return self._settled(self._attempt(work, self._file.release_reserve))

    def begin_sweep(self) -> bool:
        """Whether to sweep now; not in the interval after the clock was set."""
        jump = self._time.jump()
        if abs(jump) <= LONG_JUMP:
            return True
        log.warning("the clock was set by %.0f s; conversations expire by elapsed time", jump)
        return False

    def remove_next(self) -> bool:
        """Remove what was not used for longest, if it has to go; whether there may be more."""
        try:
            group = self.read(self._next)
            if group is not None:
                self._remove_group(group)
        except StoreUnavailable:
            return False
        except OSError as error:
            self._archive_problem = f"the archive can't be written: {reason_of(error)}"
            log.warning("conversation store: %s", self._archive_problem)
            self._report()
            return False
        return group is not None

    def tidy(self) -> None:
        """What is left to do after a sweep."""
        try:
            self._attempt(self._tidy, self._file.release_reserve)
        except StoreUnavailable:
            return
        # Tidying shows that the file can be written, and not that there is room for more.
        if not (self.over_limit or self._full):
            self._problem = ""
        self._report()
        self._file.keep_reserve()

    def _settled(self, result: T) -> T:
        """`result`, there being no problem any more."""
        self._problem, self._full = "", False
        self._report()
        return result

    def _attempt(self, work: Callable[[Tables], T], help_out: Callable[[], bool]) -> T:
        try:
            try:
                return work(self._ready())
            except sqlite3.Error as error:
                if not _is_full(error) or not help_out():
                    raise
                return work(self._ready())
        except TROUBLE as error:
            self._met(error)
            raise StoreUnavailable(reason=reason_of(error)) from error

    def _ready(self) -> Tables:
        """The open tables."""
        if self._tables is not None and self._file.was_replaced():
            self._set_problem("the store's file was removed while it was in use")
            self._close()
        if self._tables is None:
            self._tables = self._open()
            # Once in a process: what is running later is running here.
            if not self._failed_running:
                if count := self._tables.fail_running():
                    log.warning("%d responses were running when the last server ended", count)
                self._failed_running = True
            self._file.keep_reserve()
        return self._tables

    def _open(self) -> Tables:
        try:
            self._file.lock()
        except StoreInUse as error:
            # It could not be taken at the start, and now another server has it.
            raise StoreUnavailable(reason="another server uses the store's file") from error
        # A check reads the whole file, so there is one only, until there is a sign of damage.
        before = self._file.moved
        db = self._file.connect(check=not self._checked)
        if self._file.moved != before:
            log.error(
                "the conversation store was damaged: it is now %s, and an empty one was begun",
                self._file.moved,
            )
        self._checked = True
        row = db.execute("SELECT elapsed, wall, monotonic, boot FROM meta").fetchone()
        self._time.go_on(Mark(*row))
        tables = Tables(db, self._time.now, self._interval)
        self._save_mark(tables)
        return tables

    def _close(self) -> None:
        if self._tables is not None:
            self._tables.db.close()
            self._tables = None

    def _met(self, error: Trouble) -> None:
        """Remember what is wrong, and get ready for trying again."""
        self._full = isinstance(error, sqlite3.Error) and _is_full(error)
        self._set_problem(reason_of(error))
        # Closing a store in memory would be the end of all that it holds.
        if isinstance(error, OSError) or self._file.in_memory:
            return
        # A connection stays as it was opened, read-only or with damaged pages in its memory.
        if is_damage(error):
            self._checked = False
        elif getattr(error, "sqlite_errorcode", 0) & 0xFF not in REOPENS:
            return
        self._close()

    def _set_problem(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("conversation store: %s", problem)
        self._problem = problem
        self._report()

    def _report(self) -> None:
        """Bring `status` up to date."""
        moved = f"a damaged file was moved aside, to {self._file.moved}" if self._file.moved else ""
        problem = "; ".join(filter(None, (self._problem, self._archive_problem, moved)))
        status, size = self.status, self.status.bytes
        responses, conversations = status.responses, status.conversations
        if self._tables is not None:
            size = _size(self._tables)
            responses, conversations = self._tables.counts()
        self.over_limit = size > self._settings.max_bytes
        self.status = StoreStatus(
            kind=status.kind,
            path=status.path,
            bytes=size,
            responses=responses,
            conversations=conversations,
            archived=self._archived,
            problem=problem,
        )

    def _next(self, tables: Tables) -> ExpiryGroup | None:
        """The next group that has to go."""
        # A use is written down up to one interval late.
        if group := oldest(tables, tables.now() - self._settings.ttl - self._interval):
            return group
        if _size(tables) > self._settings.max_bytes:
            # What is in use goes on, even if it fills the store alone.
            return oldest(tables, last_use(tables))
        return None

    def _remove_group(self, group: ExpiryGroup) -> None:
        """Archive a group, if that is wanted, and remove it. Raises `OSError`."""
        if self._archive is not None:
            data = self.read(lambda tables: archived(tables, group, now=self._time.wall()))
            # Before it is removed: if the server ends in between it is in both places, not in none.
            try:
                write(self._archive, group.name, data)
            except OSError:
                if not self._file.release_reserve():
                    raise
                write(self._archive, group.name, data)
            self._archived += 1
            self._archive_problem = ""
        # Of what is removed to make room nobody has asked for, and nothing else is settled by it.
        self._attempt(lambda tables: remove(tables, group.id), self._file.release_reserve)
        self._report()

    def _make_room(self) -> bool:
        """Remove the group that was not used for longest, if it is the store that is full."""
        tables = self._ready()
        if _size(tables) < self._settings.max_bytes:
            return False
        group = oldest(tables, last_use(tables))
        # A good part of it, so that the next writes need not make room again.
        while group is not None and _size(tables) > self._settings.max_bytes * 3 // 4:
            self._remove_group(group)
            group = oldest(tables, last_use(tables))
        return True

    def _tidy(self, tables: Tables) -> None:
        forget_deleted(tables)
        now = self._time.mark()
        passed = now.elapsed - self._saved.elapsed
        # A mark that agrees with the clocks says nothing new, and each is a write to the disk.
        if abs(now.wall - self._saved.wall - passed) > DRIFT:
            self._save_mark(tables)
        (free,) = tables.db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = tables.db.execute("PRAGMA page_count").fetchone()
        if free * UNUSED_SHARE > pages:
            # Some at a time, as calls wait meanwhile. A step of the statement gives back one page,
            # and only `executescript` goes on after the first of a statement without columns.
            tables.db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE:d})")

    def _save_mark(self, tables: Tables) -> None:
        self._saved = self._time.mark()
        tables.db.execute(
            "UPDATE meta SET elapsed = ?, wall = ?, monotonic = ?, boot = ?", self._saved
        )


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _size(tables: Tables) -> int:
    """Bytes in use."""
    page, pages, free = (
        tables.db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return int(page * (pages - free))
