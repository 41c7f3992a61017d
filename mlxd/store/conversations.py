"""The conversation store: `mlxd.history.Store` over SQLite, in a file or in memory.

All work on the database is done in one thread, in the order in which it was requested; the event
loop never waits for a disk.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import platformdirs

from mlxd.config.settings import ConversationSettings
from mlxd.history import Conversation, Item, StoredResponse
from mlxd.status import StoreStatus
from mlxd.store.clock import StoreClock
from mlxd.store.database import MEMORY, RESERVE, StoreFile
from mlxd.store.database_thread import DatabaseThread
from mlxd.store.tables import Tables

log = logging.getLogger(__name__)

FILE_NAME = "conversations.sqlite3"
PATIENCE = 0.3
"""Seconds that `open` waits for a file to be checked before it leaves that to the background."""
SWEEPS = 10
"""Sweeps in a time to live, so that nothing is kept for more than a fifth longer."""
LONGEST_INTERVAL = 60.0
SHORTEST_INTERVAL = 0.05
REAL = StoreClock()

T = TypeVar("T")


def store_path(settings: ConversationSettings, config_file: Path | None) -> Path:
    """Where the store's file is, or `MEMORY`."""
    if settings.store == "memory":
        return MEMORY
    if not settings.path:
        return Path(platformdirs.user_data_dir("mlxd", appauthor=False)) / FILE_NAME
    base = config_file.absolute().parent if config_file else Path.cwd()
    return base / Path(settings.path).expanduser()


def archive_folder(settings: ConversationSettings, path: Path) -> Path | None:
    """Where the store at `path` writes what expires; None if nowhere."""
    if not settings.archive:
        return None
    base = Path(platformdirs.user_data_dir("mlxd", appauthor=False)) if path == MEMORY else None
    return (base or path.parent) / Path(settings.archive_dir).expanduser()


def build_store(settings: ConversationSettings, config_file: Path | None) -> "ConversationStore":
    """The configured store; nothing is opened or made yet."""
    path = store_path(settings, config_file)
    return ConversationStore(settings, path, archive_folder(settings, path))


def sweep_interval(settings: ConversationSettings) -> float:
    """Seconds between two looks at what has expired."""
    return min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, settings.ttl / SWEEPS))


class ConversationStore:
    """Responses and conversations, in a file or in memory.

    It sweeps by itself from time to time, unless `sweeping` is false.
    """

    def __init__(
        self,
        settings: ConversationSettings,
        path: Path = MEMORY,
        archive: Path | None = None,
        *,
        clock: StoreClock = REAL,
        reserve: int = RESERVE,
        sweeping: bool = True,
    ) -> None:
        self._sweeps = sweeping
        self._interval = sweep_interval(settings)
        file = StoreFile(path, max_bytes=settings.max_bytes, clock=clock, reserve=reserve)
        self._database = DatabaseThread(settings, file, archive, self._interval)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="conversations")
        self._sweeping: asyncio.Task[None] | None = None
        self._opening: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """As `Store.open`. Raises `StoreInUse`, and `ConfigError` for the file of a newer mlxd.

        A large file goes on being checked in the background; every call waits for it.
        """
        await self._run(self._database.claim)
        self._opening = asyncio.ensure_future(self._run(self._database.begin))
        # When its time is up `wait` leaves the future alone, which `wait_for` would cancel.
        await asyncio.wait({self._opening}, timeout=PATIENCE)
        if self._sweeps:
            self._sweeping = asyncio.create_task(self._sweep_always(), name="conversations sweep")

    def configure(self, settings: ConversationSettings) -> None:
        """Expire, and make room, by these settings from the next sweep on."""
        self._interval = sweep_interval(settings)
        self._thread.submit(self._database.configure, settings, self._interval)
        self._wake.set()

    async def close(self) -> None:
        """As `Store.close`."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeping
        if self._opening is not None:
            await self._opening
        await self._run(self._database.end)
        # Not waited for: that would block the event loop, and its work is done.
        self._thread.shutdown(wait=False)

    def status(self) -> StoreStatus:
        """As `Store.status`."""
        return self._database.status

    async def sweep(self) -> None:
        """Remove what has expired, and what is over `max_bytes`; archived first.

        Each group is a piece of work of its own, so that others get in between.
        """
        if not await self._run(self._database.begin_sweep):
            return
        while await self._run(self._database.remove_next):
            pass
        await self._run(self._database.tidy)

    async def past(
        self, owner: str, *, previous: str = "", conversation: str = ""
    ) -> tuple[Item, ...]:
        """As `Store.past`."""
        return await self._read(lambda tables: tables.past(owner, previous, conversation))

    async def find_items(self, owner: str, ids: Iterable[str]) -> Mapping[str, Item]:
        """As `Store.find_items`."""
        names = tuple(ids)
        return await self._read(lambda tables: tables.find_items(owner, names))

    async def put_response(self, response: StoredResponse) -> None:
        """As `Store.put_response`."""
        await self._write(lambda tables: tables.put_response(response))

    async def response(self, owner: str, response: str) -> StoredResponse:
        """As `Store.response`."""
        return await self._read(lambda tables: tables.response(owner, response))

    async def delete_response(self, owner: str, response: str) -> None:
        """As `Store.delete_response`."""
        await self._remove(lambda tables: tables.delete_response(owner, response))

    async def context(self, owner: str, response: str) -> tuple[Item, ...]:
        """As `Store.context`."""
        return await self._read(lambda tables: tables.context(owner, response))

    async def create_conversation(
        self, owner: str, *, metadata: bytes, items: Sequence[Item]
    ) -> Conversation:
        """As `Store.create_conversation`."""
        created = self._clock.wall()
        return await self._write(
            lambda tables: tables.create_conversation(owner, created, metadata, items)
        )

    async def conversation(self, owner: str, conversation: str) -> Conversation:
        """As `Store.conversation`."""
        return await self._read(lambda tables: tables.conversation(owner, conversation))

    async def update_conversation(
        self, owner: str, conversation: str, *, metadata: bytes
    ) -> Conversation:
        """As `Store.update_conversation`."""
        return await self._write(
            lambda tables: tables.update_conversation(owner, conversation, metadata)
        )

    async def delete_conversation(self, owner: str, conversation: str) -> None:
        """As `Store.delete_conversation`."""
        await self._remove(lambda tables: tables.delete_conversation(owner, conversation))

    async def items(self, owner: str, conversation: str) -> tuple[Item, ...]:
        """As `Store.items`."""
        return await self._read(lambda tables: tables.items(owner, conversation))

    async def add_items(self, owner: str, conversation: str, items: Sequence[Item]) -> None:
        """As `Store.add_items`."""
        await self._write(lambda tables: tables.add_items(owner, conversation, items))

    async def delete_item(self, owner: str, conversation: str, item: str) -> Conversation:
        """As `Store.delete_item`."""
        return await self._remove(lambda tables: tables.delete_item(owner, conversation, item))

    async def _sweep_always(self) -> None:
        while True:
            # A full store is swept at once, not when the interval is over.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._interval)
            self._wake.clear()
            await self.sweep()

    async def _read(self, work: Callable[[Tables], T]) -> T:
        return await self._run(lambda: self._database.read(work))

    async def _write(self, work: Callable[[Tables], T]) -> T:
        result = await self._run(lambda: self._database.write(work))
        if self._database.over_limit:
            self._wake.set()
        return result

    async def _remove(self, work: Callable[[Tables], T]) -> T:
        return await self._run(lambda: self._database.remove(work))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
