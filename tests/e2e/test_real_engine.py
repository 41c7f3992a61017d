"""`mlxd serve` with its engine process and a tiny model of random weights."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.e2e.support import Served, chat, children, content, serve
from tests.server.support import Client, until
from tests.tiny_model import make_tiny_model

TOML = """
[server]
drain_seconds = 0.5
[engine]
max_batch = 1
stall_timeout = 6.0
[models.tiny]
source = "../model"
"""
PATIENT = TOML.replace("2.0", "120.0")
RECOVERY = 120.0
"""Seconds that an engine process may take to start and load on a busy machine."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("engine") / "model")


def _serve(model: Path, name: str, toml: str = TOML) -> AbstractContextManager[Served]:
    folder = model.parent / name
    folder.mkdir()
    return serve(folder, toml=toml)


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Served]:
    """One server for most tests: each leaves it with an engine that works."""
    with _serve(model, "shared") as running:
        yield running


async def _health(served: Served) -> str:
    return str(json.loads((await served.get("/health")).body)["status"])


async def _until_healthy(served: Served) -> None:
    await _until_health(served, "ok")


async def _until_health(served: Served, wanted: str) -> None:
    async with asyncio.timeout(RECOVERY):
        while True:
            if await _health(served) == wanted:
                return
            await asyncio.sleep(0.05)


async def _begin_long_answer(served: Served, model: Path) -> Client:
    """A stream that the model can't end early, once its first words have arrived."""
    settings = json.loads((model / "generation_config.json").read_text())
    never = {str(end): -100 for end in settings["eos_token_id"]}
    client = await served.connect()
    client.send(chat("Tell me.", stream=True, max_tokens=1900, logit_bias=never))
    assert (await client.head()).status == 200
    async with asyncio.timeout(RECOVERY):
        await client.reader.readuntil(b'"delta":{"content":')
    return client


async def _error_that_ends(client: Client) -> str:
    """Read a stream to its proper end, which an error must be part of."""
    text = ""
    async with asyncio.timeout(RECOVERY):
        while not text.endswith("\r\n0\r\n\r\n"):
            data = await client.reader.read(65536)
            assert data, f"cut off: {text[-500:]}"
            text += data.decode()
    client.close()
    (error,) = re.findall(r'data: (\{"error":.*\})', text)
    return str(json.loads(error)["error"]["message"])


async def test_it_answers_before_the_model_is_loaded_and_then_with_it(served: Served) -> None:
    assert await _health(served) in ("loading", "ok")
    assert "loading" in served.announcement
    async with await served.connect() as client:
        client.send(chat("Hello", max_tokens=5, temperature=0))
        async with asyncio.timeout(RECOVERY):
            await client.reader.readuntil(b"\r\n\r\n")
    await _until_healthy(served)
    first = await served.chat("Hello", max_tokens=5, temperature=0)
    assert content(first) == content(await served.chat("Hello", max_tokens=5, temperature=0))
    assert json.loads(first.body)["usage"]["completion_tokens"] <= 5


async def test_a_stream_ends_where_the_limit_is(served: Served) -> None:
    await _until_healthy(served)
    async with await served.connect() as client:
        client.send(chat("Hello", stream=True, max_tokens=8))
        assert (await client.head()).headers["content-type"].startswith("text/event-stream")
        assert await client.ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("extra", [b"", b"\n"])
async def test_a_client_that_leaves_makes_room_for_the_next(
    extra: bytes, served: Served, model: Path
) -> None:
    await _until_healthy(served)
    before = served.log.count("finish=disconnected")
    client = await _begin_long_answer(served, model)
    client.send(extra)
    client.close()
    await until(lambda: served.log.count("finish=disconnected") > before)
    assert content(await served.chat("Hello", max_tokens=2))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "The inference engine stopped unexpectedly (killed by SIGKILL)."),
        (signal.SIGSEGV, "The inference engine stopped unexpectedly (killed by SIGSEGV"),
        (signal.SIGSTOP, "The inference engine made no progress for 6 s and was restarted."),
    ],
)
async def test_a_dead_engine_costs_its_requests_an_error_and_comes_back(
    number: signal.Signals, words: str, served: Served, model: Path
) -> None:
    await _until_healthy(served)
    (engine,) = children(served.process.pid)
    client = await _begin_long_answer(served, model)
    os.kill(engine, number)
    assert words in await _error_that_ends(client)
    assert await _health(served) != "ok"
    await _until_healthy(served)
    assert children(served.process.pid) != [engine]
    assert content(await served.chat("Hello", max_tokens=2))


async def test_a_signal_for_all_processes_lets_the_server_end_the_engine(model: Path) -> None:
    with _serve(model, "terminated", PATIENT) as served:
        await _until_healthy(served)
        (engine,) = children(served.process.pid)
        client = await _begin_long_answer(served, model)
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(engine, number)
        await client.reader.readuntil(b'"delta":{"content":')
        served.terminate()
        assert await _error_that_ends(client) == "The server is shutting down."
        await until(lambda: served.over)
        assert served.process.wait() == 0
        assert not _runs(engine)


async def test_models_that_cannot_be_served_are_said_in_a_line_and_heal(model: Path) -> None:
    def edited(name: str, **changes: object) -> str:
        """A model of its own, whose configuration says something else."""
        shutil.copytree(model, model.parent / name, dirs_exist_ok=True)
        config = json.loads((model / "config.json").read_text())
        (model.parent / name / "config.json").write_text(json.dumps({**config, **changes}))
        return f'[models.{name}]\nsource = "../{name}"\n'

    toml = edited("strange", model_type="zorblax") + edited("torn", vocab_size=17)
    folder = model.parent / "unusable"
    folder.mkdir()
    with serve(folder, toml=toml, expected="can't be used: ") as served:
        reason = "does not know its model_type 'zorblax'"
        assert f"can't be served: mlx-lm {version('mlx-lm')} {reason}" in served.announcement
        assert '"model":"torn"' in served.announcement
        answer = await served.chat("Hi", model="torn")
        assert answer.status != 200
        await _until_health(served, "failed")
        assert (await served.get("/health")).status == 503
        for name in ("strange", "torn"):
            said = [line for line in served.log.splitlines() if f" {name}" in line]
            assert len([line for line in said if "can't be used" in line]) == 1, said
        edited("strange")
        assert content(await served.chat("Hi", model="strange", max_tokens=2))
        await _until_health(served, "ok")


async def test_the_engine_does_not_outlive_a_killed_server(model: Path) -> None:
    with _serve(model, "killed") as served:
        await until(lambda: len(children(served.process.pid)) == 1)
        (engine,) = children(served.process.pid)
        served.terminate(signal.SIGKILL)
        await until(lambda: served.over)
        await until(lambda: not _runs(engine))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
