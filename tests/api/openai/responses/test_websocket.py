"""Responses over a WebSocket: turns, what the connection remembers, refusals, and its end."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from quart.testing.connections import WebsocketDisconnectError, WebsocketResponseError
from quart.typing import TestWebsocketConnectionProtocol as Connection
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

from mlxd.engine.scripted.engine import Gate, ScriptItem
from mlxd.errors import ContextTooLong
from mlxd.events import Failed
from mlxd.messages import GenerateRequest, Text
from tests.api.stateful import KEYS, RESPONSES, UNIQUE, Json, gated, got, serving, text_of
from tests.api.support import LIMIT, Front, front, listening
from tests.memory_store import MemoryStore
from tests.scripts import CRASH, SCRIPTS, STARTED, text

ENDS = ("response.completed", "response.incomplete", "response.failed")


@asynccontextmanager
async def talking(server: Front, **headers: str) -> AsyncIterator[Connection]:
    """A WebSocket to the server."""
    async with (
        asyncio.timeout(LIMIT),
        server.client.websocket(RESPONSES, headers=headers) as socket,
    ):
        yield socket


async def turn(socket: Connection, **fields: Any) -> list[Json]:
    """The events that one message is answered with."""
    await socket.send_json({"type": "response.create", "model": "demo", "input": "Hi", **fields})
    events: list[Json] = []
    while True:
        events.append(await socket.receive_json())
        kind = events[-1]["type"]
        if kind in ENDS or (kind == "error" and "sequence_number" not in events[-1]):
            return events


async def test_turns_follow_each_other_with_the_events_of_a_stream() -> None:
    server = serving()
    async with talking(server) as socket:
        for _ in range(2):
            events = await turn(socket)
            assert [event["sequence_number"] for event in events] == list(range(len(events)))
            assert (events[0]["type"], events[-1]["type"]) == (
                "response.created",
                "response.completed",
            )
    name = events[-1]["response"]["id"]
    assert (await got(server, f"{RESPONSES}/{name}"))["id"] == name


async def test_the_latest_response_is_gone_on_from_though_it_is_not_stored() -> None:
    store = MemoryStore()
    server = serving(store=store)
    async with talking(server) as socket:
        first = (await turn(socket, input="A", store=False))[-1]["response"]["id"]
        second = (await turn(socket, input="B", store=False, previous_response_id=first))[-1]
        await turn(socket, input="C", store=True, previous_response_id=second["response"]["id"])
    prompts = [
        [part.text for each in request.messages for part in each.parts if isinstance(part, Text)]
        for request in server.heard()
    ]
    answer = "Hello there."
    assert prompts[-1] == ["A", answer, "B", answer, "C"]
    (stored,) = store.responses.values()
    assert len(stored.input) == 5


async def test_a_client_that_gets_ready_first_goes_on_from_that() -> None:
    store = MemoryStore()
    server = serving(store=store)
    async with talking(server, **{"openai-beta": "responses_websockets=2026-02-06"}) as socket:
        first, *_, ready = await turn(socket, input="A", store=False, generate=False)
        assert (first["type"], ready["type"]) == ("response.created", "response.completed")
        assert ready["response"]["output"] == []
        assert ready["response"]["usage"]["output_tokens"] == 0
        name = ready["response"]["id"]
        end = (await turn(socket, input="B", store=False, previous_response_id=name))[-1]
    assert text_of(end["response"]) == "Hello there."
    *_, asked = server.heard()
    assert [message.parts for message in asked.messages] == [(Text("A"),), (Text("B"),)]
    assert (store.puts, server.engine.running) == ([], 0)


async def test_another_connection_knows_only_what_is_stored() -> None:
    server = serving()
    async with talking(server) as socket:
        kept = (await turn(socket))[-1]["response"]["id"]
        lost = (await turn(socket, store=False))[-1]["response"]["id"]
    async with talking(server) as socket:
        (error,) = await turn(socket, store=False, previous_response_id=lost)
        assert (error["type"], error["status"]) == ("error", 400)
        assert error["error"]["code"] == "previous_response_not_found"
        assert error["error"]["param"] == "previous_response_id"
        assert (await turn(socket, previous_response_id=kept))[-1]["type"] == ENDS[0]


def dying_of(word: str) -> Any:
    """Fails every prompt that ends with this word."""

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        if word not in str(request.messages[-1]):
            yield from SCRIPTS["text"]
            return
        if word == "long":
            raise ContextTooLong(prompt_tokens=9, context_length=3)
        yield from (STARTED, *text(0, "One"), Failed(CRASH.report()))

    return play


@pytest.mark.parametrize("word", ["long", "crash"])
async def test_a_turn_that_fails_forgets_what_it_went_on_from(word: str) -> None:
    async with talking(serving(play=dying_of(word))) as socket:
        first = (await turn(socket, store=False))[-1]["response"]["id"]
        *_, failed = await turn(socket, input=word, store=False, previous_response_id=first)
        assert failed["type"] in ("error", "response.failed")
        (error,) = await turn(socket, store=False, previous_response_id=first)
        assert error["error"]["code"] == "previous_response_not_found"


async def test_an_error_inside_a_turn_has_a_status_and_the_connection_goes_on() -> None:
    async with talking(serving(play=dying_of("crash"))) as socket:
        *_, error, end = await turn(socket, input="crash")
        assert (error["type"], error["status"]) == ("error", 503)
        assert end["type"] == "response.failed"
        assert (await turn(socket))[-1]["type"] == ENDS[0]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("{", None),
        ("[]", None),
        ('{"model":"demo","input":"x"}', "type"),
        ('{"type":"response.steer"}', "type"),
        ('{"type":"response.create","input":"x","temperature":"hot"}', "temperature"),
    ],
)
async def test_a_wrong_message_is_refused_in_words(message: str, param: str | None) -> None:
    async with talking(serving()) as socket:
        await socket.send(message)
        error = await socket.receive_json()
        assert (error["type"], error["status"]) == ("error", 400)
        assert error["error"]["param"] == param
        assert error["error"]["code"]
        assert (await turn(socket))[-1]["type"] == ENDS[0]


@pytest.mark.parametrize("message", ["", b""])
async def test_a_message_of_nothing_is_refused_like_any_other(message: str | bytes) -> None:
    async with talking(serving()) as socket:
        await socket.send(message)
        assert (await socket.receive_json())["status"] == 400
        assert (await turn(socket))[-1]["type"] == "response.completed"


async def test_a_background_turn_is_an_ordinary_one() -> None:
    async with talking(serving()) as socket:
        end = (await turn(socket, background=True, stream=False))[-1]
        assert (end["type"], end["response"]["background"]) == ("response.completed", False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {KEYS[0]}", "origin": "http://evil.example"}, 403),
        ({"authorization": f"Bearer {KEYS[0]}", "host": "evil.example"}, 403),
    ],
)
async def test_who_may_not_come_in_is_refused_at_the_handshake(
    headers: dict[str, str], status: int
) -> None:
    async with talking(serving(keys=KEYS), **headers) as socket:
        with pytest.raises(WebsocketResponseError) as refused:
            await socket.receive()
    assert refused.value.response.status_code == status
    body = json.loads(await refused.value.response.get_data(as_text=True))
    assert set(body["error"]) >= {"message", "type", "param", "code"}


async def test_another_keys_responses_are_not_gone_on_from() -> None:
    server = serving(keys=KEYS)
    async with talking(server, authorization=f"Bearer {KEYS[0]}") as socket:
        name = (await turn(socket))[-1]["response"]["id"]
    async with talking(server, authorization=f"Bearer {KEYS[1]}") as socket:
        (error,) = await turn(socket, previous_response_id=name)
        assert error["error"]["code"] == "previous_response_not_found"


async def test_a_client_that_leaves_frees_its_slot() -> None:
    server = serving(play=gated(asyncio.Event()))
    async with talking(server) as socket:
        await socket.send_json({"type": "response.create", "model": "demo", "input": "Hi"})
        while (await socket.receive_json())["type"] != "response.output_text.delta":
            pass
        assert server.engine.running == 1
    assert (server.engine.running, server.engine.cancelled) == (0, 1)


async def test_a_connection_that_is_too_old_says_so_and_ends() -> None:
    server = front(*SCRIPTS["text"], tuning=replace(UNIQUE, socket_limit=0.0))
    async with talking(server) as socket:
        error = await socket.receive_json()
        assert error["error"]["code"] == "websocket_connection_limit_reached"
        with pytest.raises(WebsocketDisconnectError):
            await socket.receive()


async def test_a_server_that_ends_finishes_the_turn_and_closes() -> None:
    gate = asyncio.Event()
    server = serving(play=gated(gate))
    async with talking(server) as busy, talking(server) as idle:
        await turn_begun(busy)
        await idle.send("{")
        await idle.receive_json()
        server.app.draining.set()
        with pytest.raises(WebsocketDisconnectError):
            await idle.receive()
        gate.set()
        while (await busy.receive_json())["type"] != "response.completed":
            pass
        with pytest.raises(WebsocketDisconnectError):
            await busy.receive()


async def turn_begun(socket: Connection) -> None:
    await socket.send_json({"type": "response.create", "model": "demo", "input": "Hi"})
    while (await socket.receive_json())["type"] != "response.output_text.delta":
        pass


async def test_a_client_that_sends_without_reading_is_cut_off() -> None:
    server = serving(play=lambda _: [STARTED, Gate(asyncio.Event())])
    async with talking(server) as socket:
        await socket.send_json({"type": "response.create", "input": "Hi"})
        await server.engine.reaches(lambda engine: engine.running == 1)
        for _ in range(20):
            await socket.send_json({"type": "response.create", "input": "Hi"})
        await server.engine.reaches(lambda engine: engine.cancelled == 1)
    assert server.engine.running == 0


class RealClient:
    """A WebSocket over a real connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._wire = WSConnection(ConnectionType.CLIENT)
        self.closed: int | None = None
        self.reason: str | None = None

    async def send(self, event: Any) -> None:
        self._writer.write(self._wire.send(event))
        await self._writer.drain()

    async def messages(self) -> AsyncIterator[str]:
        """What comes, until the server closes."""
        pending = ""
        while True:
            for event in self._wire.events():
                match event:
                    case TextMessage(message_finished=whole):
                        pending += str(event.data)
                        if whole:
                            yield pending
                            pending = ""
                    case CloseConnection(code=code, reason=reason):
                        self.closed, self.reason = int(code), reason
                        return
                    case AcceptConnection():
                        yield "accepted"
            if not (received := await self._reader.read(65536)):
                return
            self._wire.receive_data(received)

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RealClient]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    client = RealClient(*await asyncio.open_connection(host, int(port)))
    try:
        async with asyncio.timeout(LIMIT):
            await client.send(Request(host=f"{host}:{port}", target=RESPONSES))
            yield client
    finally:
        await client.leave()


async def test_a_turn_goes_over_a_real_connection_and_large_messages_too() -> None:
    server = serving()
    async with listening(server.app) as url, connected(url) as client:
        messages = client.messages()
        assert await anext(messages) == "accepted"
        body = {"type": "response.create", "model": "demo", "input": " " * 300_000}
        await client.send(TextMessage(json.dumps(body)))
        async for message in messages:
            if json.loads(message)["type"] == "response.completed":
                break
        server.app.draining.set()
        async for _ in messages:
            pass
        assert client.closed == 1001


async def test_leaving_a_real_connection_frees_the_slot() -> None:
    server = serving(play=gated(asyncio.Event()))
    async with listening(server.app) as url:
        async with connected(url) as client:
            messages = client.messages()
            assert await anext(messages) == "accepted"
            body = {"type": "response.create", "model": "demo", "input": "Hi"}
            await client.send(TextMessage(json.dumps(body)))
            await server.engine.reaches(lambda engine: engine.running == 1)
        async with asyncio.timeout(LIMIT):
            await server.engine.reaches(lambda engine: engine.running == 0)


@pytest.mark.parametrize(
    ("sizes", "answered"),
    [([10] * 12, range(8, 12)), ([10, 10, 100_000, 10], range(1, 3)), ([80_000] * 6, range(1, 6))],
    ids=["many", "a large one among others", "large ones"],
)
async def test_of_too_many_messages_at_once_those_taken_are_answered_and_the_rest_named(
    sizes: list[int], answered: range
) -> None:
    gate = asyncio.Event()
    server = serving(play=gated(gate))
    async with listening(server.app) as url, connected(url) as client:
        messages = client.messages()
        assert await anext(messages) == "accepted"
        for size in sizes:
            body = {"type": "response.create", "model": "demo", "input": " " * size}
            await client.send(TextMessage(json.dumps(body)))
        await server.engine.reaches(lambda engine: engine.running == 1)
        gate.set()
        kinds = [json.loads(message)["type"] async for message in messages]
    assert kinds.count("response.completed") in answered
    assert kinds[-1] == "response.completed"
    assert (client.closed, client.reason) == (1013, "too many messages at once")


IGNORED = "x-mlxd-ignored"


async def test_the_first_event_names_what_is_ignored_as_the_header_would() -> None:
    server = serving()
    fields = {"service_tier": "scale", "odd": 1, "tools": [{"type": "web_search"}]}
    posted = await server.post({"model": "demo", "input": "Hi", **fields}, RESPONSES)
    async with talking(server) as socket:
        events = await turn(socket, **fields)
        none = await turn(socket)
        transport = await turn(socket, stream=False, background=True)
        await socket.send(
            r'{"type":"response.create","model":"demo","input":"cut \ud83d here","odd":1}'
        )
        halved = await socket.receive_json()
    assert events[0][IGNORED] == posted.headers[IGNORED]
    assert events[0][IGNORED] == "odd,tools.web_search,service_tier"
    assert IGNORED not in events[0]["response"]
    assert all(IGNORED not in event for event in [*events[1:], *none])
    assert transport[0][IGNORED] == "stream,background"
    assert halved[IGNORED] == "odd,input: lone surrogates"


async def test_a_schema_that_is_left_to_the_model_is_named_on_a_websocket_too() -> None:
    schema = {"type": "object", "properties": {"code": {"$ref": "#/$defs/Nowhere"}}}
    tool = {"type": "function", "name": "slot", "parameters": schema}
    async with talking(serving()) as socket:
        events = await turn(socket, tools=[tool], tool_choice="required")
    assert events[0][IGNORED] == "tools[0].parameters.properties.code.$ref"
