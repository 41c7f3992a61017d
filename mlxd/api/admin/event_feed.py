"""What happened, for whoever listens; nobody who is slow can hold up anybody else."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from mlxd.errors import Overloaded
from mlxd.status import Lifecycle

BUFFERED = 512
"""Events that wait for one reader; older ones are dropped for newer ones."""
RECENT = 100
"""Events that a new reader gets at once."""
MAX_READERS = 16
"""Readers at once."""


class EventReader:
    """One who listens."""

    def __init__(self, recent: Iterator[Lifecycle]) -> None:
        self._events: deque[Lifecycle] = deque(recent, maxlen=BUFFERED)
        self._news = asyncio.Event()

    def put(self, event: Lifecycle) -> None:
        self._events.append(event)
        self._news.set()

    def take(self) -> list[Lifecycle]:
        """What happened since the last time, oldest first."""
        events = list(self._events)
        self._events.clear()
        self._news.clear()
        return events

    async def wait(self, seconds: float) -> None:
        """Until something happens, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass


class EventFeed:
    """Passes events on to its readers."""

    def __init__(self) -> None:
        self._recent: deque[Lifecycle] = deque(maxlen=RECENT)
        self._readers: set[EventReader] = set()

    def publish(self, event: Lifecycle) -> None:
        self._recent.append(event)
        for reader in self._readers:
            reader.put(event)

    @contextmanager
    def reader(self) -> Iterator[EventReader]:
        """A new reader, who begins with what happened lately; raises `Overloaded`."""
        if len(self._readers) >= MAX_READERS:
            raise Overloaded(reason="Too many programs are watching this server.")
        reader = EventReader(iter(self._recent))
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
