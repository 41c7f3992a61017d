"""`mlxd run`: everything between a model's name and its answer."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import ROOT, spawn
from tests.tiny_model import make_tiny_model
from tests.tui.terminal_process import Terminal

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of other tests, and of whoever runs them, are not found."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MLXD_SERVER__PORT", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_one_command_answers_a_question_and_leaves_no_server(tmp_path: Path) -> None:
    make_tiny_model(Path("tiny"))
    # The port of the configuration is another program's.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = spawn("run", "./tiny", "Hello", MLXD_SERVER__PORT=port)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "loading tiny" in done.stderr
    assert list((tmp_path / "state" / "mlxd").glob("admin-*.json")) == []


def test_a_server_that_runs_is_used_and_its_models_are_named(tmp_path: Path) -> None:
    Path("mlxd.toml").write_text('[models.here]\nsource = "demo"\naliases = ["other"]\n')
    with subprocess.Popen(
        [sys.executable, "-m", "mlxd", "serve", "--scripted", "agent"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as server:
        try:
            assert server.stdout is not None
            assert b"serves" in server.stdout.readline()
            for name in ("here", "other"):
                answered = spawn("run", name, "Hello")
                assert (answered.returncode, bool(answered.stdout.strip())) == (0, True)
            refused = spawn("run", "missing", "Hello")
            assert refused.returncode == 2
            assert "has no missing. It has: here, other." in refused.stderr
            assert server.poll() is None
        finally:
            server.send_signal(signal.SIGTERM)


def configure_tiny_model() -> None:
    make_tiny_model(Path("tiny"))
    Path("mlxd.toml").write_text('[models.small]\nsource = "./tiny"\n', encoding="utf-8")


async def test_a_chat_brings_its_own_server_and_takes_it_away(tmp_path: Path) -> None:
    configure_tiny_model()
    with Terminal("chat") as terminal:
        await terminal.read_until(b"Start one? [Y/n]")
        terminal.press(b"\r")
        await terminal.read_until("· small ·".encode())
        terminal.hang_up()
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(terminal.process.wait) == 128 + signal.SIGHUP
    assert list((tmp_path / "state" / "mlxd").glob("admin-*.json")) == []


async def test_a_chat_starts_nothing_that_is_not_wanted() -> None:
    with Terminal("chat") as terminal:
        await terminal.read_until(b"Start one? [Y/n]")
        terminal.press(b"n\r")
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(terminal.process.wait) == 3


def test_what_is_no_model_is_refused_before_anything_is_started() -> None:
    refused = spawn("run", "./nowhere", "Hello")
    assert refused.returncode == 2
    assert "neither a configured alias nor a source" in refused.stderr


def test_without_a_name_a_model_and_a_person_the_models_that_fit_are_listed() -> None:
    listed = spawn("run", "What is this?")
    assert listed.returncode == 2
    assert "demo" in listed.stderr.splitlines()[-2]
