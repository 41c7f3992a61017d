"""Follows a server: history, then its events, again and again until cancelled."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from textual.message import Message

from mlxd.status import Lifecycle, Status, ThroughputHistory
from mlxd.tui.client import ServerClient, ServerEvent
from mlxd.tui.problems import ConnectionLost, NotUnderstood, ServerProblem
from mlxd.tui.top.messages import (
    ActionDone,
    ActionFailed,
    Connected,
    Disconnected,
    EventArrived,
    StatusArrived,
)

INTERVAL = 0.25
"""Seconds between statuses, unless the person wants fewer: over a slow line, say."""
BACKOFF = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each new attempt; the last repeats."""
SILENCE = 20.0
"""Seconds without any event after which a connection counts as lost."""

Post = Callable[[Message], object]
Connect = Callable[[], ServerClient]
"""Makes a client for one attempt: a server that was started anew has a new token."""


class ServerFeed:
    """One server's status and events, as messages to `post`; `interval` is between statuses."""

    def __init__(
        self,
        connect: Connect,
        post: Post,
        *,
        interval: float = INTERVAL,
        backoff: Sequence[float] = BACKOFF,
        silence: float = SILENCE,
    ) -> None:
        self._events = f"/admin/events?rate={1 / interval:.3g}"
        self._connect = connect
        self._post = post
        self._backoff = backoff
        self._silence = silence
        self._failures = 0

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            try:
                problem = await self._attempt()
            except ServerProblem as error:
                problem = error
            wait = self._backoff[min(self._failures, len(self._backoff) - 1)]
            self._failures += 1
            self._post(Disconnected(problem, wait))
            await asyncio.sleep(wait)

    async def _attempt(self) -> ServerProblem:
        """Follow while there is a connection; why there is none any more."""
        # A new client each time: a server that was started anew has another token.
        async with self._connect() as client:
            try:
                async with asyncio.timeout(self._silence):
                    history = await client.get("/admin/history", ThroughputHistory)
                async with client.stream("GET", self._events) as (_, events):
                    self._post(Connected(history))
                    await self._follow(client.url, events)
            except TimeoutError:
                return ConnectionLost(client.url, f"nothing came for {self._silence:.0f} s")
            return ConnectionLost(client.url, "the server ended the stream")

    async def _follow(self, url: str, events: AsyncIterator[ServerEvent]) -> None:
        while True:
            async with asyncio.timeout(self._silence):
                event = await anext(events, None)
            if event is None:
                return
            # Not before an event has come: a proxy may answer, and break off at once.
            self._failures = 0
            try:
                self._post_event(event)
            except msgspec.DecodeError as error:
                raise NotUnderstood(url, f"/admin/events: {error}") from error

    def _post_event(self, event: ServerEvent) -> None:
        """Post what an event says; a newer server may have kinds that are not known here."""
        match event.name:
            case "status":
                self._post(StatusArrived(msgspec.json.decode(event.data, type=Status)))
            case "activity":
                self._post(EventArrived(msgspec.json.decode(event.data, type=Lifecycle)))


async def perform(connect: Connect, path: str, text: str, post: Post) -> None:
    """Post to `path` what the person asked for; `text` says that it was done."""
    try:
        async with connect() as client:
            await client.post(path)
    except ServerProblem as error:
        post(ActionFailed(str(error)))
    else:
        post(ActionDone(text))
