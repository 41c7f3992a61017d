"""`mlxd ps` and `mlxd stop`: which servers there are, and how they end."""

import asyncio
import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mlxd.admin_token import Access, folder, running
from mlxd.commands.servers.found import port_of
from mlxd.service.processes import birth
from tests.commands.servers.running import access_to, asked, own_account, serving
from tests.environment import Shell

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_account(tmp_path, monkeypatch)


async def test_servers_are_listed_and_the_one_that_is_meant_is_stopped(mlxd: Shell) -> None:
    with serving() as one, serving() as other:
        first, second = await access_to(one), await access_to(other)
        table = mlxd("ps")
        assert table.code == 0
        head, *lines = table.out.splitlines()
        assert head.split()[:3] == ["PID", "URL", "VERSION"]
        assert {tuple(line.split()[:2]) for line in lines} == {
            (str(one.pid), first.url),
            (str(other.pid), second.url),
        }
        rows = json.loads(mlxd("ps", "--json").out)["servers"]
        assert {row["pid"] for row in rows} == {one.pid, other.pid}
        for row in rows:
            # A session of their own, without a terminal.
            assert (row["started_by"], row["state"], row["health"]) == (
                *("background", "serving"),
                "ok",
            )
            assert (row["running"], row["waiting"]) == (0, 0)
            assert row["server_memory"] > 0
            assert row["models"] == [{"id": "demo", "state": "loaded"}]
        unclear = mlxd("stop")
        assert unclear.code == 2
        assert first.url in unclear.err
        assert second.url in unclear.err
        assert mlxd("stop", "--port", "1").code == 1
        assert mlxd("stop", "--port", "1", "--all").code == 2
        assert (one.poll(), other.poll()) == (None, None)
        assert mlxd("stop", "--all").code == 0
        assert (one.wait(), other.wait()) == (0, 0)
    assert mlxd("ps").out == "No server of this account runs.\n"
    assert json.loads(mlxd("ps", "--json").out) == {"servers": []}
    assert mlxd("stop").code == 1
    assert mlxd("stop", "--all").code == 0


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this account."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_only_the_server_itself_is_stopped_and_what_it_waits_for_is_shown(
    mlxd: Shell, bystander: subprocess.Popen[bytes]
) -> None:
    with serving() as server:
        access = await access_to(server)
        own = folder() / f"admin-{port_of(access)}.json"
        own.rename(own.with_name("kept"))
        for forged in (
            replace(access, pid=bystander.pid),
            replace(access, pid=bystander.pid, birth=""),
            replace(access, pid=0, birth=birth(bystander.pid)),
            replace(access, pid=-1, birth=birth(bystander.pid)),
        ):
            with left(forged):
                (row,) = json.loads(mlxd("ps", "--json").out)["servers"]
                assert row["state"] == "unreachable"
                for args in ([], ["--all"], ["--now"]):
                    refused = mlxd("stop", *args)
                    assert refused.code == 1
                    assert "left alone" in refused.err
        own.with_name("kept").rename(own)
        assert (bystander.poll(), server.poll()) == (None, None)
        await interrupted_twice(access)
        assert server.wait() == 0


@contextmanager
def left(access: Access) -> Iterator[None]:
    """A file as of a living server: without the lock it would not even be looked at."""
    path = folder() / "admin-1.json"
    path.touch(0o600)
    with path.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        json.dump(asdict(access), opened)
        opened.flush()
        yield
    path.unlink()


async def interrupted_twice(access: Access) -> None:
    """Stop a server that answers a request for ever."""
    with asked(access, "a long one") as answer:
        answer.readline()
        stopping = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mlxd", "stop", "--port", str(port_of(access))),
            stderr=subprocess.PIPE,
        )
        assert stopping.stderr is not None
        assert b"Stopping" in await stopping.stderr.readline()
        line = (await stopping.stderr.readline()).decode()
        assert "waiting for 1 request: Python-urllib" in line
        assert "demo decode" in line
        stopping.send_signal(signal.SIGINT)
        assert b"Ctrl-C again" in await stopping.stderr.readline()
        assert running() == []
        stopping.send_signal(signal.SIGINT)
        assert b"shutting down" in answer.read()
    assert await stopping.wait() == 0
