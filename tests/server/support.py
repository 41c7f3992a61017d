"""A small application with every habit that matters to the listener, and raw clients for it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self, cast

from quart import Quart, Response, request

from mlxd.server.connection import Limits
from mlxd.server.listener import Listener, bind

DEADLINE = 60.0
"""Seconds after which a test that waits for something has failed."""
QUICK = Limits(head=0.4, body=0.5, idle=0.8, stall=0.3, linger=0.3)
PATIENT = Limits(head=600.0, body=600.0, idle=600.0, stall=600.0, linger=0.3, grace=600.0)
"""What ends within the deadline does not end because of these."""


@dataclass
class Record:
    """What the application's long-running handlers went through."""

    begun: int = 0
    ended: int = 0
    finish: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def handler(self) -> Iterator[None]:
        self.begun += 1
        try:
            yield
        finally:
            self.ended += 1


def build_app(record: Record) -> Quart:
    app = Quart("support")
    app.config.update(RESPONSE_TIMEOUT=None, BODY_TIMEOUT=None)

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    @app.post("/echo")
    async def echo() -> str:
        return str(len(await request.get_data()))

    @app.post("/refuse")
    async def refuse() -> tuple[str, int]:
        return "no, thank you", 413

    @app.route("/wait", methods=["GET", "POST"])
    async def wait() -> str:
        with record.handler():
            await request.get_data()
            await record.finish.wait()
            return "waited"

    @app.get("/stream")
    async def stream() -> Response:
        size = int(request.args.get("size", "10"))
        return Response(_chunks(record, size), content_type="text/event-stream")

    return app


async def _chunks(record: Record, size: int) -> AsyncIterator[bytes]:
    with record.handler():
        while not record.finish.is_set():
            yield b"x" * size
            await asyncio.sleep(0)
        yield b"finished"


@dataclass
class Served:
    """A listener that is serving the application on loopback."""

    listener: Listener
    record: Record
    sockets: list[socket.socket]

    @property
    def port(self) -> int:
        return int(self.sockets[0].getsockname()[1])

    async def connect(self) -> "Client":
        return await Client.open(self.port)

    async def get(self, path: str) -> "Answer":
        """One request on a connection of its own: the canary after every attack."""
        async with await self.connect() as client:
            return await client.get(path)


@asynccontextmanager
async def serving(limits: Limits = QUICK) -> AsyncIterator[Served]:
    record = Record()
    served = Served(Listener(build_app(record), limits), record, bind("127.0.0.1", 0))
    served.listener.start(served.sockets)
    try:
        yield served
    finally:
        await served.listener.stop_accepting()
        await served.listener.close(0.2)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A raw connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def get(self, path: str) -> Answer:
        self.send(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        return await self.answer()

    async def head(self) -> Answer:
        """The status line and header fields of the next answer."""
        async with asyncio.timeout(DEADLINE):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin1")
        status, *lines = text.split("\r\n")
        fields = (line.split(": ", 1) for line in lines if line)
        return Answer(int(status.split()[1]), {name.lower(): value for name, value in fields}, b"")

    async def answer(self) -> Answer:
        """The next answer, which says how long it is."""
        head = await self.head()
        async with asyncio.timeout(DEADLINE):
            body = await self.reader.readexactly(int(head.headers["content-length"]))
        return Answer(head.status, head.headers, body)

    async def rest(self) -> bytes:
        """Everything up to the server's end of the connection."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    async def ends_with(self, ending: bytes) -> bool:
        """Read until `ending` arrived last (true) or the connection ended (false)."""
        tail = b""
        async with asyncio.timeout(DEADLINE):
            while data := await self.reader.read(65536):
                tail = (tail + data)[-len(ending) :]
                if tail == ending:
                    return True
        return False

    async def is_closed(self) -> None:
        """Wait until the server ends the connection; nothing may arrive before."""
        assert await self.rest() == b""

    def stop_reading(self) -> None:
        """Let what the server sends pile up."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def reset(self) -> None:
        """Leave with a TCP reset instead of an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def half_close(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()


async def until(condition: Callable[[], bool], within: float = DEADLINE) -> None:
    """Wait until `condition` holds; fail when it takes longer than `within` seconds."""
    async with asyncio.timeout(within):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
