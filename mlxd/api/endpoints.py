"""The contract for dialects with endpoints of their own, beyond generating and counting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast, runtime_checkable

import msgspec

from mlxd.api.dialect import Caller, Framing, ParsedCall
from mlxd.api.http.exchange import open_exchange
from mlxd.api.http.framework import ApiRequest, ApiSocket, Tuning
from mlxd.api.http.request_log import Record
from mlxd.api.http.request_reader import RequestReader, ignored_header
from mlxd.engine.interface import Engine
from mlxd.history import Store
from mlxd.status import ModelFacts

Single = TypeVar("Single")


@dataclass(frozen=True)
class Services:
    """What endpoints may use. Without a `store` nothing is remembered between requests."""

    engine: Engine
    store: Store | None
    reader: RequestReader
    tuning: Tuning
    draining: asyncio.Event
    """Set when the server is about to end."""
    refused: Callable[[Record], None]
    """To be called with the record of what was refused outside an HTTP response."""
    at_shutdown: Callable[[Callable[[], Awaitable[None]]], object]
    """Has a function called once the engine has stopped."""
    describe: Callable[[str], ModelFacts]
    """What the files of a source say; reads them, so it is for threads."""
    _singles: dict[object, object] = field(default_factory=dict)

    def single(self, make: Callable[["Services"], Single]) -> Single:
        """What `make` makes, made once for all dialects of a server."""
        if make not in self._singles:
            self._singles[make] = make(self)
        return cast(Single, self._singles[make])


@dataclass(frozen=True)
class ApiCall:
    """A request to such an endpoint."""

    request: ApiRequest
    caller: Caller

    @property
    def owner(self) -> str:
        """Whose responses and conversations the caller sees."""
        return self.caller.key

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.args

    @property
    def record(self) -> Record:
        return self.request.record

    @property
    def stack(self) -> AsyncExitStack:
        """Is left when the response was sent, failed, or lost its client."""
        return self.request.stack


@dataclass(frozen=True)
class Reply:
    """A response: JSON that is already written, or a stream with its media type."""

    body: bytes | AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


def json_reply(body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """`body` as JSON."""
    return Reply(msgspec.json.encode(body), headers or {})


Handler = Callable[[ApiCall], Awaitable[Reply]]


async def generated(
    services: Services, call: ApiCall, parsed: ParsedCall, framing: Framing
) -> Reply:
    """The answer to a parsed call whose model is known: the one path of all dialects."""
    engine, idle = services.engine, services.tuning.idle
    call.record.stream = parsed.stream
    if not parsed.stream:
        # A stack of its own: the slot is free before the answer is sent.
        async with AsyncExitStack() as stack:
            exchange = await open_exchange(engine, parsed, stack, record=call.record, idle=idle)
            headers = ignored_header(exchange.ignored)
            return Reply(await exchange.collect(parsed.renderer), headers)
    exchange = await open_exchange(engine, parsed, call.stack, record=call.record, idle=idle)
    return Reply(exchange.stream(framing), ignored_header(exchange.ignored), framing.media_type)


@dataclass(frozen=True)
class View:
    """An endpoint: what answers a method at a path, in Quart's rule syntax."""

    method: str
    rule: str
    handler: Handler


@dataclass(frozen=True)
class SocketView:
    """A WebSocket at a path."""

    rule: str
    handler: Callable[[ApiSocket], Awaitable[None]]


@runtime_checkable
class Endpoints(Protocol):
    """A dialect that brings views."""

    def views(self, services: Services) -> Sequence[View | SocketView]:
        """Its endpoints; those that need what `services` lacks are not there."""
