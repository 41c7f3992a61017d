"""One client's connection: Hypercorn's HTTP/1.1 with limits around it that it does not have.

Hypercorn parses requests and speaks ASGI. Reading, writing and closing are done here, because its
own server waits for ever for a client that stopped reading, does not notice that a client left
after sending one byte too many, and can't end a stream when it shuts down.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import h11
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import (
    AppWrapper,
    ASGIFramework,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    Scope,
    TaskGroup,
)

log = logging.getLogger(__name__)

MAX_FIELDS = 100
"""Header fields of one request."""
MAX_HEAD = 64 * 1024
"""Bytes of one request's line and header fields; some agents send large metadata headers."""
MAX_UNREAD = 64 * 1024
"""Bytes received and not yet parsed: more wait in the kernel, and are refused after a request."""
CHUNK = 8 * 1024
"""Bytes parsed before other connections get a turn; tiny body chunks make parsing slow."""

PROBLEMS = {
    400: "This is not a request that this server understands.",
    408: "The request took too long to arrive.",
    431: "The request's header fields are too large.",
    503: "The server has too many open connections. Please try again in 1s.",
    505: "This server speaks HTTP/1.1 only.",
}


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


class Http11(H11Protocol):
    """Hypercorn's HTTP/1.1 that refuses what has no business here."""

    turn_away = False
    """Answer whatever comes with 503."""
    _refused = False
    _asks_for_head = False

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except h11.RemoteProtocolError as error:
            await self._send_error_response(error.error_status_hint)
            await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        if self._refused:
            return
        if isinstance(event, Response) and self.connection.their_state is h11.SEND_BODY:
            # The rest of the body will not be read, so no other request can follow it. Clients that
            # are not told keep the connection for their next request, which then fails.
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def time_out(self) -> None:
        """The request did not arrive in time; says so unless nothing of it arrived."""
        begun = self.connection.our_state is h11.SEND_RESPONSE or self.connection.trailing_data[0]
        if begun and self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            await self._send_error_response(408)

    @property
    def request_complete(self) -> bool:
        """A request arrived whole and is not answered yet: more bytes belong to the next."""
        # It is None on an accepted WebSocket, where there is no next request.
        return self.connection.their_state not in {h11.IDLE, h11.SEND_BODY, None}

    async def _check_protocol(self, event: h11.Request) -> None:
        # An upgrade to HTTP/2 is refused by answering in HTTP/1.1, as the clients that offer one
        # by default (Java's) expect; so nothing of Hypercorn's own method is wanted.
        self._asks_for_head = event.method == b"HEAD"
        if status := self._refusal(event):
            raise h11.RemoteProtocolError(PROBLEMS[status], error_status_hint=status)

    def _refusal(self, request: h11.Request) -> int | None:
        fields = list(request.headers)
        if self.turn_away:
            return 503
        if request.http_version not in {b"1.0", b"1.1"}:
            return 505
        if len(fields) > MAX_FIELDS or sum(len(n) + len(v) + 4 for n, v in fields) > MAX_HEAD:
            return 431
        # Two ways to say where the body ends: a proxy in front may believe the other one.
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in fields}:
            return 400
        # Other forms (http://host/path, *, host:port) would reach routing as another path than
        # the one that was authorised.
        return None if request.target.startswith(b"/") else 400

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(request)
        # Hypercorn has answered by itself, to a WebSocket's handshake that is wrong.
        if self.stream is not None and self.stream.closed:
            await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        self._refused = True
        message = PROBLEMS.get(status_code, PROBLEMS[400])
        kind = "server_error" if status_code >= 500 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": None}
        body = json.dumps({"error": error}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"1")] if status_code == 503 else []),
            *self.config.response_headers("h11"),
        ]
        # Without a request waiting for its answer, the last one's method says nothing.
        bodiless = self._asks_for_head and self.connection.our_state is h11.SEND_RESPONSE
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if not bodiless:
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


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
    ) -> None:
        self._turn_away = turn_away
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
