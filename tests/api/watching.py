"""A server under test that is watched: its admin token, statuses and events."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from quart import Response
from quart.testing import QuartClient
from quart.typing import TestHTTPConnectionProtocol

from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.app import create_app
from mlxd.api.dialect import Frame
from mlxd.api.http.framework import Tuning
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import Play, ScriptedEngine, ScriptItem
from mlxd.history import Store
from mlxd.status import Lifecycle, ModelInfo, Status, ThroughputHistory
from tests.api.support import DEMO, LIMIT, Front, sse_frames

TOKEN = "the-admin-token"  # A made-up one.


@dataclass
class Watched(Front):
    """A server whose admin token is `TOKEN`."""

    async def admin(self, path: str, method: str = "GET", **headers: str) -> Response:
        """The response to a request with the token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("authorization", f"Bearer {TOKEN}")
        response = await self.client.open(path, method=method, headers=named)
        assert isinstance(response, Response)
        return response

    async def status(self) -> Status:
        """What `/admin/status` says."""
        response = await self.admin("/admin/status")
        assert response.status_code == 200
        return msgspec.json.decode(await response.get_data(as_text=False), type=Status)

    async def history(self) -> ThroughputHistory:
        response = await self.admin("/admin/history")
        return msgspec.json.decode(await response.get_data(as_text=False), type=ThroughputHistory)

    async def metrics(self) -> str:
        response = await self.admin("/metrics")
        assert response.status_code == 200
        return await response.get_data(as_text=True)

    @asynccontextmanager
    async def watching(self, rate: str = "4") -> AsyncIterator["Watch"]:
        """A reader of `/admin/events`, until this is left."""
        client = cast(QuartClient, self.app.test_client())
        headers = {"authorization": f"Bearer {TOKEN}"}
        request = client.request(f"/admin/events?rate={rate}", headers=headers)
        async with asyncio.timeout(LIMIT), request as connection:
            await connection.send_complete()
            watch = Watch(connection)
            try:
                yield watch
            finally:
                await connection.disconnect()


class Watch:
    """What one reader has heard so far."""

    def __init__(self, connection: TestHTTPConnectionProtocol) -> None:
        self._connection = connection
        self._data = b""
        self.frames: list[Frame] = []

    async def until_event(self, kind: str) -> Lifecycle:
        """The next event of this kind."""
        while True:
            frame = await self.next("activity")
            event = msgspec.json.decode(frame.data, type=Lifecycle)
            if event.kind == kind:
                return event

    async def next_status(self) -> Status:
        return msgspec.json.decode((await self.next("status")).data, type=Status)

    async def next(self, name: str) -> Frame:
        """The next frame of this name; others are passed over."""
        while True:
            while self.frames:
                frame = self.frames.pop(0)
                if frame.event == name:
                    return frame
            await self.receive()

    async def receive(self) -> bytes:
        """Take what comes next."""
        data = await self._connection.receive()
        whole, _, self._data = (self._data + data).rpartition(b"\n\n")
        if whole:
            self.frames += sse_frames(whole + b"\n\n")
        return data


def watched(
    *script: ScriptItem,
    play: Play | None = None,
    settings: Settings | None = None,
    models: Sequence[ModelInfo] = (DEMO,),
    max_batch: int = 32,
    store: Store | None = None,
) -> Watched:
    """The application on an engine that plays `script` (or `play`) to every request."""
    engine = ScriptedEngine(play or (lambda _: script), models=tuple(models), max_batch=max_batch)
    facts = ServerFacts(token=TOKEN)
    app = create_app(settings or Settings(), engine, tuning=Tuning(), facts=facts, store=store)
    return Watched(app, engine)


async def json_of(response: Response) -> dict[str, Any]:
    assert response.content_type == "application/json"
    body: dict[str, Any] = json.loads(await response.get_data(as_text=True))
    return body
