"""Models in memory, what is known of them, and the port that programs expect."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as changed

from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.app import create_app
from mlxd.api.ollama.dialect import Ollama
from mlxd.config.settings import ModelSettings, Settings
from mlxd.engine.interface import Generation, PartlyEnforced
from mlxd.engine.scripted.engine import Gate, ScriptedEngine, ScriptItem
from mlxd.errors import ContextTooLong, ModelUnusable
from mlxd.messages import GenerateRequest
from mlxd.status import AnswerFormat, ModelFacts
from tests.api.support import (
    DEMO,
    FIXED,
    HELLO,
    LIMIT,
    OLLAMA_CHAT,
    OTHER,
    Front,
    bytes_of,
    front,
    json_lines,
    settings_for,
    soon,
)
from tests.memory_store import MemoryStore
from tests.scripts import SCRIPTS, STARTED, finished, text

Json = dict[str, Any]
FACTS = ModelFacts(
    family="qwen3",
    parameters=4_022_468_096,
    quantization="4bit",
    context_length=40960,
    embedding_length=2560,
    bytes=2_263_022_417,
    modified=1.5,
    digest="ab" * 32,
    thinks=True,
)
BOTH = (DEMO, OTHER)


def described(engine: ScriptedEngine, settings: Settings | None = None) -> Front:
    """A server whose models' files say what `FACTS` has."""
    facts = ServerFacts(describe=lambda source: FACTS)
    settings = settings or Settings()
    app = create_app(settings, engine, store=MemoryStore(), tuning=FIXED, facts=facts)
    return Front(app, engine)


def serving(**settings: Any) -> Front:
    engine = ScriptedEngine(lambda _: SCRIPTS["text"], models=BOTH)
    return described(engine, Settings(**settings) if settings else None)


async def test_each_name_is_listed_with_a_tag_and_its_model() -> None:
    body = await (await serving().get("/api/tags")).get_json()
    assert [each["name"] for each in body["models"]] == [
        *("demo:latest", "gpt-4o:latest", "other:latest"),
    ]
    assert body["models"][2] == {
        "name": "other:latest",
        "model": "other:latest",
        "modified_at": "1970-01-01T00:00:01.500000Z",
        "size": 2_263_022_417,
        "digest": "ab" * 32,
        "details": {
            "parent_model": "",
            "format": "safetensors",
            "family": "qwen3",
            "families": ["qwen3"],
            "parameter_size": "4.0B",
            "quantization_level": "4bit",
            "context_length": 40960,
        },
        "capabilities": ["completion", "tools", "thinking"],
    }


async def test_only_what_is_in_memory_is_running() -> None:
    body = await (await serving().get("/api/ps")).get_json()
    (model,) = body["models"]
    assert (model["name"], model["context_length"]) == ("demo:latest", 8192)
    assert model["expires_at"] > "2300"


@pytest.mark.parametrize("name", ["other", "other:latest"])
@pytest.mark.parametrize("field", ["model", "name"])
async def test_one_model_is_shown_by_any_of_its_names(name: str, field: str) -> None:
    response = await serving().post({field: name}, "/api/show")
    body = await response.get_json()
    assert body["model_info"] == {
        "general.architecture": "qwen3",
        "general.basename": "other",
        "general.parameter_count": 4_022_468_096,
        "qwen3.context_length": 40960,
        "qwen3.embedding_length": 2560,
    }
    assert body["parameters"].split() == ["num_ctx", "40960"]
    assert body["capabilities"] == ["completion", "tools", "thinking"]


async def test_what_the_engine_has_found_out_beats_what_the_files_look_like() -> None:
    loaded = changed(DEMO, answers=AnswerFormat())
    server = described(ScriptedEngine(lambda _: SCRIPTS["text"], models=(loaded,)))
    body = await (await server.post({"model": "demo"}, "/api/show")).get_json()
    assert body["capabilities"] == ["completion", "tools"]
    assert body["model_info"]["qwen3.context_length"] == 8192


async def test_a_window_that_is_configured_smaller_is_the_one_that_is_shown() -> None:
    models = {"other": ModelSettings(source="demo", context_length=4096)}
    body = await (await serving(models=models).post({"model": "other"}, "/api/show")).get_json()
    assert body["details"]["context_length"] == 4096


async def test_a_model_without_files_has_every_text_that_clients_read() -> None:
    server = front(models=(changed(OTHER, source="elsewhere"),))
    (model,) = (await (await server.get("/api/tags")).get_json())["models"]
    assert len(model["digest"]) == 64
    assert model["details"]["family"] == model["details"]["parameter_size"] == ""
    shown = await (await server.post({"model": "other"}, "/api/show")).get_json()
    assert shown["model_info"] == {"general.architecture": "mlx", "general.basename": "other"}


@pytest.mark.parametrize(
    ("path", "fields", "reason", "state"),
    [
        (OLLAMA_CHAT, {"messages": []}, "load", "loaded"),
        (OLLAMA_CHAT, {}, "load", "loaded"),
        ("/api/generate", {"prompt": ""}, "load", "loaded"),
        (OLLAMA_CHAT, {"keep_alive": 0}, "unload", "unloaded"),
        ("/api/generate", {"keep_alive": "0s"}, "unload", "unloaded"),
    ],
)
async def test_a_body_without_a_question_loads_a_model_or_lets_it_go(
    path: str, fields: Json, reason: str, state: str
) -> None:
    server = serving()
    for stream in (False, True):
        body = {"model": "other", "stream": stream, **fields}
        response = await server.post(body, path)
        assert response.content_type == ("application/x-ndjson" if stream else "application/json")
        (frame,) = json_lines((await bytes_of(response)).rstrip(b"\n") + b"\n")
        answer = msgspec.json.decode(frame.data)
        assert (answer["model"], answer["done"], answer["done_reason"]) == ("other", True, reason)
        await soon(lambda: server.engine.models()[1].state == state)
    assert not server.engine.requests


async def test_a_model_that_cannot_be_loaded_says_why() -> None:
    class Broken(ScriptedEngine):
        async def load(self, model: str) -> None:
            raise ModelUnusable(model, "config.json is missing")

    server = described(Broken(lambda _: SCRIPTS["text"], models=BOTH))
    response = await server.post({"model": "other"}, OLLAMA_CHAT)
    assert response.status_code == 500
    assert "config.json is missing" in (await response.get_json())["error"]


@pytest.mark.parametrize("stream", [False, True])
async def test_keep_alive_of_zero_lets_the_model_go_behind_the_answer(stream: bool) -> None:
    gate = asyncio.Event()

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        yield from (STARTED, Gate(gate), *text(0, "Hi"), finished())

    server = described(ScriptedEngine(play, models=(DEMO,)))
    body = {"model": "demo", "messages": HELLO, "keep_alive": 0, "stream": stream}
    async with asyncio.timeout(LIMIT):
        async with server.client.request(OLLAMA_CHAT, method="POST") as client:
            await client.send(msgspec.json.encode(body))
            await client.send_complete()
            await server.engine.reaches(lambda engine: engine.running == 1)
            assert server.engine.models()[0].state == "loaded"
            gate.set()
            await server.engine.reaches(lambda engine: engine.running == 0)
            await client.disconnect()
    await soon(lambda: server.engine.models()[0].state == "unloaded")


class Unthinking(ScriptedEngine):
    """An engine whose model has no thinking."""

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        async with super().generate(request) as playback:
            assert isinstance(playback, PartlyEnforced)
            wanted = request.reasoning.enabled is not None
            playback.left_out = ("reasoning.enabled",) if wanted else ()
            yield playback


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_that_a_model_has_not_is_refused_and_none_is_no_loss(stream: bool) -> None:
    server = described(Unthinking(lambda _: SCRIPTS["text"], models=(DEMO,)))
    body = {"model": "demo:latest", "messages": HELLO, "stream": stream}
    for think in (True, "low"):
        response = await server.post(body | {"think": think}, OLLAMA_CHAT)
        assert response.status_code == 400
        error = (await response.get_json())["error"]
        assert error == '"demo:latest" does not support thinking'
        assert server.engine.running == 0
    response = await server.post(body | {"think": False}, OLLAMA_CHAT)
    assert (response.status_code, response.headers["x-mlxd-ignored"]) == (200, "think")


async def test_the_oldest_messages_go_only_where_that_is_asked_for() -> None:
    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        if len(request.messages) > 3:
            raise ContextTooLong(9000, 8192)
        yield from SCRIPTS["text"]

    server = described(ScriptedEngine(play, models=(DEMO,)))
    turns = [{"role": role, "content": "x" * 900} for role in ("user", "assistant") * 3]
    body: Json = {"model": "demo", "messages": [{"role": "system", "content": "s"}, *turns, *HELLO]}
    assert (await server.post(body, OLLAMA_CHAT)).status_code == 400
    server.heard()
    assert (await server.post(body | {"truncate": True}, OLLAMA_CHAT)).status_code == 200
    last = server.heard()[-1].messages
    assert [message.role for message in (last[0], last[-1])] == ["system", "user"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_pull_succeeds_for_what_is_configured(stream: bool) -> None:
    response = await serving().post({"model": "other", "stream": stream}, "/api/pull")
    lines = [msgspec.json.decode(line) for line in (await bytes_of(response)).splitlines()]
    assert lines[-1] == {"status": "success"}


async def test_nothing_else_is_pulled_made_or_removed() -> None:
    server = serving()
    whole = await server.post({"model": "nobody", "stream": False}, "/api/pull")
    stream = await server.post({"name": "nobody"}, "/api/pull")
    assert (whole.status_code, stream.status_code) == (404, 200)
    error = (await whole.get_json())["error"]
    assert "mlxd pull" in error
    assert msgspec.json.decode((await bytes_of(stream)).splitlines()[-1]) == {"error": error}
    for method, path in (
        *(("POST", "/api/create"), ("POST", "/api/copy"), ("POST", "/api/push")),
        *(("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:00")),
    ):
        response = await server.client.open(path, method=method)
        assert response.status_code == 403, path
        assert "configured" in (await response.get_json())["error"]
    assert (await server.client.head("/api/blobs/sha256:00")).status_code == 403


async def test_names_with_their_tag_are_known_to_every_dialect() -> None:
    server = serving()
    for path in (OLLAMA_CHAT, "/v1/chat/completions"):
        body = {"model": "other:latest", "messages": HELLO, "stream": False}
        response = await server.post(body, path)
        assert response.headers["x-mlxd-model"] == "other"
        assert (await response.get_json())["model"] == "other:latest"
    response = await server.post({"model": "nobody:latest", "messages": HELLO}, OLLAMA_CHAT)
    assert (response.status_code, await response.get_json()) == (
        404,
        {"error": "model 'nobody:latest' not found"},
    )


async def test_the_version_is_the_configured_one_and_heads_are_answered() -> None:
    server = front(dialects=(Ollama("1.2.3"),))
    assert await (await server.get("/api/version")).get_json() == {"version": "1.2.3"}
    for path in ("/api/version", "/api/tags", "/"):
        assert (await server.client.head(path)).status_code == 200


async def test_the_greeting_is_at_its_own_port_alone() -> None:
    server = front(dialects=(Ollama(ports=(11434,)),))
    for port, greets in ((11434, True), (8484, False)):
        scope = {"server": ("127.0.0.1", port)}
        response = await server.client.get("/", scope_base=scope, headers={"accept": "text/html"})
        assert ((await response.get_data(as_text=False)) == b"Ollama is running") is greets
        assert (await server.client.get("/health", scope_base=scope)).status_code == 200


async def test_everything_but_the_greeting_needs_the_key() -> None:
    server = front(settings=settings_for(api_keys=("right",)))
    for path in ("/api/tags", "/api/ps", "/api/version", "/api/nothing"):
        response = await server.get(path)
        assert response.status_code == 401
        assert isinstance((await response.get_json())["error"], str)
    assert (await server.get("/api/tags", authorization="Bearer right")).status_code == 200
    evil = await server.get("/api/tags", origin="https://evil.example")
    assert evil.status_code == 403


async def test_without_the_dialect_none_of_it_is_there() -> None:
    rest = tuple(name for name in Settings().dialects if name != "ollama")
    server = front(settings=Settings(dialects=rest))
    assert (await server.get("/api/tags")).status_code == 404
    assert (await server.get("/api/hello")).status_code == 200


async def test_a_full_queue_is_the_error_that_clients_know() -> None:
    gate = asyncio.Event()

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        yield from (STARTED, Gate(gate), finished())

    engine = ScriptedEngine(play, models=(DEMO,), max_queue=1, max_batch=1)
    server = described(engine)
    body = {"model": "demo", "messages": HELLO, "stream": False}
    async with asyncio.timeout(LIMIT):
        waiting = [asyncio.create_task(server.post(body, OLLAMA_CHAT)) for _ in range(2)]
        await engine.reaches(lambda each: each.running == 2)
        response = await server.post(body, OLLAMA_CHAT)
        gate.set()
        await asyncio.gather(*waiting)
    assert (response.status_code, (await response.get_json())["error"]) == (
        503,
        "server busy, please try again.  maximum pending requests exceeded",
    )
    assert response.headers["retry-after"]
