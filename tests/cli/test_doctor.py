"""`mlxd doctor` on machines where something is wrong."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.surroundings import ROOT, Shell


class HealthHandler(BaseHTTPRequestHandler):
    """Answers like a server of ours, or with something else."""

    body = b'{"status": "ok"}'

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep the test's output quiet."""


class StrangerHandler(HealthHandler):
    body = b"<html>"


@pytest.fixture
def listening(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a small HTTP server with the handler of the parameter."""
    with HTTPServer(("127.0.0.1", 0), request.param) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def broken_mlx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MLX that can't be loaded, which also makes `doctor` quick."""
    package = tmp_path / "broken" / "mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("no such chip")', encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{ROOT}")


@pytest.mark.parametrize("listening", [HealthHandler], indirect=True)
def test_doctor_sees_a_running_server(listening: int, mlxd: Shell, broken_mlx: None) -> None:
    Path("mlxd.toml").write_text(f"[server]\nport = {listening}\n", encoding="utf-8")
    line = f"ok    port: an mlxd server answers on 127.0.0.1:{listening} (ok)"
    assert line in mlxd("doctor").out.splitlines()


@pytest.mark.parametrize("listening", [StrangerHandler], indirect=True)
def test_doctor_fails_when_another_program_has_the_port(
    listening: int, mlxd: Shell, broken_mlx: None
) -> None:
    Path("mlxd.toml").write_text(f"[server]\nport = {listening}\n", encoding="utf-8")
    result = mlxd("doctor")
    lines = result.out.splitlines()
    line = f"fail  port: 127.0.0.1:{listening} is taken by another program"
    assert line in lines
    assert "mlxd serve --port" in lines[lines.index(line) + 1]
    assert result.code == 1


def test_doctor_fails_when_mlx_does_not_load(mlxd: Shell, broken_mlx: None) -> None:
    result = mlxd("doctor")
    assert result.code == 1
    assert "fail  mlx: ImportError: no such chip" in result.out.splitlines()
    assert "\x1b" not in result.out


def test_doctor_lists_every_problem_of_the_file(mlxd: Shell, broken_mlx: None) -> None:
    Path("mlxd.toml").write_text("[server]\nprot = 1\nport = 'x'\n", encoding="utf-8")
    result = mlxd("doctor")
    assert result.code == 1
    assert 'fail  config: mlxd.toml:2: server.prot: unknown key. Did you mean "port"?' in result.out
    assert 'fail  config: mlxd.toml:3: server.port: expected a whole number, got "x"' in result.out


def test_doctor_checks_the_host(mlxd: Shell, broken_mlx: None) -> None:
    Path("mlxd.toml").write_text(
        "[server]\nhost = '203.0.113.9'\napi_keys = ['k']\n", encoding="utf-8"
    )
    assert "fail  port: 203.0.113.9:8484 can't be used: " in mlxd("doctor").out
