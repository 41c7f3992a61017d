"""The HTTP client of the terminal apps: typed answers, event streams, and problems in words.

Only connecting has a time limit: an answer may take as long as the model does. Leaving a call or a
stream, by cancellation too, closes its connection, and so ends what the server does for it.
"""

import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from types import TracebackType
from typing import TypeVar

import httpx
import msgspec
from httpx_sse import EventSource, SSEError

from mlxd import __version__
from mlxd.tui.problems import (
    ConnectionLost,
    NotAllowed,
    NotRunning,
    NotUnderstood,
    ServerProblem,
    ServerRefused,
)

CONNECT_TIMEOUT = 5.0
"""Seconds that connecting may take."""
MAX_PORT = 65535
MAX_DETAIL = 300
"""Characters of an error body that is not JSON."""

Decoded = TypeVar("Decoded")
UNTYPED = dict[str, object]


class ServerEvent(msgspec.Struct, frozen=True):
    """One event of a stream; `name` is `message` when the server gave none."""

    name: str
    data: str


class ServerClient:
    """One server, with the credentials for it; `async with` closes its connections.

    `token` goes out as a bearer token: the admin token for `/admin`, an API key for the rest.
    Every method raises a `ServerProblem`.
    """

    def __init__(
        self, url: str, token: str = "", *, connect_timeout: float = CONNECT_TIMEOUT
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"user-agent": f"mlxd/{__version__}"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=connect_timeout),
            # A proxy from the environment does not know this machine's loopback.
            trust_env=False,
            verify=_certificates(self.url),
        )

    async def __aenter__(self) -> "ServerClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def get(self, path: str, kind: type[Decoded]) -> Decoded:
        """The JSON at `path`, as a `kind` that msgspec can make."""
        return await self.call("GET", path, kind)

    async def post(self, path: str, body: object = None) -> dict[str, object]:
        """Post `body` as JSON; the JSON object that comes back, empty if there is none."""
        return await self.call("POST", path, UNTYPED, body)

    async def delete(self, path: str) -> dict[str, object]:
        """Delete what is at `path`; the JSON object that comes back, empty if there is none."""
        return await self.call("DELETE", path, UNTYPED)

    async def call(
        self, method: str, path: str, kind: type[Decoded], body: object = None
    ) -> Decoded:
        """A whole answer, as a `kind` that msgspec can make."""
        with self._in_words():
            request = self._request(method, path, body)
            response = await self._http.send(request)
        if not response.is_success:
            raise self._refusal(response)
        try:
            return msgspec.json.decode(response.content or b"{}", type=kind)
        except msgspec.DecodeError as error:
            raise NotUnderstood(self.url, f"{path}: {error}") from error

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: object = None
    ) -> AsyncIterator[tuple[Mapping[str, str], AsyncIterator[ServerEvent]]]:
        """Headers and the events that `path` sends; entering waits for the answer's status.

        The events end with the answer's last byte. Whether that was too early is for the caller to
        know, who can tell the last event.
        """
        with self._in_words():
            request = self._request(method, path, body, {"accept": "text/event-stream"})
            response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                with self._in_words():
                    await response.aread()
                raise self._refusal(response)
            async with aclosing(self._events(response)) as events:
                yield response.headers, events
        finally:
            await response.aclose()

    async def _events(self, response: httpx.Response) -> AsyncGenerator[ServerEvent, None]:
        with self._in_words():
            async with aclosing(EventSource(response).aiter_sse()) as events:
                async for event in events:
                    # An id or a retry time alone is no event.
                    if event.event or event.data:
                        yield ServerEvent(event.event or "message", event.data)

    def _request(
        self, method: str, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> httpx.Request:
        sent = dict(headers or {})
        content = None
        if body is not None:
            sent["content-type"] = "application/json"
            content = msgspec.json.encode(body)
        address = httpx.URL(self.url + path)
        if (address.port or 0) > MAX_PORT:
            raise httpx.InvalidURL(f"Invalid port: {address.port}")
        return self._http.build_request(method, address, content=content, headers=sent)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Whatever httpx raises inside becomes a `ServerProblem`."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotRunning(self.url, _reason(error)) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NotRunning(self.url, f"not an address of a server: {error}") from error
        except SSEError as error:
            raise NotUnderstood(self.url, str(error)) from error
        except httpx.HTTPError as error:
            raise ConnectionLost(self.url, _reason(error)) from error

    def _refusal(self, response: httpx.Response) -> ServerProblem:
        detail = _error_detail(response.content)
        match response.status_code:
            case 401 | 403:
                return NotAllowed(self.url, response.status_code, detail.message)
            case status if response.is_redirect:
                return NotUnderstood(self.url, f"status {status}, a redirect")
            case status:
                message = detail.message or f"The server answered with status {status}."
                wait = _seconds(response.headers.get("retry-after", ""))
                return ServerRefused(self.url, status, message, str(detail.code or ""), wait)


class _ErrorDetail(msgspec.Struct, frozen=True):
    """What an error body says, in the shape that mlxd's endpoints share."""

    message: str = ""
    code: str | int | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorDetail


def _error_detail(content: bytes) -> _ErrorDetail:
    try:
        return msgspec.json.decode(content, type=_ErrorBody).error
    except msgspec.DecodeError:
        text = content.decode("utf-8", "replace").strip()
        # A page for browsers says nothing that a line could show.
        return _ErrorDetail("" if text.startswith(("<", "{")) else text[:MAX_DETAIL])


def _reason(error: Exception) -> str:
    """What the system said, without the exception's type where it said anything."""
    if isinstance(error, httpx.ConnectTimeout):
        return "connecting took too long"
    for cause in _chain(error):
        if isinstance(cause, socket.gaierror):
            return cause.strerror or "the name is not known"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    return (str(error) or type(error).__name__).rstrip(".")


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and what it came from; groups (several addresses were tried) by their first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__
    return found


def _seconds(header: str) -> float:
    try:
        return max(0.0, float(header))
    except ValueError:
        return 0.0


def _certificates(url: str) -> ssl.SSLContext | bool:
    """Reading the certificates takes longer than all else here; plain HTTP needs none."""
    return ssl.create_default_context() if url.lower().startswith("https:") else False
