"""Where events wait for their reader."""

import asyncio

import msgspec

from mlxd.events import Event


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """A reader is given up when more than `events` wait for it for `seconds`."""

    events: int = 4096
    seconds: float = 30.0


class EventBuffer:
    """Events between the bridge and one reader, who takes all there are at once."""

    def __init__(self, unread: Unread) -> None:
        self._unread = unread
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._closed = False
        self._overfull_since: float | None = None

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._news.set()

    def overdue(self, now: float) -> bool:
        """Whether the reader has left too much for too long."""
        if len(self._events) <= self._unread.events:
            self._overfull_since = None
            return False
        if self._overfull_since is None:
            self._overfull_since = now
        return now - self._overfull_since >= self._unread.seconds

    async def take(self) -> list[Event]:
        """All events that are there, at least one; empty when nothing more will come."""
        await self._news.wait()
        events, self._events = self._events, []
        # Once closed it stays set, or the next call would wait for ever.
        if not self._closed:
            self._news.clear()
        return events
