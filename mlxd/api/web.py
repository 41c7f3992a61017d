"""Quart with what this server needs around every request: an id, a body budget, and an end.

The end is the point: whatever a request holds (its generations above all) is entered on
`ApiRequest.stack`, which is left when the response was sent, failed, or lost its client.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import msgspec
from quart import Quart, request
from quart.asgi import ASGIHTTPConnection
from quart.typing import ResponseTypes
from quart.wrappers import Request
from werkzeug.exceptions import HTTPException

from mlxd.api.body import BodyBudget, CountedBody
from mlxd.api.client import client_of
from mlxd.api.dialect import Caller
from mlxd.api.record import Record

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


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
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = new_request_id


class ApiRequest(Request):
    """A request with its id, its log record, and the stack of what it holds."""

    budget: ClassVar[BodyBudget]
    tuning: ClassVar[Tuning]
    stack: AsyncExitStack
    key = ""
    """Short hash of the API key, empty when none is configured."""
    authorized = False
    """The key was checked and is right, or none is configured."""
    allowed_origin = ""
    """The Origin header, if a page of that origin may read the response."""

    def __init__(self, *args: Any, max_content_length: int | None = None, **options: Any) -> None:
        super().__init__(*args, max_content_length=max_content_length, **options)
        self.counted_body = CountedBody(self.content_length, max_content_length, self.budget)
        self.body = self.counted_body
        self.id = self.tuning.new_id()
        self.created = int(self.tuning.clock())
        self.record = Record(self.id, client_of(self.client, self.headers))

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

    def caller(self, validation_status: int, operation: str = "generate") -> Caller:
        """What a dialect may know of this request."""
        return Caller(
            request_id=self.id,
            key=self.key,
            created=self.created,
            path_args=dict(self.view_args or {}),
            validation_status=validation_status,
            operation=operation,
            rule=self.url_rule.rule if self.url_rule else "",
        )

    async def close(self) -> None:
        self.counted_body.release()
        await super().close()


def current_request() -> ApiRequest:
    """The request that this task is answering."""
    return cast(ApiRequest, request)


class ApiConnection(ASGIHTTPConnection):
    """One request and its response; leaving by any door leaves the request's stack."""

    async def handle_request(self, request: Request, send: Send) -> None:
        ours = cast(ApiRequest, request)
        try:
            async with AsyncExitStack() as ours.stack:
                await super().handle_request(request, send)
        finally:
            ours.record.write()


class Api(Quart):
    """The application object; `refuse_host` answers what routing can't even look at."""

    asgi_http_class = ApiConnection
    refuse_host: Callable[[ApiRequest], ResponseTypes]

    async def asgi_app(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
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


async def _refuse_websocket(scope: Any, receive: Receive, send: Send) -> None:
    """426: clients that try a WebSocket first then go on with plain HTTP at once."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1000})
        return
    message = "This server speaks plain HTTP here, not WebSocket."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    body = msgspec.json.encode({"error": error})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "websocket.http.response.start", "status": 426, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
