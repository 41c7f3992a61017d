"""An admin endpoint that says what a test lets it say, on a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from mlxd.status import Lifecycle, Status, ThroughputHistory
from mlxd.tui.client import ServerClient

TOKEN = "secret"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class FakeAdmin:
    """Serves `status` and `history`; `refusal` (a status and words) answers everything if set."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self.history = ThroughputHistory()
        self.refusal: tuple[int, str] | None = None
        self.posted: list[str] = []
        self.calls = 0
        self.port = 0
        self.watchers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> ServerClient:
        """A client with the right token."""
        return ServerClient(self.url, TOKEN)

    async def start(self) -> None:
        """Listen; at the same port as before, if there was one."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end every stream."""
        if self._server is not None:
            self._server.close()
        for writer in list(self.watchers):
            writer.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell(self, status: Status) -> None:
        """Send a newer status to everyone who watches."""
        self.status = status
        self.send("status", msgspec.json.encode(status))

    def happen(self, event: Lifecycle) -> None:
        """Send an event to everyone who watches."""
        self.send("activity", msgspec.json.encode(event))

    def send(self, name: str, data: bytes) -> None:
        for writer in self.watchers:
            writer.write(b"event: %s\ndata: %s\n\n" % (name.encode(), data))

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._talk(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before its first step closes nothing.
        task.add_done_callback(lambda _: writer.close())

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.calls += 1
                await self._answer(head, reader, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, path, _ = head.split(" ", 2)
        if f"Bearer {TOKEN}" not in head:
            self._reply(writer, 401, {"error": {"message": "The admin token is wrong."}})
        elif self.refusal is not None:
            status, message = self.refusal
            self._reply(writer, status, {"error": {"message": message}})
        elif method == "POST":
            self.posted.append(path)
            self._reply(writer, 200, {})
        elif path.startswith("/admin/events?"):
            writer.write(EVENTS)
            self.watchers.add(writer)
            self.tell(self.status)
            await reader.read()
            self.watchers.discard(writer)
        else:
            known: dict[str, object] = {
                "/admin/status": self.status,
                "/admin/history": self.history,
                "/v1/models": {"data": []},
            }
            self._reply(writer, 200 if path in known else 404, known.get(path, {}))

    def _reply(self, writer: asyncio.StreamWriter, status: int, body: object) -> None:
        data = msgspec.json.encode(body)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(data), data))


@asynccontextmanager
async def fake_admin(status: Status) -> AsyncIterator[FakeAdmin]:
    """A fake that listens meanwhile."""
    server = FakeAdmin(status)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
