"""The pieces of the composition root that no running server shows."""

import errno
import re
import socket
import subprocess
import sys
from collections.abc import Mapping

import pytest

from mlxd.config.settings import ModelSettings, Settings
from mlxd.server.addresses import cannot_listen, ports_of
from mlxd.server.announcement import announcement, base_url, model_line
from mlxd.status import ModelInfo
from tests.sources import ROOT

HANGING = """
import asyncio, os, signal, time
from mlxd.server.lifecycle import StopSignals

async def main():
    with StopSignals(0.2).handled():
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            {hang}

asyncio.run(main())
"""


@pytest.mark.parametrize("hang", ["time.sleep(0.05)", "await asyncio.sleep(0.05)"])
def test_a_server_that_does_not_end_is_ended(hang: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING.format(hang=hang)], timeout=20, check=False
    )
    assert done.returncode == 75


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("localhost", "http://localhost:"),
        ("::1", "http://[::1]:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("::", "http://[::1]:"),
    ],
)
def test_the_url_is_one_that_works_on_this_machine(host: str, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert base_url(host, [sock]) == f"{url}{sock.getsockname()[1]}"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EADDRINUSE, "in use"), "h:80 is in use by another program"),
        (OSError(errno.EACCES, "denied"), "not allowed to listen on h:80"),
        (OSError(errno.EADDRNOTAVAIL, "none"), "no address h"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "'h' can't be resolved"),
        (OSError(errno.ENOBUFS, "No buffer space"), "can't listen on h:80: No buffer space"),
    ],
)
def test_what_keeps_it_from_listening_is_said_in_one_line(error: OSError, words: str) -> None:
    line = cannot_listen(error, "h", 80)
    assert words in line
    assert "\n" not in line


def test_a_second_port_that_is_taken_is_not_advised_against_the_first() -> None:
    line = cannot_listen(OSError(errno.EADDRINUSE, "in use"), "h", 80, besides=True)
    assert "h:80 is in use" in line
    assert "--port" not in line


def test_the_ports_of_dialects_come_behind_the_configured_one() -> None:
    def ports(port: int, **others: object) -> tuple[int, ...]:
        return ports_of(Settings.model_validate({"ollama": {"port": port}, **others}))

    assert ports(0) == (8484,)
    assert ports(11434) == (8484, 11434)
    assert ports(8484) == (8484,)
    assert ports(11434, dialects=("anthropic",)) == (8484,)
    settings = Settings.model_validate({"ollama": {"port": 11434}})
    said = announcement(
        "http://127.0.0.1:8484", settings, (), unusable={}, store="", config_file=None
    )
    assert "ollama           http://127.0.0.1:8484, http://127.0.0.1:11434\n" in said


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelInfo(id="a", aliases=("b",), source="x/y"), "a, b  (x/y; loading)"),
        (ModelInfo(id="a", source="x/y", state="loaded"), "a  (x/y; loaded)"),
        (ModelInfo(id="a", source="x", state="failed", reason="no weights"), "failed: no weights"),
    ],
)
def test_a_model_is_shown_with_its_names_and_state(model: ModelInfo, words: str) -> None:
    assert words in model_line(model, loads_now=True)
    assert "when first asked for" in model_line(ModelInfo(id="z"), loads_now=False)


def test_without_a_model_that_can_answer_nothing_is_there_to_try() -> None:
    def announced(*names: str, unusable: Mapping[str, str]) -> str:
        return announcement(
            "http://127.0.0.1:1",
            Settings(models={name: ModelSettings(source=name) for name in names}),
            [ModelInfo(id=name, source=name) for name in names],
            unusable=unusable,
            store="",
            config_file=None,
        )

    gone = {"a": "no such folder"}
    said = announced("a", unusable=gone)
    assert "a  (a; can't be served: no such folder)" in said
    assert "looked for again" in said
    assert not any(word in said for word in ("Try it", "loading", "curl", "chat,"))
    said = announced("a", "b", unusable=gone)
    assert '{"model":"b","max_tokens":64,"stream":true,' in said
    assert "looked for again" not in said


def test_the_readme_shows_what_is_printed() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"(?ms)^(mlxd [\d.]+ serves .*?)^```", readme)[0].splitlines()
    said = announcement(
        "http://127.0.0.1:8484",
        Settings(models={"demo": ModelSettings(source="demo")}),
        [ModelInfo(id="demo", source="demo")],
        unusable={},
        store="kept",
        config_file=None,
    ).splitlines()
    # Paths are the reader's own.
    own = ("store", "config", "chat", "agents")
    for line, printed in zip(shown, said, strict=False):
        same = line[:10] if line.split()[0] in own else line
        assert printed.startswith(same)
    assert len(shown) == said.index("Try it:")
