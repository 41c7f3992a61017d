"""One client's connection, with limits that Hypercorn's own does not have.

Hypercorn parses requests (`http11`) and speaks ASGI. Reading, writing and closing are done here,
because its own server waits for ever for a client that stopped reading, does not notice that a
client left after sending one byte too many, and can't end a stream when it shuts down.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import h11
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    Scope,
    TaskGroup,
)

from mlxd.server.http11 import Http11, Unread, of_nobody

log = logging.getLogger(__name__)

MAX_UNREAD = 64 * 1024
"""Bytes received and not yet parsed: more wait in the kernel, and are refused after a request."""
CHUNK = 8 * 1024
"""Bytes parsed before other connections get a turn; tiny body chunks make parsing slow."""


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them together, may take. Seconds, except the first three."""

    connections: int = 256
    message: int = 32 * 1024 * 1024
    """Bytes of a message of a WebSocket."""
    connections_per_address: int = 32
    """Does not count for loopback addresses: there all clients share one."""
    grace: float = 1.0
    """When there is no room for a newcomer, a client that has owed us the rest of a request, or the
    next one, for longer than this gives way."""
    head: float = 10.0
    """From connecting, or from the first byte of a later request, to the end of the head."""
    body: float = 35.0
    """From there to the end of its body. An application that gives up earlier can say so in words
    that its caller understands."""
    idle: float = 75.0
    """Between two requests."""
    stall: float = 30.0
    """Without the client reading anything of what waits for it."""
    linger: float = 1.0
    """Between our end of a connection and the client's, so that it can read the last answer."""


class Connection(asyncio.Protocol):
    """One client's connection, from accept to close.

    `_serve` is the only task; what happens meanwhile (the client left, the response is done and the
    connection must close) reaches it by `hang_up`, which ends its reading wherever that stands.
    It is also the "task group" in which Hypercorn starts the application.
    """

    def __init__(
        self,
        app: ASGIFramework,
        config: Config,
        context: WorkerContext,
        limits: Limits,
        *,
        turn_away: bool = False,
        unread: Unread = of_nobody,
    ) -> None:
        self._turn_away = turn_away
        self._unread = unread
        self._app = app
        self._config, self._context, self._limits = config, context, limits
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()
        self.owing_since: float | None = asyncio.get_running_loop().time()
        """When the client's turn came, by the event loop's clock; `None` while it is ours."""
        self._patience = asyncio.timeout(limits.head)
        self._idle = self._ended = False
        self._handlers: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport
        self._http: Http11
        self.task: asyncio.Task[None]

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer, local = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        self._http = Http11(
            cast(AppWrapper, self._app),
            self._config,
            self._context,
            cast(TaskGroup, self),
            ConnectionState({}),
            False,
            peer[:2] if peer else None,
            local[:2] if local else None,
            self._send,
        )
        self._http.turn_away = self._turn_away
        self._http.unread = self._unread
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._received += data
        self._arrived.set()
        if len(self._received) <= MAX_UNREAD:
            return
        if self._http.request_complete:
            # Not reading on would hide the client's leaving.
            self.hang_up()
        else:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._writable.set()
        self.hang_up()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the listener calls.

    @property
    def busy(self) -> bool:
        """A request is being received or answered."""
        return self._http.stream is not None

    def hang_up(self) -> None:
        """Read no more; an application that is still answering learns that its client is gone."""
        self._expect(0)
        self._ended = True

    def abort(self) -> None:
        """Close now, whatever still waits to be written."""
        self._transport.abort()

    # What Hypercorn calls.

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        messages: asyncio.Queue[ASGIReceiveEvent] = asyncio.Queue()

        async def put(message: ASGIReceiveEvent) -> None:
            # Every other message means that the request's body, if any, is complete.
            if not cast(dict[str, Any], message).get("more_body"):
                self._expect(None)
                self._transport.resume_reading()
            messages.put_nowait(message)

        answer = self._answer(scope, messages, send)
        handler = asyncio.get_running_loop().create_task(answer)
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        return put

    async def _answer(
        self,
        scope: Scope,
        messages: asyncio.Queue[ASGIReceiveEvent],
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        try:
            await self._app(scope, messages.get, send)
        except Exception:
            log.exception("the application failed")
        # An application that failed halfway leaves a response that h11 will not see ended.
        with suppress(h11.LocalProtocolError):
            await send(None)

    async def _send(self, event: Event) -> None:
        match event:
            case RawData(data=data):
                await self._write(data)
            case Updated(idle=idle):
                self._idle = idle
                self._expect(self._limits.idle if idle else self._limits.body)
            case Closed():
                self.hang_up()

    # The connection's life.

    async def _serve(self) -> None:
        try:
            async with self._patience:
                await self._read()
        except TimeoutError:
            if not self._ended:
                await self._http.time_out()
        finally:
            self._ended = True
            await self._http.handle(Closed())
            await self._close()
            if self._handlers:
                await asyncio.wait(self._handlers)

    async def _read(self) -> None:
        while True:
            await self._arrived.wait()
            chunk = bytes(self._received[:CHUNK])
            del self._received[:CHUNK]
            if self._received:
                await asyncio.sleep(0)
            else:
                self._arrived.clear()
                self._transport.resume_reading()
            if self._idle:
                self._idle = False
                self._expect(self._limits.head)
            await self._http.handle(RawData(chunk))

    def _expect(self, seconds: float | None) -> None:
        """Give the client so long for what is due from it; `None`: nothing is."""
        if not (self._ended or self._patience.expired()):
            now = asyncio.get_running_loop().time()
            self.owing_since = None if seconds is None else now
            self._patience.reschedule(None if seconds is None else now + seconds)

    async def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            # An application that goes on writing must not keep the event loop from others.
            await asyncio.sleep(0)
            return
        self._transport.write(data)
        while not self._writable.is_set():
            waiting = self._transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._limits.stall):
                    await self._writable.wait()
            except TimeoutError:
                # A slow reader is no stalled one: what counts is that it took something.
                if self._transport.get_write_buffer_size() >= waiting:
                    log.info("a client stopped reading; its connection is closed")
                    self.abort()

    async def _close(self) -> None:
        # Closing at once with unread bytes around would reset the connection, and the client
        # could lose the answer it has not read yet.
        self._received.clear()
        self._transport.resume_reading()
        # A client that has just reset the connection makes this fail.
        with suppress(OSError):
            self._transport.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger):
                await self._lost.wait()
        self.abort()
        await self._lost.wait()
