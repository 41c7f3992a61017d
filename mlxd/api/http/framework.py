"""Quart with what this server needs around every request: an id, a body budget, and an end.

The end is the point: whatever a request holds (its generations above all) is entered on
`ApiRequest.stack`, which is left when the response was sent, failed, or lost its client. A
WebSocket's handshake is a request too, and what comes after it ends with its task.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import msgspec
from quart import Quart, has_websocket_context, request, websocket
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.typing import ResponseTypes
from quart.wrappers import Request, Websocket
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException

from mlxd.api.dialect import Caller, ErrorReply
from mlxd.api.http.body import BodyBudget, CountedBody
from mlxd.api.http.client_info import client_of
from mlxd.api.http.request_log import Record
from mlxd.config.settings import Settings
from mlxd.errors import MlxdError

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

PLAIN_HTTP = "This server speaks plain HTTP here, not WebSocket."
UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers that keep proxies from holding a stream back."""
MAX_WAITING = 8
"""Messages of a WebSocket that wait while one is answered."""
MAX_BESIDE = 64 * 1024
"""Bytes of a message that may wait beside others."""
MAX_DROPPED = 12
"""Messages beyond those that a client may send before it is cut off at once."""
TRY_AGAIN_LATER = 1013
TOO_MANY = "too many messages at once"


def new_request_id() -> str:
    """128 random bits."""
    return f"req_{secrets.token_hex(16)}"


@dataclass(frozen=True)
class Tuning:
    """What tests turn. Seconds."""

    idle: float = 10.0
    """Silence after which a stream gets something that keeps it alive."""
    body_timeout: float = 30.0
    """How long a request body may take to arrive."""
    socket_limit: float = 3600.0
    """How long a WebSocket stays open."""
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = new_request_id


class IncomingRequest(BaseRequestWebsocket):
    """What a request and the handshake of a WebSocket have in common."""

    budget: ClassVar[BodyBudget]
    tuning: ClassVar[Tuning]
    validation_status: ClassVar[int]
    id: str
    created: int
    record: Record
    key = ""
    """Short hash of the API key, empty when none is configured."""
    best_priority = 0
    """See `Caller`."""
    authorized = False
    """The key was checked and is right, or none is configured."""
    allowed_origin = ""
    """The Origin header, if a page of that origin may read the response."""

    def arrive(self) -> None:
        """Give it its id and its record."""
        self.id = self.tuning.new_id()
        self.created = int(self.tuning.clock())
        self.record = Record(self.id, client_of(self.client, cast(Mapping[str, str], self.headers)))

    @property
    def client(self) -> str:
        """The client's address, empty on a Unix socket."""
        address = self.scope.get("client")
        return address[0] if address else ""

    @property
    def local_address(self) -> str:
        """The address of this machine that the client connected to, empty on a Unix socket."""
        address = self.scope.get("server")
        return address[0] if address else ""

    @property
    def local_port(self) -> int:
        """The port that the client connected to, 0 on a Unix socket."""
        address = self.scope.get("server")
        return address[1] or 0 if address else 0

    def caller(self) -> Caller:
        """What a dialect may know of this request."""
        return Caller(
            request_id=self.id,
            key=self.key,
            best_priority=self.best_priority,
            created=self.created,
            path_args=dict(self.view_args or {}),
            validation_status=self.validation_status,
            rule=self.url_rule.rule if self.url_rule else "",
        )


class ApiRequest(IncomingRequest, Request):
    """A request with its id, its log record, and the stack of what it holds."""

    stack: AsyncExitStack

    def __init__(self, *args: Any, max_content_length: int | None = None, **options: Any) -> None:
        super().__init__(*args, max_content_length=max_content_length, **options)
        # In place of Quart's own, which knows one request's limit and not that of all together.
        self.counted_body = CountedBody(self.content_length, max_content_length, self.budget)
        self.body = self.counted_body
        self.arrive()

    async def close(self) -> None:
        self.counted_body.release()
        await super().close()


class MessagesDropped(Exception):
    """A WebSocket's client has sent more than may wait; what came from there on is lost."""


_DROPPED = object()
"""In a WebSocket's queue: here messages were dropped."""


class ApiSocket(IncomingRequest, Websocket):
    """A WebSocket, from its handshake on."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.arrive()

    async def receive(self) -> str | bytes:
        """The next message; raises `MessagesDropped` behind the last one that was taken."""
        message: object = await super().receive()
        if message is _DROPPED:
            raise MessagesDropped
        return cast(str | bytes, message)


def current_request() -> ApiRequest:
    """The request that this task is answering."""
    return cast(ApiRequest, request)


def current_socket() -> ApiSocket:
    """The WebSocket that this task is serving."""
    return cast(ApiSocket, websocket)


def current_incoming() -> IncomingRequest:
    """Whichever of the two it is."""
    return current_socket() if has_websocket_context() else current_request()


class ApiConnection(ASGIHTTPConnection):
    """One request and its response; leaving by any door leaves the request's stack."""

    async def handle_request(self, request: Request, send: Send) -> None:
        ours = cast(ApiRequest, request)
        try:
            # Around the sending: a stream's generations are left when its last byte is out, or when
            # its client is gone, which Quart turns into a cancellation of this.
            async with AsyncExitStack() as ours.stack:
                await super().handle_request(request, send)
        finally:
            ours.record.write()


class ApiSocketConnection(ASGIWebsocketConnection):
    """One WebSocket. Of a client that sends faster than it is answered the rest is dropped.

    What was taken is answered first, unless it goes on sending.
    """

    async def __call__(self, receive: Receive, send: Send) -> None:
        self._send = send
        await super().__call__(receive, send)

    async def handle_messages(self, receive: Receive) -> None:
        dropped = 0
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.receive" and dropped:
                dropped += 1
                if dropped >= MAX_DROPPED:
                    await self.close_connection(self._send, TRY_AGAIN_LATER, TOO_MANY)
                    return
            elif event["type"] == "websocket.receive":
                text = event.get("text")
                message = event["bytes"] if text is None else text
                # The queue of Quart has no limit, and the socket would never feel the pressure.
                # Reading goes on all the same, or a client that leaves would not be noticed.
                full = self.queue.qsize() >= (1 if len(message) > MAX_BESIDE else MAX_WAITING)
                dropped += full
                self.queue.put_nowait(_DROPPED if full else message)

    async def handle_websocket(self, websocket: Websocket, send: Send) -> None:
        ours = cast(ApiSocket, websocket)
        try:
            await super().handle_websocket(websocket, send)
        finally:
            ours.record.write()


class Api(Quart):
    """The application object; `refuse_host` answers what routing can't even look at.

    `unread` has the words for an error in a request that was never read as one, by the path that it
    names; None for a path of nobody. `configure` takes what may change while it serves.
    """

    asgi_http_class = ApiConnection
    asgi_websocket_class = ApiSocketConnection
    refuse_host: Callable[[IncomingRequest], ResponseTypes]
    unread: Callable[[str, MlxdError], ErrorReply | None]
    configure: Callable[[Settings], None]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.draining = asyncio.Event()
        """Set when the server is about to end: open WebSockets close as soon as they can."""

    async def asgi_app(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Before Quart, whose answer would be 404: at 426 clients go on with plain HTTP.
            paths = self.url_map.bind("localhost", url_scheme="ws")
            if not paths.test(scope["path"] or "/", "GET"):
                await _refuse_websocket(scope, send)
                return
        if scope["type"] == "http" and not scope["path"]:
            scope = {**scope, "path": "/"}
        await super().asgi_app(scope, receive, send)

    async def handle_request(self, request: Request) -> ResponseTypes:
        try:
            return await super().handle_request(request)
        except HTTPException:
            # Quart reads the Host header before any handler of errors is in place.
            return self.refuse_host(cast(ApiRequest, request))

    async def handle_websocket(self, websocket: Websocket) -> ResponseTypes | None:
        try:
            return await super().handle_websocket(websocket)
        except HTTPException:
            return self.refuse_host(cast(ApiSocket, websocket))


async def _refuse_websocket(scope: Any, send: Send) -> None:
    """426: clients that try a WebSocket first then go on with plain HTTP at once."""
    # Without the extension there is no way to send a response to a handshake.
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    body = msgspec.json.encode({"error": {"message": PLAIN_HTTP}})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "websocket.http.response.start", "status": 426, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
