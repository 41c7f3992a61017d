"""The configuration read again while answers run."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from quart import Response

from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.app import create_app
from mlxd.config.load import load
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import Gate, ScriptedEngine, ScriptItem
from mlxd.errors import ConfigError
from mlxd.events import BlockDelta, BlockEnd, BlockStart
from mlxd.messages import GenerateRequest, Text
from mlxd.server.engines import configure_engine, scripted_models
from mlxd.server.reload import Reloader
from tests.api.support import FIXED, HELLO, Front, bytes_of
from tests.memory_store import MemoryStore
from tests.scripts import STARTED, finished

STREAMS, RELOADS = 8, 50
WORDS = [f"word{number} " for number in range(RELOADS)]
TOKEN = "a-token-for-tests"
BODY = {"messages": HELLO, "stream": True}
FIRST = """
[server]
api_keys = ["stays", "leaves"]
[models.one]
source = "demo"
[models.two]
source = "demo"
"""
BROKEN = (
    "[server",
    FIRST.replace("demo", ""),
    FIRST + "[defaults]\ntemperature = 7\n",
    FIRST + "[log]\nlevle = 3\n",
)


@dataclass
class Reloading:
    """A server with a file, and answers that write a word whenever `go` is called."""

    file: Path
    gates: list[asyncio.Event] = field(default_factory=lambda: [asyncio.Event() for _ in WORDS])
    front: Front = field(init=False)

    def __post_init__(self) -> None:
        self.write(FIRST)
        settings = load(self.file, {}).settings
        engine = ScriptedEngine(self._play, models=scripted_models(settings, "agent"))
        self.reloader = Reloader(settings, lambda: load(self.file, {}).settings, self._take)
        facts = ServerFacts(token=TOKEN, reload=lambda check: self.reloader.reload(check))
        store = MemoryStore()
        app = create_app(settings, engine, store=store, tuning=FIXED, facts=facts)
        self.front = Front(app, engine, store)

    def write(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def go(self) -> None:
        """Let every answer write its next word."""
        next(gate for gate in self.gates if not gate.is_set()).set()

    def _take(self, settings: Settings) -> None:
        configure_engine(self.front.engine, settings, "agent", None)
        self.front.app.configure(settings)

    def _play(self, request: GenerateRequest) -> Iterator[ScriptItem]:
        yield STARTED
        yield BlockStart(0, Text(""))
        for word, gate in zip(WORDS, self.gates, strict=True):
            yield Gate(gate)
            yield BlockDelta(0, word)
        yield BlockEnd(0, Text("".join(WORDS)))
        yield finished()

    async def reload(self, query: str = "") -> Response:
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = await self.front.client.post(f"/admin/reload{query}", headers=headers)
        assert isinstance(answer, Response)
        return answer

    async def ask(self, key: str, model: str) -> Response:
        return await self.front.post(
            {**BODY, "model": model}, authorization=f"Bearer {key}", accept="text/event-stream"
        )


@pytest.fixture
def server(tmp_path: Path) -> Reloading:
    return Reloading(tmp_path / "mlxd.toml")


@asynccontextmanager
async def streams(server: Reloading) -> AsyncIterator[list["asyncio.Task[bytes]"]]:
    """Answers of both models, half of them for the key that leaves."""

    async def read(key: str, model: str) -> bytes:
        return await bytes_of(await server.ask(key, model))

    chosen = itertools.cycle(itertools.product(("stays", "leaves"), ("one", "two")))
    tasks = [asyncio.create_task(read(*next(chosen))) for _ in range(STREAMS)]
    await server.front.engine.reaches(lambda engine: engine.running == STREAMS)
    yield tasks


async def test_answers_are_byte_for_byte_what_they_were_without_any_reload(
    server: Reloading, tmp_path: Path
) -> None:
    quiet = Reloading(tmp_path / "quiet.toml")
    for _ in WORDS:
        quiet.go()
    async with streams(quiet) as expected, streams(server) as seen:
        for number in range(RELOADS):
            broken = number % 3 == 0
            if broken:
                server.write(BROKEN[number % len(BROKEN)])
            else:
                left = FIRST.replace(', "leaves"', "").replace(
                    "[models.two]", f"[models.n{number}]"
                )
                server.write(f"{left}temperature = {number / 100}\n")
            assert (await server.reload()).status_code == (400 if broken else 200)
            server.go()
        assert await asyncio.gather(*seen) == await asyncio.gather(*expected)
    assert len({*await asyncio.gather(*expected)}) == 2


async def test_a_key_and_a_model_that_left_are_refused_on_the_next_request(
    server: Reloading,
) -> None:
    for _ in WORDS:
        server.go()
    assert (await server.ask("leaves", "two")).status_code == 200
    server.write(FIRST.replace(', "leaves"', "").replace("two", "three"))
    changed = (await (await server.reload()).get_json())["changed"]
    assert [each["key"] for each in changed] == ["server.api_keys", "models.two", "models.three"]
    assert changed[0]["old"] == ["****", "****"]
    assert (await server.ask("leaves", "one")).status_code == 401
    assert [(await server.ask("stays", name)).status_code for name in ("two", "three", "one")] == [
        404,
        200,
        200,
    ]


async def test_what_is_wrong_is_told_with_its_place_and_nothing_is_taken(
    server: Reloading, caplog: pytest.LogCaptureFixture
) -> None:
    server.write(FIRST.replace(', "leaves"', "") + "top_p = 7\n")
    refused = await server.reload()
    error = (await refused.get_json())["error"]
    assert (refused.status_code, error["type"]) == (400, "config_error")
    assert [(each["line"], each["key"]) for each in error["problems"]] == [(8, "models.two.top_p")]
    assert "mlxd.toml:8: models.two.top_p: must be at most 1" in caplog.text
    assert (await server.ask("leaves", "nobody")).status_code == 404
    server.write(FIRST.replace(', "leaves"', ""))
    assert (await (await server.reload("?check=true")).get_json())["changed"]
    assert (await server.ask("leaves", "nobody")).status_code == 404
    assert (await server.reload("?check=perhaps")).status_code == 400


async def test_what_waits_for_a_restart_must_not_open_the_server_meanwhile() -> None:
    open_to_all = Settings.model_validate({"server": {"host": "0.0.0.0", "api_keys": ["k"]}})
    taken: list[Settings] = []
    reloader = Reloader(open_to_all, Settings, taken.append)
    with pytest.raises(ConfigError, match="until a restart"):
        await reloader.reload()
    assert taken == []
    assert reloader.settings is open_to_all
