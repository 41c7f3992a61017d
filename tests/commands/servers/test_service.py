"""`mlxd service`, with a systemd that runs one service and notes what it is told."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlxd.config.places import own_file
from mlxd.service.log_files import server_log
from tests.commands.servers.running import own_account
from tests.environment import Shell
from tests.server.support import until

FAKE = Path(__file__).with_name("fake_systemctl.py")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose `systemctl` is the fake; what it runs is over afterwards."""
    own_account(tmp_path, monkeypatch)
    monkeypatch.delenv("MLXD_SERVER__PORT")
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "{FAKE}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    home = Path.home()
    home.mkdir()
    yield home
    with suppress(OSError, ValueError):
        os.kill(int((home / "service.pid").read_text()), signal.SIGKILL)


def unit() -> Path:
    return Path.home() / ".config" / "systemd" / "user" / "mlxd.service"


def configure(text: str) -> None:
    own_file().parent.mkdir(parents=True, exist_ok=True)
    own_file().write_text(f'{text}\n[models.demo]\nsource = "demo"\n', encoding="utf-8")


def told(home: Path) -> list[str]:
    """What systemd was told, but for questions."""
    lines = (home / "calls").read_text().splitlines()
    (home / "calls").unlink()
    return [line.removeprefix("--user ") for line in lines if " show " not in line]


def is_installed(home: Path, mlxd: Shell, port: int) -> None:
    """Install it from a shell with variables, in a folder with a configuration of its own."""
    Path("mlxd.toml").write_text("server.prot = 1")
    installed = mlxd("service", "install", "--no-doctor")
    assert installed.code == 0, installed.err + (home / "journal").read_text()
    assert f"The service answers at http://127.0.0.1:{port} (ok)" in installed.out
    assert str(server_log()) in installed.out
    assert "HF_TOKEN: not copied" in installed.err
    assert "hf_secret" not in unit().read_text()
    assert 'Environment="HF_HOME=/some \\"odd\\" place"' in unit().read_text()
    assert told(home) == ["daemon-reload", "reset-failed mlxd.service", "enable --now mlxd.service"]


@pytest.mark.process
def test_a_service_is_installed_seen_restarted_and_taken_away(
    home: Path, mlxd: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlxd("service", "status").code == 4
    for command in ("restart", "uninstall"):
        assert mlxd("service", command).code == 4
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configure(f"server.port = {port}")
    monkeypatch.setenv("HF_HOME", '/some "odd" place')
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    is_installed(home, mlxd, port)
    shown = mlxd("service", "status")
    assert shown.code == 0
    assert "active, enabled (systemd)" in shown.out
    assert f"http://127.0.0.1:{port} (ok, up " in shown.out
    facts = json.loads(mlxd("service", "status", "--json").out)
    assert (facts["installed"], facts["restart_needed"], facts["last_exit"]) == (True, False, None)
    (row,) = json.loads(mlxd("ps", "--json").out)["servers"]
    assert (row["pid"], row["started_by"]) == (facts["pid"], "service")

    assert mlxd("service", "restart").code == 0
    assert told(home) == [
        "--no-block stop mlxd.service",
        "reset-failed mlxd.service",
        "start mlxd.service",
    ]
    again = json.loads(mlxd("service", "status", "--json").out)
    assert again["pid"] not in (0, facts["pid"])
    # A signal alone might have it started anew.
    stopped = mlxd("stop")
    assert stopped.code == 0
    assert "It starts at the next login" in stopped.err
    assert told(home) == ["--no-block stop mlxd.service"]
    assert mlxd("service", "status").code == 3

    configure(f"server.port = {port}\nserver.prot = 1")
    refused = mlxd("service", "restart")
    assert refused.code == 2
    assert "server.prot: unknown key" in refused.err

    assert mlxd("service", "uninstall").code == 0
    assert not unit().exists()
    assert told(home)[-3:] == [
        *("disable --now mlxd.service", "daemon-reload"),
        "reset-failed mlxd.service",
    ]
    assert server_log().exists()


@pytest.mark.process
async def test_a_service_that_cannot_start_says_why(home: Path, mlxd: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        configure(f"server.port = {port}")
        refused = mlxd("service", "install", "--no-doctor")
    assert refused.code == 1
    assert f"the service does not start: 127.0.0.1:{port} is in use" in refused.err
    await until(lambda: mlxd("service", "status").code == 3)
    shown = mlxd("service", "status")
    assert f"127.0.0.1:{port} is in use" in shown.out
    assert "exit code 3" in shown.out


def test_what_would_be_done_is_printed_and_not_done(home: Path, mlxd: Shell) -> None:
    shown = mlxd("service", "install", "--print")
    assert shown.code == 0
    assert shown.out.startswith("# Written by `mlxd service install`")
    assert shown.out.endswith("WantedBy=default.target\n")
    assert "systemctl --user enable --now mlxd.service" in shown.err
    assert f"Without {own_file()} it serves the defaults" in shown.err
    assert "--no-block stop" in mlxd("service", "restart", "--print").err
    removal = mlxd("service", "uninstall", "--print").err
    assert f"rm {unit()}" in removal
    assert not unit().exists()
    assert not (home / "calls").exists()


def test_the_time_to_end_is_a_little_longer_than_the_server_takes(home: Path, mlxd: Shell) -> None:
    configure("server.drain_seconds = 99.5")
    assert "\nTimeoutStopSec=115\n" in mlxd("service", "install", "--print").out


def test_the_stable_program_is_taken_and_another_version_named(home: Path, mlxd: Shell) -> None:
    program = home / ".local" / "bin" / "mlxd"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho mlxd 0.0.9\n")
    program.chmod(0o755)
    shown = mlxd("service", "install", "--print")
    assert "\nExecStart=%h/.local/bin/mlxd serve --service\n" in shown.out
    assert f"{program} is mlxd 0.0.9" in shown.err
    program.unlink()
    shown = mlxd("service", "install", "--print")
    assert "which must stay" in shown.err


def test_a_unit_of_someone_elses_is_not_touched(home: Path, mlxd: Shell) -> None:
    unit().parent.mkdir(parents=True)
    unit().write_text("[Service]\nExecStart=/my/own\n")
    for command in (["install", "--no-doctor"], ["uninstall"], ["restart"]):
        assert mlxd("service", *command).code != 0
    assert unit().read_text() == "[Service]\nExecStart=/my/own\n"


def test_without_a_manager_that_answers_there_is_a_line(
    home: Path, mlxd: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.parent / "bin" / "systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    refused = mlxd("service", "install", "--no-doctor")
    assert refused.code == 1
    assert "(no bus)" in refused.err
    monkeypatch.setenv("PATH", "/nowhere")
    assert "neither systemd nor launchd" in mlxd("service", "status").err
