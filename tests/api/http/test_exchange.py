"""Several answers to one request, and generations that do not behave."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from mlxd.api.app import create_app
from mlxd.engine.interface import Generation
from mlxd.engine.scripted.engine import Gate, ScriptedEngine, ScriptItem
from mlxd.errors import EngineCrashed, MlxdError
from mlxd.events import Event, Failed
from mlxd.messages import GenerateRequest
from tests.api.support import (
    FIXED,
    LIMIT,
    Front,
    bytes_of,
    chunks_of,
    error_of,
    front,
    settings_for,
    sse_frames,
)
from tests.scripts import CRASH, SCRIPTS, STARTED, USAGE, finished, text


def by_choice(request: GenerateRequest) -> Iterator[ScriptItem]:
    """Each choice says its number."""
    number = request.id.rpartition("-")[2]
    yield STARTED
    yield from text(0, "I am ", number)
    yield finished()


async def test_several_answers_come_as_choices_with_one_usage() -> None:
    body = await (await front(play=by_choice).ask(n=3)).get_json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    said = [choice["message"]["content"] for choice in body["choices"]]
    assert said == ["I am 0", "I am 1", "I am 2"]
    assert body["usage"]["prompt_tokens"] == USAGE.prompt
    assert body["usage"]["completion_tokens"] == 3 * USAGE.completion


async def test_several_answers_stream_under_one_id_each_with_its_end() -> None:
    options = {"include_usage": True}
    response = await front(play=by_choice).ask(n=3, stream=True, stream_options=options)
    chunks = chunks_of(await bytes_of(response))
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3 * USAGE.completion
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    parts = [chunk["choices"][0] for chunk in chunks[:-1]]
    for index in range(3):
        own = [part for part in parts if part["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(part["delta"].get("content", "") for part in own) == f"I am {index}"
        ends = [part["finish_reason"] for part in own if part["finish_reason"]]
        assert ends == ["stop"]


async def test_a_slow_answer_does_not_hold_up_the_others() -> None:
    gate = asyncio.Event()

    def first_waits(request: GenerateRequest) -> Iterator[ScriptItem]:
        yield STARTED
        if request.id.endswith("-0"):
            yield Gate(gate)
        yield from text(0, "done")
        yield finished()

    server = front(play=first_waits)
    seen = b""
    async with server.connection(n=2, stream=True) as client:
        while b'{"index":1,"delta":{},"logprobs":null,"finish_reason":"stop"}' not in seen:
            seen += await client.receive()
        assert b'{"index":0,"delta":{"content"' not in seen
        assert b"[DONE]" not in seen
        gate.set()
        while not seen.endswith(b"[DONE]\n\n"):
            seen += await client.receive()
        await client.disconnect()
    assert b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}' in seen


async def test_usage_is_not_mentioned_unless_asked_for() -> None:
    response = await front(*SCRIPTS["text"]).ask(stream=True)
    assert b"usage" not in await bytes_of(response)


async def test_all_answers_are_accepted_before_the_first_byte_or_none_is() -> None:
    opened = asyncio.Event()
    engine = ScriptedEngine(lambda _: [STARTED, Gate(opened)], max_queue=0, max_batch=3)
    server = Front(create_app(settings_for(), engine, tuning=FIXED), engine)
    response = await server.ask(n=4, stream=True)
    assert response.status_code == 503
    assert (await error_of(response))["code"] == "queue_full"
    assert (engine.running, engine.cancelled) == (0, 3)


async def test_one_failed_answer_ends_the_stream_and_frees_the_others() -> None:
    def last_fails(request: GenerateRequest) -> Iterator[ScriptItem]:
        yield STARTED
        yield Failed(CRASH.report()) if request.id.endswith("-2") else Gate(asyncio.Event())

    server = front(play=last_fails)
    async with asyncio.timeout(LIMIT):
        frames = sse_frames(await bytes_of(await server.ask(n=3, stream=True)))
        assert [frame.data for frame in frames][-1] == b"[DONE]"
        assert b"engine_crashed" in frames[-2].data
        assert (await server.ask(n=3)).status_code == 503
    assert (server.engine.running, server.engine.cancelled) == (0, 4)


class Misbehaving(ScriptedEngine):
    """Its generations give out these batches, whatever is asked, and then raise or stop."""

    def __init__(self, *batches: list[Event], error: Exception | None = None) -> None:
        super().__init__(lambda _: ())
        self._batches = batches
        self._fault = error

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        yield self._generation()

    async def _generation(self) -> AsyncGenerator[list[Event], None]:
        for batch in self._batches:
            yield batch
        if self._fault is not None:
            raise self._fault


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, None), (EngineCrashed("lost"), "engine_crashed"), (ZeroDivisionError("x"), None)],
)
@pytest.mark.parametrize("live", [False, True])
async def test_a_generation_without_an_end_is_an_error_of_ours(
    error: MlxdError | ZeroDivisionError | None, code: str | None, live: bool
) -> None:
    engine = Misbehaving([STARTED], [*text(0, "One")], error=error)
    server = Front(create_app(settings_for(), engine), engine)
    response = await server.ask(stream=live)
    if not live:
        assert response.status_code == (500 if code is None else 503)
        assert (await error_of(response))["code"] == code
        return
    frames = sse_frames(await bytes_of(response))
    assert b'"content":"One"' in frames[-3].data
    assert b'"type":"server_error"' in frames[-2].data
    assert frames[-1].data == b"[DONE]"


async def test_streams_have_the_headers_that_keep_proxies_from_holding_them_back() -> None:
    response = await front(*SCRIPTS["text"]).ask(stream=True, colour="blue", model="gpt-4o")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-mlxd-model"] == "demo"
    assert response.headers["x-mlxd-ignored"] == "colour"


async def test_a_token_without_text_is_no_chunk() -> None:
    server = front(STARTED, *text(0, "", "One", ""), finished())
    chunks = chunks_of(await bytes_of(await server.ask(stream=True)))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "One"},
        {},
    ]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/nowhere"])
async def test_a_websocket_is_told_to_use_plain_http(path: str) -> None:
    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    app = front().app
    scope = {"type": "websocket", "path": path, "headers": []}
    await app.asgi_app({**scope, "extensions": {"websocket.http.response": {}}}, receive, send)
    assert sent[0]["status"] == 426
    sent.clear()
    await app.asgi_app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
