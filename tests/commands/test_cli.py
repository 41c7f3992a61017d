"""The command line as a whole: help, exit codes, no traceback."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mlxd.cli import run
from tests.environment import ROOT, Result, Shell, spawn
from tests.import_table import NEVER_AT_START


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
        # Processor time, as the machine may have other work.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert spawn("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
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
