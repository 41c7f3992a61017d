"""`mlxd serve --service`: its log, its signals, and what it leaves when it ends for good."""

import json
import signal
import subprocess
import sys
import urllib.error
from functools import partial
from pathlib import Path

import pytest

from mlxd.admin_token import Access
from mlxd.config.places import own_file
from mlxd.service import last_exit
from mlxd.service.log_files import server_log
from tests.commands.servers.running import access_to, asked, own_account, serving
from tests.environment import Shell, spawn
from tests.server.support import until

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_account(tmp_path, monkeypatch)
    own_file().parent.mkdir(parents=True)
    # A service has no folder that it was started in.
    Path("mlxd.toml").write_text("not [ TOML", encoding="utf-8")


def configure(text: str) -> None:
    own_file().write_text(f'{text}\n[models.demo]\nsource = "demo"\n', encoding="utf-8")


def log() -> str:
    return server_log().read_text("utf-8")


def was_said(*words: str) -> bool:
    return any(all(word in line for word in words) for line in log().splitlines())


def status_of(access: Access, key: str) -> int:
    try:
        with asked(access, "Hi", key) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_a_service_logs_to_a_file_and_reads_its_configuration_again(mlxd: Shell) -> None:
    configure("")
    last_exit.write(3, "of an earlier start")
    with serving("--service") as server:
        access = await access_to(server)
        assert access.started_by == "service"
        await until(lambda: "serving http://" in log())
        assert last_exit.read() is None
        with asked(access, "Hi") as answer:
            request = answer.headers["x-request-id"]
            answer.read()
        await until(lambda: f"id={request}" in log())
        shown = mlxd("logs", "--request", request)
        assert shown.code == 0
        (line,) = shown.out.splitlines()
        assert f"id={request}" in line
        assert mlxd("logs", "--request", request[:-1]).out == ""
        assert mlxd("logs", "-n", "1").out == shown.out
        assert mlxd("service", "logs").out == log()

        with asked(access, "a long one") as running:
            running.readline()
            configure(
                'server.api_keys = ["new"]\nserver.max_queue = 3\nlog.format = "json"\n'
                "engine.wired = true"
            )
            server.send_signal(signal.SIGHUP)
            await until(lambda: "read again" in log())
            said = json.loads(log().splitlines()[-1])["message"]
            assert "changed: server.api_keys, server.max_queue, log.format" in said
            assert "after a restart: engine.wired" in said
            assert (status_of(access, ""), status_of(access, "new")) == (401, 200)
            for broken, said in (("server.prot = 1", "unknown key"), ("not [ TOML", "valid TOML")):
                configure(broken)
                server.send_signal(signal.SIGHUP)
                await until(partial(was_said, f"{own_file()}:1: ", said))
            own_file().unlink()
            server.send_signal(signal.SIGHUP)
            await until(lambda: "can't be read" in log())
            # No keys would be asked for by the defaults.
            assert status_of(access, "") == 401
            assert server.poll() is None
            # It is no service of a manager's here: it is signalled itself.
            assert mlxd("stop", "--now").code == 0
            assert b"shutting down" in running.read()
        assert server.wait() == 0
    assert log().count('"message": "stopped"') == 1
    # Those of the log are there afterwards too.
    assert "stopped" in mlxd("logs", "-n", "1").out


def test_an_end_for_good_is_written_down() -> None:
    own_file().write_text("server.prot = 1\n", encoding="utf-8")
    done = spawn("serve", "--service")
    assert done.returncode == 2
    assert "server.prot: unknown key" in done.stderr
    last = last_exit.read()
    assert last is not None
    assert last.code == 2
    assert f"{own_file()}:1: server.prot: unknown key" in last.reason


def test_the_log_is_followed_until_an_interrupt(mlxd: Shell) -> None:
    assert mlxd("logs").code == 1
    server_log().parent.mkdir(parents=True)
    server_log().write_text("one\ntwo\n\x1b[2Jthree\n")
    command = [sys.executable, "-m", "mlxd", "logs", "-f", "-n", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "two\n"
        assert following.stdout.readline() == "\\x1b[2Jthree\n"
        with server_log().open("a") as opened:
            opened.write("four\n")
        assert following.stdout.readline() == "four\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
