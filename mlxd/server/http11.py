"""Hypercorn's HTTP/1.1, which refuses what is no request in words that its client's kind knows."""

from collections.abc import Callable
from urllib.parse import unquote

import h11
import msgspec
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol

from mlxd.api.dialect import ErrorReply
from mlxd.errors import MalformedRequest, MlxdError, Overloaded

MAX_FIELDS = 100
"""Header fields of one request."""
MAX_HEAD = 64 * 1024
"""Bytes of one request's line and header fields; some agents send large metadata headers."""
PROBLEMS = {
    400: "This is not a request that this server understands.",
    408: "The request took too long to arrive.",
    431: "The request's header fields are too large.",
    503: "The server has too many open connections.",
    505: "This server speaks HTTP/1.1 only.",
}
MAX_LINE = 2048
"""Bytes of a request line that are looked at for the path that it names."""

Unread = Callable[[str, MlxdError], ErrorReply | None]
"""What says an error in the words of those who use a path; None for a path of nobody."""


def of_nobody(path: str, error: MlxdError) -> None:
    """Nobody's words."""


class Http11(H11Protocol):
    """Hypercorn's HTTP/1.1 that refuses what has no business here."""

    turn_away = False
    """Answer whatever comes with 503."""
    unread: Unread = staticmethod(of_nobody)
    _path = ""
    """What the request line names, whether or not the request is one."""
    _refused = False
    _asks_for_head = False

    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            self._look_ahead(event.data)
        try:
            await super().handle(event)
        except h11.RemoteProtocolError as error:
            await self._send_error_response(error.error_status_hint)
            await self.send(Closed())

    def _look_ahead(self, data: bytes = b"") -> None:
        """Take note of the path: of what it can't read h11 keeps nothing."""
        if self.connection.their_state is h11.IDLE:
            begun = self.connection.trailing_data[0][:MAX_LINE]
            line = (begun + data[:MAX_LINE]).partition(b"\n")[0].split(b" ")
            target = line[1] if len(line) > 1 and line[1].startswith(b"/") else b""
            self._path = unquote(target.partition(b"?")[0].strip())

    async def _maybe_recycle(self) -> None:
        await super()._maybe_recycle()
        # Of the next request the beginning may be here already.
        self._look_ahead()

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
        words = PROBLEMS.get(status_code, PROBLEMS[400])
        full = status_code == 503
        error = Overloaded(reason=words) if full else MalformedRequest(words)
        reply = self.unread(self._path, error) or ErrorReply(
            status_code, {"error": {"message": str(error)}}, {"retry-after": "1"} if full else {}
        )
        body = msgspec.json.encode(reply.body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in reply.headers.items()),
            *self.config.response_headers("h11"),
        ]
        # What is wrong with a request only HTTP's own status says; for a full server each has one.
        status = reply.status if full else status_code
        # Without a request waiting for its answer, the last one's method says nothing.
        bodiless = self._asks_for_head and self.connection.our_state is h11.SEND_RESPONSE
        await self._send_h11_event(h11.Response(status_code=status, headers=headers))
        if not bodiless:
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())
