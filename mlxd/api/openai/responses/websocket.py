"""Responses over a WebSocket: one turn after the other, the last one remembered.

A message is the body of a request; what comes back are the events of its stream, as messages. The
latest response can be gone on from even if it is not stored.
"""

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Protocol

from mlxd.api.dialect import Caller, ErrorReply, Frame, JsonObject
from mlxd.api.endpoints import Services
from mlxd.api.http.body import in_turns, parse_json
from mlxd.api.http.framework import TOO_MANY, TRY_AGAIN_LATER, ApiSocket, MessagesDropped
from mlxd.api.http.internal_errors import bugs_hidden
from mlxd.api.http.request_log import Record
from mlxd.api.http.request_reader import IGNORED, ignored_header, repaired_header
from mlxd.api.openai.responses.continuation import Continuations, Latest
from mlxd.api.openai.responses.format.calls import UnresolvedCall
from mlxd.api.openai.responses.format.socket_messages import (
    error_message,
    requested_body,
    with_fields,
)
from mlxd.errors import EngineStopped, InvalidField, MlxdError, Overloaded, revive
from mlxd.events import Failed

MAX_SOCKETS = 32
"""WebSockets that are open at once."""
GOING_AWAY = 1001
NORMAL = 1000

LIMIT_REACHED = InvalidField(
    "",
    "value",
    "This WebSocket has been open as long as it may. Open a new one to go on.",
    "websocket_connection_limit_reached",
)


class SocketDialect(Protocol):
    """What of a dialect its WebSockets need."""

    name: str

    def response_call(self, body: JsonObject, caller: Caller) -> UnresolvedCall:
        """A body, understood; raises `InvalidField`."""

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""


class Sockets:
    """Every WebSocket of the server."""

    def __init__(self, continuations: Continuations, services: Services) -> None:
        self._continuations = continuations
        self._services = services
        self._open = 0

    async def serve(self, dialect: SocketDialect, socket: ApiSocket) -> None:
        """Answer until the client leaves, the time is over, or the server ends."""
        if self._services.draining.is_set():
            raise EngineStopped
        if self._open >= MAX_SOCKETS:
            raise Overloaded(reason="Too many WebSockets are open.")
        self._open += 1
        try:
            await socket.accept()
            await SocketSession(self._continuations, self._services, dialect, socket).answer_all()
        finally:
            self._open -= 1


class SocketSession:
    """One WebSocket; `_latest` is what its next turn may go on from without the store."""

    def __init__(
        self,
        continuations: Continuations,
        services: Services,
        dialect: SocketDialect,
        socket: ApiSocket,
    ) -> None:
        self._continuations = continuations
        self._services = services
        self._dialect = dialect
        self._socket = socket
        self._latest: Latest | None = None

    async def answer_all(self) -> None:
        """Turn after turn; closes the WebSocket at the end."""
        limit = asyncio.get_running_loop().time() + self._services.tuning.socket_limit
        draining = self._services.draining
        while not draining.is_set():
            try:
                message = await self._next(limit)
            except MessagesDropped:
                # What was taken is answered by now; who sent more is told where it ends.
                await self._socket.close(TRY_AGAIN_LATER, TOO_MANY)
                return
            if message is not None:
                await self._answer(message)
            elif not draining.is_set():
                await self._refuse(LIMIT_REACHED, self._caller(self._socket.id))
                await self._socket.close(NORMAL, "time limit")
                return
        await self._socket.close(GOING_AWAY, "the server is shutting down")

    async def _next(self, limit: float) -> bytes | None:
        """The next message; None when the time is over or the server ends."""
        seconds = limit - asyncio.get_running_loop().time()
        receiving = asyncio.create_task(self._socket.receive())
        draining = asyncio.create_task(self._services.draining.wait())
        tasks: set[asyncio.Task[str | bytes] | asyncio.Task[bool]] = {receiving, draining}
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                return None
            message = receiving.result()
            return message.encode() if isinstance(message, str) else message
        finally:
            # Nothing is lost: what has arrived stays in the socket's queue.
            for task in tasks:
                task.cancel()

    async def _answer(self, message: bytes) -> None:
        # A line in the log for each turn; the socket has its own when it closes.
        record = Record(self._services.tuning.new_id(), self._socket.record.client)
        record.dialect, record.stream, record.status = self._dialect.name, True, 200
        caller = self._caller(record.id)
        continued = ""
        try:
            with bugs_hidden(record.id):
                call, ignored = await self._parse(message, caller, record)
                continued = call.previous
                await self._send_answer(call, ignored, caller, record=record)
        except MlxdError as error:
            record.error = type(error).__name__
            self._services.refused(record)
            record.status = await self._refuse(error, caller)
            self._forget(continued)
        finally:
            record.write()

    async def _parse(
        self, message: bytes, caller: Caller, record: Record
    ) -> tuple[UnresolvedCall, tuple[str, ...]]:
        """A message, understood, and its fields that mean nothing here."""

        def understand() -> tuple[UnresolvedCall, tuple[str, ...]]:
            body, ignored = requested_body(parse_json(message, record.repaired))
            return self._dialect.response_call(body, caller), ignored

        # Messages count as bodies do: many sockets could hold as much as many requests.
        budget = self._socket.budget
        budget.take(len(message))
        try:
            return await in_turns(len(message), understand)
        finally:
            budget.give(len(message))

    async def _send_answer(
        self, call: UnresolvedCall, ignored: tuple[str, ...], caller: Caller, *, record: Record
    ) -> None:
        model = self._services.reader.model(call.requested_model, record)
        turn = await self._continuations.resolved(call, caller, model, latest=self._latest)
        async with AsyncExitStack() as stack:
            exchange, stores = await self._continuations.open(turn, stack, record)
            header = ignored_header((*exchange.ignored, *ignored))
            # No header can be sent any more: its names go into the answer's first event, beside
            # the response, which is stored and compared.
            names = header | repaired_header(header.get(IGNORED, ""), record.repaired)
            async with aclosing(exchange.frames()) as batches:
                async for frames in batches:
                    await self._send(frames, names, caller, record=record)
                    names = {} if frames else names
        if (latest := stores.latest()) is None:
            self._forget(call.previous)
        else:
            self._latest = latest

    async def _send(
        self, frames: list[Frame], first: JsonObject, caller: Caller, *, record: Record
    ) -> None:
        """The frames that are events, one message each; the first one with these fields besides."""
        end = record.terminals.get(0)
        for frame in frames:
            if frame.event is None:
                continue
            fields, first = first, {}
            if frame.event == "error" and isinstance(end, Failed):
                status = self._dialect.error(revive(end.error), caller).status
                fields = {**fields, "status": status}
            data = with_fields(frame.data, fields) if fields else frame.data
            await self._socket.send(data.decode())

    async def _refuse(self, error: MlxdError, caller: Caller) -> int:
        """Send an error that no response shows; its status."""
        reply = self._dialect.error(error, caller)
        await self._socket.send(error_message(reply).decode())
        return reply.status

    def _forget(self, continued: str) -> None:
        """A turn that went on from the latest response has failed: it can't be tried again."""
        # The vendor's servers forget it too: clients send the whole history then.
        if self._latest is not None and continued == self._latest.id:
            self._latest = None

    def _caller(self, request_id: str) -> Caller:
        services = self._services
        caller = self._socket.caller()
        created = int(services.tuning.clock())
        return replace(caller, request_id=request_id, created=created)
