"""What tests of the configuration and the command line share."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlxd.cli import main
from mlxd.config.load import Loaded, load
from mlxd.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_FILE = ROOT / "config" / "mlxd.toml"


def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty home, no variables of ours."""
    for name in [name for name in os.environ if name.upper().startswith(("MLXD_", "HF_"))]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def from_text(text: str, **flags: object) -> Loaded:
    """What `text` as ./mlxd.toml says; `server__port=1` stands for a flag."""
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    return load(None, {key.replace("__", "."): value for key, value in flags.items()})


def refusal(text: str, **flags: object) -> ConfigError:
    """The error that `text` as ./mlxd.toml ends in."""
    with pytest.raises(ConfigError) as caught:
        from_text(text, **flags)
    return caught.value


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
