"""Responses over a WebSocket: one turn after the other, the last one remembered.

A message is the body of a request with `"type": "response.create"`; what comes back are the events
of its stream, as messages. The latest response can be gone on from even if it is not stored.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

import msgspec
from quart.wrappers import Websocket

from mlxd.api.dialect import Caller, Dialect, Frame, JsonObject, MemoryCall
from mlxd.api.http.body import in_turns, parse_json
from mlxd.api.http.framework import ApiSocket, Tuning
from mlxd.api.http.internal_errors import crashes_told
from mlxd.api.http.request_log import Record
from mlxd.api.http.request_reader import Reception
from mlxd.api.openai.responses.continuation import Latest, Memory
from mlxd.errors import EngineStopped, InvalidField, MlxdError, Overloaded, revive
from mlxd.events import Failed

MAX_SOCKETS = 32
"""WebSockets that are open at once."""
NOT_HERE = ("stream", "stream_options", "background")
"""Fields that say how an answer is transported."""
GOING_AWAY = 1001
NORMAL = 1000

LIMIT_REACHED = InvalidField(
    "",
    "value",
    "This WebSocket has been open as long as it may. Open a new one to go on.",
    "websocket_connection_limit_reached",
)


class Sockets:
    """Every WebSocket of the server."""

    def __init__(
        self,
        memory: Memory,
        reception: Reception,
        *,
        tuning: Tuning,
        validation_status: int,
        draining: asyncio.Event,
        refused: Callable[[Record], None],
    ) -> None:
        self.memory = memory
        self.reception = reception
        self.tuning = tuning
        self.validation_status = validation_status
        self.draining = draining
        self.refused = refused
        self._open = 0

    async def serve(self, dialect: Dialect, socket: ApiSocket) -> None:
        """Answer until the client leaves, the time is over, or the server ends."""
        if self.draining.is_set():
            raise EngineStopped
        if self._open >= MAX_SOCKETS:
            raise Overloaded(reason="Too many WebSockets are open.")
        self._open += 1
        try:
            await socket.accept()
            await Talk(self, dialect, socket).go_on()
        finally:
            self._open -= 1


class Talk:
    """What is said on one WebSocket."""

    def __init__(self, sockets: Sockets, dialect: Dialect, socket: ApiSocket) -> None:
        self._sockets = sockets
        self._dialect = dialect
        self._socket = socket
        self._latest: Latest | None = None

    async def go_on(self) -> None:
        """Turn after turn; closes the WebSocket at the end."""
        limit = asyncio.get_running_loop().time() + self._sockets.tuning.socket_limit
        while not self._sockets.draining.is_set():
            message = await self._next(limit)
            if message is not None:
                await self._answer(message)
            elif not self._sockets.draining.is_set():
                await self._refuse(LIMIT_REACHED, self._caller(self._socket.id))
                await self._socket.close(NORMAL, "time limit")
                return
        await self._socket.close(GOING_AWAY, "the server is shutting down")

    async def _next(self, limit: float) -> bytes | None:
        """The next message; None when the time is over or the server ends."""
        seconds = limit - asyncio.get_running_loop().time()
        receiving = asyncio.create_task(_receive(self._socket))
        draining = asyncio.create_task(self._sockets.draining.wait())
        tasks: set[asyncio.Task[bytes] | asyncio.Task[bool]] = {receiving, draining}
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else None
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, message: bytes) -> None:
        sockets = self._sockets
        record = Record(sockets.tuning.new_id(), self._socket.record.client)
        record.dialect, record.stream, record.status = self._dialect.name, True, 200
        caller = self._caller(record.id)
        continued = ""
        try:
            with crashes_told(record.id):
                call = await self._parse(message, caller)
                continued = call.previous
                await self._tell(call, caller, record)
        except MlxdError as error:
            record.error = type(error).__name__
            sockets.refused(record)
            record.status = await self._refuse(error, caller)
            self._forget(continued)
        finally:
            record.write()

    async def _parse(self, message: bytes, caller: Caller) -> MemoryCall:
        budget = self._socket.budget
        budget.take(len(message))
        try:
            call = await in_turns(len(message), lambda: self._understand(message, caller))
        finally:
            budget.give(len(message))
        return call

    def _understand(self, message: bytes, caller: Caller) -> MemoryCall:
        body = parse_json(message)
        if (kind := body.pop("type", None)) != "response.create":
            text = f"Invalid value: {kind!r:.64}. Supported values are: 'response.create'."
            raise InvalidField("type", "missing" if kind is None else "value", text)
        wanted = {name: value for name, value in body.items() if name not in NOT_HERE}
        call = self._dialect.parse({**wanted, "stream": True}, caller)
        if not isinstance(call, MemoryCall):
            raise TypeError(f"{self._dialect.name} has no memory")
        return call

    async def _tell(self, call: MemoryCall, caller: Caller, record: Record) -> None:
        model = self._sockets.reception.model(call.asked_model, record)
        memory, created = self._sockets.memory, float(caller.created)
        turn = await memory.turn(call, caller.key, model, created=created, latest=self._latest)
        async with AsyncExitStack() as stack:
            exchange, settling = await memory.open(turn, stack, record)
            async with aclosing(exchange.frames()) as told:
                async for frames in told:
                    await self._send(frames, record, caller)
        if (latest := settling.latest()) is None:
            self._forget(call.previous)
        else:
            self._latest = latest

    async def _send(self, frames: list[Frame], record: Record, caller: Caller) -> None:
        """The frames that are events, one message each."""
        for frame in frames:
            if frame.event is not None:
                data = frame.data
                if frame.event == "error":
                    data = self._with_status(data, record, caller)
                await self._socket.send(data.decode())

    def _with_status(self, data: bytes, record: Record, caller: Caller) -> bytes:
        """An error as this transport has it: with the status that HTTP would have."""
        event: JsonObject = msgspec.json.decode(data)
        end = record.terminals.get(0)
        if isinstance(end, Failed):
            event["status"] = self._dialect.error(revive(end.error), caller).status
        return msgspec.json.encode(event)

    async def _refuse(self, error: MlxdError, caller: Caller) -> int:
        """Tell an error that no response tells; its status."""
        reply = self._dialect.error(error, caller)
        told = reply.body["error"]
        body = {**told, "code": told["code"] or told["type"]}
        event = {"type": "error", "status": reply.status, "error": body}
        await self._socket.send(msgspec.json.encode(event).decode())
        return reply.status

    def _forget(self, continued: str) -> None:
        """A turn that went on from the latest response has failed: it can't be tried again."""
        if self._latest is not None and continued == self._latest.id:
            self._latest = None

    def _caller(self, request_id: str) -> Caller:
        sockets, socket = self._sockets, self._socket
        return replace(
            socket.caller(sockets.validation_status, "respond"),
            request_id=request_id,
            created=int(sockets.tuning.clock()),
        )


async def _receive(socket: Websocket) -> bytes:
    message = await socket.receive()
    return message.encode() if isinstance(message, str) else message
