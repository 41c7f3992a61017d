"""The command line: what it prints, its exit codes, and that nothing ends in a traceback."""

import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from mlxd.cli import main, run
from mlxd.commands.common import alias_for, as_source
from mlxd.commands.pull import Meter
from mlxd.commands.serve import choose
from mlxd.config import Model, Settings
from mlxd.config_file import load
from mlxd.config_template import MODEL_EXAMPLE, template
from mlxd.errors import ConfigError
from tests.import_table import NEVER_AT_START
from tests.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty home, no variables of ours."""
    for name in [name for name in os.environ if name.upper().startswith("MLXD_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


class Shell:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str) -> Result:
        code = main(args)
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, captured.out, captured.err)


@pytest.fixture
def mlxd(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def spawn(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mlxd", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )


def test_help_lists_every_command_and_loads_nothing_slow() -> None:
    program = (
        "import json, sys; from mlxd.cli import main; main(['--help']);"
        "print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    *text, modules = done.stdout.splitlines()
    loaded = {name.split(".")[0] for name in json.loads(modules)}
    assert not loaded & {*NEVER_AT_START, "msgspec", "platformdirs", "tomli_w"}
    for command in ("init", "serve", "pull", "models", "doctor", "config"):
        assert any(line.startswith(f"  {command} ") for line in text)


def test_help_is_instant() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert spawn("--help").returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.6


def test_version_is_the_packages(mlxd: Shell) -> None:
    from mlxd import __version__

    assert mlxd("--version").out == f"mlxd {__version__}\n"


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("serve", "--port", "x"),
        ("serve", "--port", "70000"),
        ("serve", "--log-level", "loud"),
        ("serve", "--scripted", "missing.json"),
        ("serve", "--nonsense"),
        ("pull",),
        ("config",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_2(args: tuple[str, ...], mlxd: Shell) -> None:
    result = mlxd(*args)
    assert result.code == 2
    assert result.err


@pytest.mark.parametrize("command", [("config", "show"), ("serve",), ("models",)])
def test_every_command_refuses_a_bad_file_alike(command: tuple[str, ...], mlxd: Shell) -> None:
    Path("mlxd.toml").write_text("[server]\nprot = 1\nport = 'x'\n", encoding="utf-8")
    result = mlxd(*command)
    assert result == Result(
        2,
        "",
        'mlxd.toml:2: server.prot: unknown key. Did you mean "port"?\n'
        'mlxd.toml:3: server.port: expected a whole number, got "x"\n',
    )


WRONG_VALUES = (
    "{}",
    "[[1]]",
    "1979-05-27",
    '"\\u0000"',
    "-9e99",
    "nan",
    "[{a = 1}]",
    "0x" + "f" * 40,
)


def mutate(lines: list[str], number: int, dice: random.Random) -> str:
    """Make line `number` wrong and return the last part of the key that is at fault."""
    key, _, value = lines[number].partition(" = ")
    name = key.rsplit(".", 1)[-1]
    match dice.randrange(6):
        case 0:
            position = dice.randrange(len(name))
            name = name[:position] + dice.choice("xq7") + name[position:]
            lines[number] = f"{name} = {value}"
        case 1:
            lines[number] = f"{key} = {dice.choice(WRONG_VALUES)}"
        case 2:
            lines[number] = f"{key} {value}"
            return "is not valid TOML"
        case 3:
            lines.insert(number, lines[number])
            return "is not valid TOML"
        case 4:
            lines[number] = f"{key} = {value}\nextra_{name} = 1"
            return f"extra_{name}"
        case _:
            lines[number] = f"{key} = {value} {dice.choice(']}=')}"
            return "is not valid TOML"
    return name


BLOCKS = range(10)


@pytest.mark.parametrize("block", BLOCKS)
def test_300_mutated_files_exit_2_and_name_the_key(block: int, mlxd: Shell) -> None:
    original = re.sub(r"(?m)^#(?! )", "", template()).splitlines()
    entries = [n for n, line in enumerate(original) if re.match(r"\w+ = ", line)]
    for seed in range(block * 30, block * 30 + 30):
        dice, lines = random.Random(seed), list(original)
        named = mutate(lines, dice.choice(entries), dice)
        Path("mutant.toml").write_text("\n".join(lines), encoding="utf-8")
        result = mlxd("config", "show", "--config", "mutant.toml")
        changed = [line for line in lines if line not in original]
        assert (result.code, result.out) == (2, ""), f"{seed}: {changed}"
        assert named in result.err, f"{seed}: {changed}"
        assert all(line.startswith("mutant.toml:") for line in result.err.splitlines())


@pytest.mark.parametrize("block", BLOCKS)
def test_200_damaged_files_never_end_in_a_traceback(block: int, mlxd: Shell) -> None:
    for seed in range(block * 20, block * 20 + 20):
        dice = random.Random(seed)
        data = bytearray(template({"m": MODEL_EXAMPLE}).encode())
        for _ in range(dice.randrange(1, 8)):
            position = dice.randrange(len(data))
            data[position : position + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        Path("mlxd.toml").write_bytes(data)
        assert mlxd("config", "show").code in (0, 2), seed


def test_config_show_tells_value_and_origin_of_every_key(
    mlxd: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mlxd.toml").write_text(
        '[server]\nport = 9\napi_keys = ["hush-hush"]\n[models."a.b"]\nsource = "demo"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("MLXD_LOG__LEVEL", "debug")
    result = mlxd("config", "show")
    assert result.code == 0
    shown = dict(line.split(" = ", 1) for line in result.out.splitlines()[1:])
    assert set(shown) == set(load(None, {}).origins)
    assert re.fullmatch(r"9 +# file", shown["server.port"])
    assert re.fullmatch(r'"debug" +# environment MLXD_LOG__LEVEL', shown["log.level"])
    assert re.fullmatch(r'"demo" +# file', shown['models."a.b".source'])
    assert re.fullmatch(r"0.7 +# default", shown["defaults.temperature"])
    assert re.fullmatch(r'\["\*\*\*\*"\] +# file', shown["server.api_keys"])
    assert "hush" not in result.out
    assert result.out.splitlines()[0] == f"# file: {Path('mlxd.toml').absolute()}"


def test_config_show_says_where_it_looked_when_there_is_no_file(mlxd: Shell) -> None:
    first = mlxd("config", "show").out.splitlines()[0]
    assert first.startswith("# no file; looked for mlxd.toml and ")


def test_init_writes_a_file_that_serves_the_demo(mlxd: Shell) -> None:
    result = mlxd("init")
    assert result.code == 0
    assert "mlxd pull demo" in result.out
    assert "mlxd serve" in result.out
    assert load(None, {}).settings == Settings(models={"demo": Model(source="demo")})


def test_init_lists_models_of_the_hub_that_fit_with_their_sizes(mlxd: Shell) -> None:
    mlxd("init")
    text = Path("mlxd.toml").read_text(encoding="utf-8")
    assert re.search(r'(?m)^# \d+\.\d GB: .+\n#\[models\."\S+"\]\n#source = "mlx-community/', text)
    enabled = re.sub(r"(?m)^#(\[models\..*\n)#(source)", r"\1\2", text)
    Path("mlxd.toml").write_text(enabled, encoding="utf-8")
    assert 2 < len(load(None, {}).settings.models) <= 7


def test_init_takes_a_model_and_lists_no_others(mlxd: Shell) -> None:
    result = mlxd("init", "--model", "mlx-community/Qwen3-4B-4bit")
    assert "mlxd pull mlx-community/Qwen3-4B-4bit" in result.out
    models = load(None, {}).settings.models
    assert models == {"Qwen3-4B-4bit": Model(source="mlx-community/Qwen3-4B-4bit")}
    assert "GB:" not in Path("mlxd.toml").read_text(encoding="utf-8")


def test_init_takes_a_folder_and_needs_no_pull_for_it(mlxd: Shell, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    result = mlxd("init", "--model", "../weights")
    assert "pull" not in result.out
    assert load(None, {}).settings.models["weights"].source == str(tmp_path / "weights")


def test_init_refuses_to_overwrite_and_force_overwrites(mlxd: Shell) -> None:
    Path("mlxd.toml").write_text("[server]\nport = 1\n", encoding="utf-8")
    result = mlxd("init")
    assert (result.code, result.out) == (1, "")
    assert result.err == "mlxd: mlxd.toml exists; --force overwrites it.\n"
    assert load(None, {}).settings.server.port == 1
    assert mlxd("init", "--force").code == 0
    assert load(None, {}).settings.server.port == 8484


def test_init_says_what_is_wrong_with_a_source_or_a_folder(mlxd: Shell) -> None:
    assert mlxd("init", "--model", "nonsense").code == 2
    result = mlxd("init", "--config", "nowhere/mlxd.toml")
    assert result.code == 1
    assert "can't be written: No such file or directory" in result.err


def test_serve_with_an_unknown_model_says_what_there_is(mlxd: Shell) -> None:
    Path("mlxd.toml").write_text('[models.qwen]\nsource = "demo"\n', encoding="utf-8")
    result = mlxd("serve", "--model", "qwem")
    assert result.code == 2
    assert result.err.startswith(
        'command line: --model: "qwem" is neither a configured alias nor a source. '
        'Did you mean "qwen"?'
    )


def test_serve_refuses_the_network_without_keys(mlxd: Shell) -> None:
    result = mlxd("serve", "--host", "0.0.0.0")
    assert result.code == 2
    assert result.err.startswith("command line: server.host: ")


CONFIGURED = Settings(
    models={
        "a": Model(source="owner/a", aliases=("gpt-4o",)),
        "b": Model(source="owner/b"),
        "demo": Model(source="owner/other"),
    }
)


@pytest.mark.parametrize(
    ("settings", "name", "flags"),
    [
        (Settings(), None, {"models": {"demo": {"source": "demo"}}, "defaults.model": "demo"}),
        (CONFIGURED, None, {}),
        (CONFIGURED, "b", {"defaults.model": "b"}),
        (CONFIGURED, "gpt-4o", {"defaults.model": "a"}),
        (CONFIGURED, "owner/b", {"defaults.model": "b"}),
        (CONFIGURED, "demo", {"defaults.model": "demo"}),
        (CONFIGURED, "else/b", {"models": {"b-2": {"source": "else/b"}}, "defaults.model": "b-2"}),
        (CONFIGURED, "else/c", {"models": {"c": {"source": "else/c"}}, "defaults.model": "c"}),
    ],
)
def test_serve_finds_or_adds_the_model(
    settings: Settings, name: str | None, flags: dict[str, object]
) -> None:
    assert choose(settings, name) == flags


@pytest.mark.parametrize("name", ["", "..", "a/b/c", "/nowhere", "./nowhere", "a b", "é/x", "-/x"])
def test_serve_refuses_what_is_no_source(name: str) -> None:
    with pytest.raises(ConfigError):
        choose(CONFIGURED, name)


@pytest.mark.parametrize(
    ("source", "alias"),
    [
        ("demo", "demo"),
        ("mlx-community/Qwen3-4B-4bit", "Qwen3-4B-4bit"),
        ("/some/where/my model (2)", "my-model--2"),
        ("/", "model"),
        ("x/" + "y" * 300, "y" * 128),
    ],
)
def test_aliases_are_made_from_sources(source: str, alias: str) -> None:
    assert alias_for(source) == alias
    assert Settings(models={alias: Model(source=source)})


def test_a_folder_with_a_model_is_a_source_by_its_bare_name(tmp_path: Path) -> None:
    Path("plain").mkdir()
    Path("plain-model").mkdir()
    Path("plain-model/config.json").write_text("{}", encoding="utf-8")
    assert as_source("plain") is None
    assert as_source("./plain") == str(tmp_path / "work" / "plain")
    assert as_source("plain-model") == str(tmp_path / "work" / "plain-model")


def hub_model(repository: str, home: Path) -> Path:
    """A whole small model in the hub's cache, as a download leaves it."""
    cached = home / "huggingface" / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = cached / "snapshots" / ("0" * 40)
    make_tiny_model(snapshot)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    return snapshot


def test_models_lists_what_is_configured_and_what_is_here(tmp_path: Path) -> None:
    hub_model("owner/here", tmp_path / "home")
    hub_model("owner/other", tmp_path / "home")
    damaged = hub_model("owner/damaged", tmp_path / "home")
    (damaged / "tokenizer.json").unlink()
    Path("mlxd.toml").write_text(
        '[models.a]\nsource = "owner/here"\n[models.b]\nsource = "owner/damaged"\n'
        '[models.c]\nsource = "owner/missing"\n[models.d]\nsource = "./nowhere"\n',
        encoding="utf-8",
    )
    done = spawn("models")
    lines = [re.split(" {2,}", line) for line in done.stdout.splitlines()]
    assert lines[0] == ["ALIAS", "STATE", "SIZE", "SOURCE"]
    assert lines[1] == ["a", "ready", "0.0 GB", "owner/here"]
    assert lines[2][0] == "b"
    assert lines[2][1] != "ready"
    assert lines[3] == ["c", "not downloaded", "owner/missing"]
    assert lines[4][:2] == ["d", "not there"]
    assert lines[5] == ["", "not configured", "0.0 GB", "owner/other"]
    assert done.stderr == ""


def test_models_shows_the_demo_when_nothing_is_configured(mlxd: Shell) -> None:
    assert re.search(r"(?m)^demo +not downloaded +demo$", mlxd("models").out)


def test_pull_takes_a_folder_as_it_is(mlxd: Shell, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    Path("mlxd.toml").write_text(f'[models.t]\nsource = "{tmp_path}/tiny"\n', encoding="utf-8")
    for name in (f"{tmp_path}/tiny", "t"):
        result = mlxd("pull", name)
        assert (result.code, result.err) == (0, "")
        assert f"in {tmp_path}/tiny" in result.out


def test_pull_refuses_what_is_no_source(mlxd: Shell) -> None:
    result = mlxd("pull", "nonsense")
    assert result.code == 2
    assert '"nonsense" is neither a source nor a configured alias' in result.err


def test_the_meter_is_one_line_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Meter("Downloading x") as meter:
        for done in (0, 10, 5, 100, 100):
            meter.show(done, 100)
    assert capsys.readouterr().err.strip() == "Downloading x"
    with Meter("Nothing to do") as meter:
        meter.show(0, 0)
    assert capsys.readouterr().err == ""


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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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


@pytest.fixture
def broken_mlx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MLX that can't be loaded, which also makes `doctor` quick."""
    package = tmp_path / "broken" / "mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("no such chip")', encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{ROOT}")


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


@click.group()
def troubled() -> None:
    """Commands that go wrong."""


@troubled.command()
def crash() -> None:
    raise ZeroDivisionError("division by zero")


@troubled.command()
def interrupted() -> None:
    raise KeyboardInterrupt


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(troubled, ["crash"]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "mlxd: unexpected ZeroDivisionError: division by zero. MLXD_DEBUG=1 shows where.\n"
    )


def test_an_unexpected_error_shows_where_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(troubled, ["crash"])


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(troubled, ["interrupted"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mlxd", "config", "show"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_config_error_reaches_the_shell_as_exit_code_2() -> None:
    done = spawn("config", "show", "--config", "missing.toml")
    assert done.returncode == 2
    assert done.stderr == "missing.toml: can't be read: No such file or directory\n"
