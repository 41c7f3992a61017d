"""`mlxd doctor` on machines where something is wrong."""

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlxd.cli import cli
from mlxd.commands.doctor_checks import (
    blas_finding,
    memory_finding,
    model_finding,
    python_finding,
    rows_finding,
)
from mlxd.commands.local_models import LocalModel
from mlxd.engine.protocol import ModelChanged
from mlxd.status import AnswerFormat
from mlxd.store.clock import StoreClock
from mlxd.store.database import StoreFile
from tests.environment import ROOT, Shell
from tests.own_code import PLAIN, REFUSES_TWO, with_code
from tests.tiny_model import make_tiny_model


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


def test_doctor_is_content_with_a_setup_that_works(mlxd: Shell, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    text = f'[server]\nport = 0\n[models.tiny]\nsource = "{tmp_path}/tiny"\n'
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    result = mlxd("doctor")
    assert result.code == 0, result.out
    subjects = re.findall(r"(?m)^(?:ok|warn)  +([\w ]+):", result.out)
    expected = ["python", "config", "port", "store", "prefixes", "mlx", "memory", "blas"]
    expected += ["model tiny"] * 3
    assert subjects == [name for name in expected if name != "blas" or sys.platform == "linux"]
    assert (
        "; calls are read as json_tools (from the tokenizer), and read back, "
        "thinking in <think> </think> (from the template)"
    ) in result.out
    assert re.search(r"(?m)^ok    mlx: mlx 0\.\d+\.\d+, mlx-lm [\d.]+, on (cpu|gpu)", result.out)
    assert "requests are batched" in result.out
    assert "temperature 0.7 (default), top_p 0.95 (default)" in result.out


def test_doctor_tells_how_a_model_is_served_and_where_its_sampling_is_from(
    mlxd: Shell, tmp_path: Path
) -> None:
    folder = with_code(tmp_path / "lone", REFUSES_TWO)
    advice = {"temperature": 0.6, "top_k": 20, "top_p": 7}
    (folder / "generation_config.json").write_text(json.dumps(advice), encoding="utf-8")
    text = (
        "[server]\nport = 0\n[defaults]\nmin_p = 0.1\n[models.lone]\n"
        f'source = "{folder}"\ntop_k = 5\ntrust_remote_code = true\n'
    )
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    out = mlxd("doctor").out
    assert "model lone: served one request at a time: ValueError when requests run together" in out
    assert "temperature 0.6 (generation_config.json), top_p 0.95 (default), top_k 5 (its" in out
    assert "min_p 0.1 ([defaults])" in out
    assert "top_p should be a number above 0, up to 1, but is '7'; it is left out" in out
    shown = mlxd("config", "show").out
    assert re.search(r"(?m)^models.lone.temperature = 0.6 +# generation_config.json$", shown)
    assert re.search(r"(?m)^models.lone.top_k = 5 +# file$", shown)
    assert re.search(r"(?m)^models.lone.min_p = 0.1 +# \[defaults\]$", shown)
    assert re.search(r"(?m)^models.lone.top_p = 0.95 +# default$", shown)


def test_doctor_survives_models_that_end_their_process(mlxd: Shell, tmp_path: Path) -> None:
    codes = {
        "quits": "print('{}'); exit('install colours')",
        "ends": "import os; os._exit(3)",
        "works": "print('x' * 10**5)\n" + PLAIN,
    }
    text = "[server]\nport = 0\n"
    for name, code in codes.items():
        folder = with_code(tmp_path / name, code)
        text += f'[models.{name}]\nsource = "{folder}"\ntrust_remote_code = true\n'
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    result = mlxd("doctor")
    assert result.code == 1
    assert re.search("fail  model quits: .*install colours", result.out)
    assert "fail  model ends: it ends the process that loads it" in result.out
    assert "ok    model works: requests are batched" in result.out


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_doctor_is_coloured_unless_no_color_is_set(
    variables: dict[str, str], coloured: bool, broken_mlx: None
) -> None:
    result = CliRunner().invoke(cli, ["doctor"], env=variables, color=True)
    assert ("\x1b[" in result.stdout) is coloured


GB = 10**9


@pytest.mark.parametrize(
    ("here", "level", "says"),
    [
        (
            LocalModel(None, "not downloaded"),
            "fail",
            "owner/name: not downloaded mlxd pull owner/name",
        ),
        (
            LocalModel(GB, "weights are cut short"),
            "fail",
            "weights are cut short mlxd pull owner/name",
        ),
        (LocalModel(11 * GB), "fail", "owner/name, 11.0 GB of 10.0 GB: does not fit"),
        (LocalModel(9 * GB), "warn", "owner/name, 9.0 GB of 10.0 GB: tight"),
        (LocalModel(8 * GB), "ok", "owner/name, 8.0 GB of 10.0 GB"),
    ],
)
def test_a_model_is_judged_by_presence_and_size(here: LocalModel, level: str, says: str) -> None:
    finding = model_finding("m", "owner/name", here, memory=10 * GB)
    assert finding.level == level
    assert says in f"{finding.text} {finding.remedy}"


def test_a_model_whose_calls_can_not_be_read_is_worth_a_warning() -> None:
    words = AnswerFormat("words", "json_tools", problem="tools are described in words: why")
    finding = model_finding("m", "owner/name", LocalModel(GB), memory=10 * GB, answers=words)
    assert finding.level == "warn"
    assert "tools are described in words, calls are read as json_tools, no thinking" in finding.text
    assert finding.remedy == "tools are described in words: why."


def test_what_was_tried_before_is_said_to_be() -> None:
    finding = rows_finding(ModelChanged("m", "loaded", reason="tried before"), GB)
    assert (finding.level, finding.text) == ("ok", "requests are batched (tried before)")


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "warn")]
)
def test_python_is_judged_by_its_version(version: tuple[int, int], level: str) -> None:
    assert python_finding(version).level == level


def test_the_reference_blas_is_worth_a_warning() -> None:
    assert blas_finding("reference (slow): install OpenBLAS").level == "warn"
    assert blas_finding("OpenBLAS 0.3.33 (Haswell, 2 threads)").level == "ok"


def test_little_memory_is_worth_a_warning() -> None:
    assert memory_finding(2 * GB, None).level == "warn"
    assert memory_finding(16 * GB, 12 * GB) == (
        *("ok", "memory", "16.0 GB, 12.0 GB of it for models", ""),
    )


def store_line(mlxd: Shell, text: str) -> str:
    Path("mlxd.toml").write_text(f"[conversations]\n{text}\n", encoding="utf-8")
    lines = mlxd("doctor").out.splitlines()
    return next(line for line in lines if "store: " in line)


def test_doctor_tells_where_conversations_are_kept(mlxd: Shell, broken_mlx: None) -> None:
    assert "c.sqlite3 will be made" in store_line(mlxd, 'path = "c.sqlite3"')
    assert not Path("c.sqlite3").exists()
    assert "in memory" in store_line(mlxd, 'store = "memory"')


def test_doctor_looks_at_the_stores_file_and_leaves_it_alone(mlxd: Shell, broken_mlx: None) -> None:
    file = StoreFile(Path("c.sqlite3").absolute(), max_bytes=2**30, clock=StoreClock(), reserve=0)
    file.connect(check=True).close()
    before = sorted((path.name, path.read_bytes()) for path in Path().glob("c.sqlite3*"))
    assert re.search(r"ok .*c\.sqlite3, 0\.1 MB, version 1", store_line(mlxd, 'path = "c.sqlite3"'))
    assert sorted((path.name, path.read_bytes()) for path in Path().glob("c.sqlite3*")) == before


@pytest.mark.parametrize("path", ["junk/c.sqlite3", "junk"])
def test_doctor_finds_a_store_that_can_not_be_used(
    path: str, mlxd: Shell, broken_mlx: None
) -> None:
    Path("junk").write_bytes(b"junk" * 1000)
    assert store_line(mlxd, f'path = "{path}"').startswith("fail")
