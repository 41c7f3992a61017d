"""`mlxd serve` from its start to its end, with scripted answers."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support import Served, chat, content, serve
from tests.server.support import DEADLINE, Client, until

TOML = """
[server]
drain_seconds = 3.0
[models.demo]
source = "demo"
aliases = ["gpt-4o"]
"""
PATIENT = TOML.replace("3.0", "600.0")
HUGE = "x" * 300_000
"""As a stream about 12 MB: more than sockets buffer for a client that does not read."""
IN_TERMINAL = (
    *(sys.executable, "-c"),
    # It keeps the other end open itself, so that its terminal stays.
    "import fcntl, os, pty, sys, termios; ours, its = pty.openpty(); "
    "os.set_inheritable(ours, True); fcntl.ioctl(its, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])",
)
SCRIPT = [
    {"when": {"contains": "endless"}, "events": [{"text": "begun"}, {"pause": 60}]},
    {"when": {"contains": "brief"}, "events": [{"text": "begun"}, {"pause": 0.5}, {"text": "."}]},
    {"when": {"contains": "huge"}, "events": [{"text": HUGE}, {"pause": 60}]},
    {"when": {"contains": "Hi"}, "events": [{"text": "Hello."}]},
]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("script") / "script.json"
    path.write_text(json.dumps(SCRIPT), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, script: str) -> Iterator[Served]:
    """One server for the tests that leave it running."""
    folder = tmp_path_factory.mktemp("shared")
    with serve(folder, "--scripted", script, toml=TOML) as running:
        yield running


@pytest.fixture
def served(tmp_path: Path, script: str) -> Iterator[Served]:
    with serve(tmp_path, "--scripted", script, toml=TOML) as running:
        yield running


@pytest.fixture
def patient(tmp_path: Path, script: str) -> Iterator[Served]:
    """Takes longer to drain than any test waits, and has a terminal."""
    with serve(tmp_path, "--scripted", script, toml=PATIENT, prefix=IN_TERMINAL) as running:
        yield running


async def _begin(client: Client, text: str) -> None:
    """Ask for a stream and wait until it has begun."""
    client.send(chat(text, stream=True))
    assert (await client.head()).status == 200
    async with asyncio.timeout(DEADLINE):
        await client.reader.readuntil(b"begun")


async def _exit_code(served: Served) -> int:
    await until(lambda: served.over)
    return served.process.wait()


async def test_it_says_where_it_is_and_answers_there(shared: Served) -> None:
    said = shared.announcement
    assert f"http://127.0.0.1:{shared.port}/v1" in said
    for words in ("openai_chat", "demo, gpt-4o", str(shared.folder / "mlxd.toml"), "curl "):
        assert words in said
    health = await shared.get("/health")
    assert (health.status, json.loads(health.body)["status"]) == (200, "ok")
    models = json.loads((await shared.get("/v1/models")).body)
    assert "demo" in [model["id"] for model in models["data"]]
    assert content(await shared.chat("Hi")) == "Hello."


async def test_a_stream_arrives_as_it_is_made(shared: Served) -> None:
    async with await shared.connect() as client:
        await _begin(client, "brief")
        begun = asyncio.get_running_loop().time()
        assert await client.ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert asyncio.get_running_loop().time() - begun > 0.3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("extra", [b"", b"\n"])
async def test_a_client_that_leaves_ends_its_request(
    stream: bool, extra: bytes, shared: Served
) -> None:
    before = shared.log.count("finish=disconnected")
    client = await shared.connect()
    client.send(chat("endless", stream=stream) + extra)
    if stream:
        await client.head()
    else:
        assert content(await shared.chat("Hi")) == "Hello."
    client.close()
    await until(lambda: shared.log.count("finish=disconnected") > before)


async def test_one_line_is_logged_a_request_and_none_holds_what_was_said(shared: Served) -> None:
    answer = await shared.chat("Hi, secretly")
    identity = answer.headers["x-request-id"]
    await until(lambda: identity in shared.log)
    (line,) = [line for line in shared.log.splitlines() if identity in line]
    assert " model=demo " in line
    assert " finish=stop" in line
    assert "secretly" not in shared.log
    assert "Hello." not in shared.log


async def test_json_logs_are_one_object_a_line(tmp_path: Path, script: str) -> None:
    toml = TOML + '[log]\nformat = "json"\n'
    with serve(tmp_path, "--scripted", script, toml=toml) as served:
        await served.chat("Hi")
        await until(lambda: "finish" in served.log)
        records = [json.loads(line) for line in served.log.splitlines()]
    (request,) = [record for record in records if record["logger"] == "mlxd.request"]
    assert (request["level"], request["model"], request["finish"]) == ("info", "demo", "stop")


class TestTheEnd:
    async def _crowd(self, served: Served) -> dict[str, Client]:
        """A client of every kind, each in the middle of what it does."""
        kinds = ("brief", "endless", "huge", "idle", "slow body", "extra byte", "silent")
        clients = {kind: await served.connect() for kind in kinds}
        await clients["idle"].get("/health")
        clients["slow body"].send(chat("Hi")[:-5])
        clients["extra byte"].send(chat("endless") + b"\n")
        clients["huge"].stop_reading()
        clients["huge"].send(chat("huge", stream=True))
        await _begin(clients["endless"], "endless")
        await _begin(clients["brief"], "brief")
        return clients

    async def test_a_crowd_of_clients_ends_well_and_in_time(self, served: Served) -> None:
        clients = await self._crowd(served)
        served.terminate()
        # The rest of the brief stream arrives whole, of the endless one an error and a clean end.
        brief = (await clients["brief"].rest()).decode()
        assert '"finish_reason":"stop"' in brief
        assert brief.endswith("data: [DONE]\n\n\r\n0\r\n\r\n")
        endless = (await clients["endless"].rest()).decode()
        assert "The server is shutting down." in endless
        assert endless.endswith("\r\n0\r\n\r\n")
        answer = await clients["extra byte"].answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await _exit_code(served) == 0
        for client in clients.values():
            client.close()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_an_idle_server_ends_at_once(
        self, number: signal.Signals, patient: Served
    ) -> None:
        async with await patient.connect() as client:
            await client.get("/health")
            patient.terminate(number)
            assert await client.rest() == b""
        assert await _exit_code(patient) == 0

    async def test_while_draining_new_requests_are_told_to_go_elsewhere(
        self, patient: Served
    ) -> None:
        async with await patient.connect() as late, await patient.connect() as client:
            await late.get("/health")
            await _begin(client, "endless")
            patient.terminate()
            await until(lambda: "stopping" in patient.log)
            late.send(chat("Hi"))
            answer = await late.answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert int(answer.headers["retry-after"]) >= 1
            assert json.loads(answer.body)["error"]["message"] == "The server is shutting down."
            with pytest.raises(ConnectionRefusedError):
                await patient.connect()

    async def test_a_closed_terminal_asks_to_finish_and_a_second_signal_to_hurry(
        self, patient: Served
    ) -> None:
        async with await patient.connect() as client, await patient.connect() as other:
            await other.get("/health")
            await _begin(client, "endless")
            patient.terminate(signal.SIGHUP)
            await until(lambda: "stopping" in patient.log)
            # The shell sends one, and the system another.
            patient.terminate(signal.SIGHUP)
            other.send(chat("Hi"))
            assert (await other.answer()).status == 503
            # That one has ended, and no other.
            assert patient.log.count("finish=") <= 1
            patient.terminate()
            assert "The server is shutting down." in (await client.rest()).decode()
        assert await _exit_code(patient) == 0
        assert patient.log.rstrip().endswith("stopped")


class TestWhenItCannotStart:
    async def test_a_port_in_use_is_one_line_and_exit_code_3(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            with serve(tmp_path, "--scripted", "agent", "--port", port, toml=TOML) as served:
                assert await _exit_code(served) == 3
        (line,) = served.log.splitlines()
        assert f"127.0.0.1:{port} is in use" in line
        assert served.announcement == ""

    async def test_what_is_no_host_is_one_line_and_exit_code_3(self, tmp_path: Path) -> None:
        toml = TOML.replace("[server]", '[server]\napi_keys = ["k"]')
        with serve(tmp_path, "--scripted", "agent", "--host", "x" * 64, toml=toml) as served:
            assert await _exit_code(served) == 3
        assert len(served.log.splitlines()) == 1

    @pytest.mark.parametrize("bad", ["[server]\nprot = 1\n", "[server\n", "dialects = ['x']\n"])
    async def test_a_wrong_configuration_is_exit_code_2(self, bad: str, tmp_path: Path) -> None:
        with serve(tmp_path, "--scripted", "agent", toml=bad) as served:
            assert await _exit_code(served) == 2
        assert "mlxd.toml" in served.log

    async def test_a_wrong_script_is_exit_code_2(self, tmp_path: Path) -> None:
        script = tmp_path / "script.json"
        script.write_text("[[{}]]", encoding="utf-8")
        with serve(tmp_path, "--scripted", str(script), toml=TOML) as served:
            assert await _exit_code(served) == 2
        assert "script.json" in served.log


async def test_a_thousand_connections_do_not_exhaust_it(tmp_path: Path) -> None:
    few_files = ("sh", "-c", 'ulimit -n 128; exec "$@"', "sh")
    with serve(tmp_path, "--scripted", "agent", toml=TOML, prefix=few_files) as served:
        assert "at most 64 connections" in served.log
        with ExitStack() as crowd:
            for _ in range(1000):
                crowd.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        async with asyncio.timeout(DEADLINE):
            while not await _is_healthy(served):
                pass


async def test_the_memory_of_large_bodies_is_given_back(served: Served) -> None:
    await served.chat("Hi")
    before = _resident(served.process.pid)
    for _ in range(2):
        await asyncio.gather(*(served.chat("Hi" + "x" * 4_000_000) for _ in range(8)))
    assert _resident(served.process.pid) < before + 48


def _resident(process: int) -> float:
    """Megabytes of memory that it holds."""
    pages = Path(f"/proc/{process}/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    listed = subprocess.run(["ps", "-o", "rss=", "-p", str(process)], stdout=-1, check=True)
    return int(listed.stdout) / 1024


async def _is_healthy(served: Served) -> bool:
    try:
        return (await served.get("/health")).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False
