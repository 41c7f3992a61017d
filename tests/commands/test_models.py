"""`mlxd models` and `mlxd pull`."""

import json
import re
from pathlib import Path

import pytest

from mlxd.commands.output.meter import Meter
from tests.environment import Shell, spawn
from tests.tiny_model import make_tiny_model


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
    assert lines[4][:2] == ["d", "no such folder"]
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


def test_scripts_get_the_models_as_json(mlxd: Shell) -> None:
    Path("mlxd.toml").write_text('[models.d]\nsource = "./nowhere"\n', encoding="utf-8")
    (listed,) = json.loads(mlxd("models", "--json").out)
    assert (listed["alias"], listed["state"]) == ("d", "no such folder")


def test_the_meter_has_a_line_for_each_phase_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    with Meter({"download": "downloading x", "test": "asking it"}, lambda: now[0]) as meter:
        for done in (0, 10_000_000, 5, 40_000_000, 40_000_000):
            meter.show("download", done, 40_000_000)
        for now[0] in (1.0, 2.0, 13.0):
            meter.show("test", 0, 0)
    assert capsys.readouterr().err.splitlines() == [
        "downloading x  [........................] 0 of 40 MB, 0%",
        "downloading x  [########################] 40 of 40 MB, 100%",
        "asking it",
        "asking it  12 s",
    ]
