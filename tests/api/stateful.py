"""Servers that remember, and how their tests ask."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from mlxd.api.http.framework import Tuning
from mlxd.config.settings import ServerSettings, Settings
from mlxd.engine.scripted.engine import Gate, Play, ScriptItem
from mlxd.history import Store
from mlxd.messages import GenerateRequest
from tests.api.support import LIMIT, NOW, Front, bytes_of, front, sse_frames
from tests.memory_store import MemoryStore
from tests.scripts import SCRIPTS, STARTED, finished, text

RESPONSES = "/v1/responses"
CONVERSATIONS = "/v1/conversations"
KEYS = ("first-key", "second-key")
UNIQUE = Tuning(clock=lambda: NOW, idle=0.05)
Json = dict[str, Any]


def serving(
    *script: ScriptItem,
    play: Play | None = None,
    store: Store | None = None,
    keys: tuple[str, ...] = (),
    max_queue: int = 64,
) -> Front:
    """A server whose requests have ids of their own."""
    return front(
        *(script or SCRIPTS["text"]),
        play=play,
        settings=Settings(server=ServerSettings(api_keys=keys)),
        tuning=UNIQUE,
        store=store or MemoryStore(),
        max_queue=max_queue,
    )


def gated(gate: asyncio.Event) -> Callable[[GenerateRequest], Iterator[ScriptItem]]:
    """Says a word, and the rest once `gate` is open."""

    def play(_: GenerateRequest) -> Iterator[ScriptItem]:
        opening, first, *rest = text(0, "One", " two", " three.")
        yield from (STARTED, opening, first)
        yield Gate(gate)
        yield from (*rest, finished())

    return play


async def asked(server: Front, path: str = RESPONSES, **fields: Any) -> Json:
    """The body of a good answer to these fields."""
    body = {"model": "demo", "input": "Hello", **fields} if path == RESPONSES else fields
    response = await server.post(body, path)
    assert response.status_code == 200, await response.get_data()
    told: Json = await response.get_json()
    return told


async def got(server: Front, path: str, status: int = 200, **headers: str) -> Json:
    """The body of what is at `path`."""
    response = await server.get(path, **headers)
    assert response.status_code == status, await response.get_data()
    told: Json = await response.get_json()
    return told


async def streamed(server: Front, path: str) -> list[Json]:
    """The events of the stream at `path`, which ends as it should."""
    response = await server.get(path)
    assert response.status_code == 200, await response.get_data()
    return events_of(await bytes_of(response))


async def seen(server: Front, wanted: bytes, path: str, **fields: Any) -> bytes:
    """What has come when `wanted` has: the client then leaves. With fields it is a POST."""
    body = json.dumps({"model": "demo", "input": "Hello", **fields}).encode() if fields else b""
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    method = "POST" if fields else "GET"
    connection = server.client.request(path, method=method, headers=headers)
    data = b""
    async with asyncio.timeout(LIMIT), connection as reader:
        await reader.send(body)
        await reader.send_complete()
        while wanted not in data:
            data += await reader.receive()
        await reader.disconnect()
    return data


def events_of(data: bytes) -> list[Json]:
    """The events of a stream, comments left out."""
    frames = sse_frames(data)
    assert frames[-1].data == b"[DONE]"
    return [json.loads(frame.data) for frame in frames[:-1]]


def text_of(response: Json) -> str:
    """What a response says."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


async def until(server: Front, response: str, *states: str) -> Json:
    """The response once it is in one of `states`."""
    async with asyncio.timeout(LIMIT):
        while True:
            body = await got(server, f"{RESPONSES}/{response}")
            if body["status"] in states:
                return body
