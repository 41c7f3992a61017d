"""A server under test: the application on a scripted engine, with clients near and far."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from quart import Response
from quart.testing import QuartClient
from quart.typing import TestHTTPConnectionProtocol

from mlxd.api.app import create_app
from mlxd.api.dialect import Dialect, Frame
from mlxd.api.http.framework import Api, Tuning
from mlxd.config.settings import ServerSettings, Settings
from mlxd.engine.scripted.engine import Play, ScriptedEngine, ScriptItem
from mlxd.history import Store
from mlxd.messages import GenerateRequest
from mlxd.server.connection import Limits
from mlxd.server.listener import Listener, bind
from mlxd.status import ModelInfo
from tests.memory_store import MemoryStore
from tests.scripts import STARTED

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_SCHEMAS = ROOT.parent / "shared" / "spec"
"""A folder beside the checkout, where it is there: OpenAI's and Open Responses' schemas."""
LIMIT = 60.0
"""Seconds after which a test that waits has failed."""
NOW = 1767225600
"""The clock of the tests: the first second of 2026."""
FIXED = Tuning(clock=lambda: NOW, new_id=lambda: "req_0123456789abcdef0123456789abcdef")

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
AZURE_CHAT = "/openai/deployments/demo/chat/completions"
OLLAMA_CHAT = "/api/chat"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]

DEMO = ModelInfo(
    id="demo",
    aliases=("gpt-4o", "claude-*"),
    source="scripted",
    state="loaded",
    context_length=8192,
    max_tokens=4096,
)
OTHER = ModelInfo(id="other", source="scripted", state="unloaded")


def settings_for(**server: Any) -> Settings:
    """The defaults, but for keys of `[server]`."""
    return Settings(server=ServerSettings(**server))


@dataclass
class Front:
    """The application and the engine behind it."""

    app: Api
    engine: ScriptedEngine
    store: Store = field(default_factory=MemoryStore)

    @property
    def client(self) -> QuartClient:
        return cast(QuartClient, self.app.test_client())

    def heard(self) -> list[GenerateRequest]:
        """What the engine was asked since the last time; for servers that tests share."""
        requests = list(self.engine.requests)
        self.engine.requests.clear()
        return requests

    async def post(self, body: Any, path: str = CHAT, **headers: str) -> Response:
        """The response to `body`; header names may have `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.post(path, json=body, headers=named)
        assert isinstance(response, Response)
        return response

    async def send(self, data: bytes, path: str = CHAT, **headers: str) -> Response:
        """The same for bytes as they are."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.post(path, data=data, headers=named)
        assert isinstance(response, Response)
        return response

    async def get(self, path: str, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.get(path, headers=named)
        assert isinstance(response, Response)
        return response

    async def ask(self, **fields: Any) -> Response:
        """The response to a chat request with these fields."""
        return await self.post({"messages": HELLO, **fields})

    @asynccontextmanager
    async def connection(self, **fields: Any) -> AsyncIterator[TestHTTPConnectionProtocol]:
        """A chat request whose client can leave; it has left when this is left."""
        body = json.dumps({"messages": HELLO, **fields}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        connection = self.client.request(CHAT, method="POST", headers=headers)
        async with asyncio.timeout(LIMIT), connection as open_connection:
            await open_connection.send(body)
            await open_connection.send_complete()
            yield open_connection


def front(
    *script: ScriptItem,
    play: Play | None = None,
    settings: Settings | None = None,
    models: Sequence[ModelInfo] | None = None,
    dialects: Sequence[Dialect] = (),
    tuning: Tuning = FIXED,
    max_queue: int = 64,
    store: Store | None = None,
) -> Front:
    """The application on an engine that plays `script` (or `play`) to every request."""
    engine = ScriptedEngine(
        play or (lambda _: script), models=tuple(models or (DEMO,)), max_queue=max_queue
    )
    store = store or MemoryStore()
    app = create_app(settings or Settings(), engine, dialects=dialects, store=store, tuning=tuning)
    return Front(app, engine, store)


def raising(error: Exception) -> Callable[[GenerateRequest], Iterator[ScriptItem]]:
    """A script that refuses every request with `error`."""

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        raise error
        yield STARTED

    return play


async def bytes_of(response: Response) -> bytes:
    """The whole body."""
    return await response.get_data(as_text=False)


async def error_of(response: Response) -> dict[str, Any]:
    """What an OpenAI envelope holds; it has all four keys, whatever else."""
    assert response.content_type == "application/json"
    body = await response.get_json()
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    error: dict[str, Any] = body["error"]
    return error


def sse_frames(data: bytes) -> list[Frame]:
    """The frames of a stream, read as the standard says; comments are left out."""
    text = data.decode()
    assert text == "" or text.endswith("\n\n"), "the stream ends inside a frame"
    return [_frame(block) for block in text.split("\n\n")[:-1] if not block.startswith(":")]


def json_lines(data: bytes) -> list[Frame]:
    """The frames of a stream that is one JSON value a line."""
    assert data == b"" or data.endswith(b"\n"), "the stream ends inside a line"
    return [Frame(line) for line in data.split(b"\n")[:-1]]


def _frame(block: str) -> Frame:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return Frame(fields["data"].encode(), fields.get("event"))


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    """The JSON of a chat stream's frames, which must end in `[DONE]`."""
    frames = sse_frames(data)
    assert frames[-1].data == b"[DONE]"
    return [json.loads(frame.data) for frame in frames[:-1]]


@asynccontextmanager
async def listening(app: Api) -> AsyncIterator[str]:
    """The base URL of the application behind the real listener on a free port."""
    sockets: list[socket.socket] = list(bind("127.0.0.1", 0))
    await app.startup()
    listener = Listener(app, Limits(), app.unread)
    listener.start(sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        await listener.stop_accepting()
        await listener.close(1.0)
        await app.shutdown()
        for sock in sockets:
            sock.close()


async def soon(holds: Callable[[], bool]) -> None:
    """Give other tasks turns until something is so."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")
