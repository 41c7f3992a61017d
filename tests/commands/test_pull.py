"""`mlxd pull`: how far it is, whether there is room, how it goes on, what it writes."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlxd.commands.fetching import Need
from mlxd.config.load import load
from mlxd.config.model_table import add_model
from mlxd.config.settings import ModelSettings
from mlxd.engine.model_files.library import Fetch
from mlxd.errors import ConfigError
from tests.environment import ROOT, Shell, from_text, spawn
from tests.fake_hub import LARGE, REPOSITORY, fake_hub
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.process
HELD = 25_000_000
"""Bytes after which the hub is silent: the client writes ten million at once, and some millions may
be on their way."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_ctrl_c_says_how_to_go_on_and_the_next_pull_does(tmp_path: Path, home: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    (made / f"model-00002-of-00002{LARGE}").write_bytes(bytes(HELD + 1000))
    with fake_hub(made, holds_at=HELD) as hub:
        environment = {**os.environ, **hub.environment(home), "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            [sys.executable, "-m", "mlxd", "pull", REPOSITORY],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert hub.holds.wait(60)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in said
        last = said.strip().splitlines()[-1]
        assert "are here and stay. Go on with: " in last
        assert last.endswith(f"pull {REPOSITORY}")
        hub.release.set()
        again = spawn("pull", REPOSITORY, **hub.environment(home))
    assert again.returncode == 0, again.stderr
    assert "Resuming at 0.0 GB of 0.0 GB." in again.stderr
    assert any(re.fullmatch(r"bytes=[12]\d{7}-", where) for _, where in hub.asked)


def test_scripts_get_a_line_a_step_and_the_table_is_added(tmp_path: Path, home: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    with fake_hub(made) as hub:
        done = spawn("pull", REPOSITORY, "--json", "--add", **hub.environment(home))
        assert done.returncode == 0, done.stderr
        failed = spawn("pull", "nobody/nothing", "--json", **hub.environment(home))
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert steps[0]["event"] == "size"
    assert steps[0]["total"] > steps[0]["here"] == 0
    assert {step["event"] for step in steps[1:-1]} == {"progress"}
    last = steps[-1]
    assert (last["event"], last["alias"]) == ("done", "tiny-model")
    assert load(Path(last["config"]), {}).settings.models == {
        "tiny-model": ModelSettings(source=REPOSITORY)
    }
    assert failed.returncode == 1
    (line,) = failed.stdout.splitlines()
    assert json.loads(line)["event"] == "failed"
    assert "no such repository" in json.loads(line)["reason"]


def test_a_disk_that_is_too_small_is_said_before_anything_is_loaded(
    tmp_path: Path, home: Path
) -> None:
    made = make_tiny_model(tmp_path / "made")
    with fake_hub(made, sizes={f"model{LARGE}": 10**18}) as hub:
        done = spawn("pull", REPOSITORY, "--json", **hub.environment(home))
    assert done.returncode == 1
    size, failed = map(json.loads, done.stdout.splitlines())
    assert size["fits_memory"] is False
    assert failed["reason"] == "there is no room for it on the disk"
    assert not any("/resolve/" in path for path, _ in hub.asked)


def test_what_a_model_takes_is_said_with_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    def said(fetch: Fetch, free: int, memory: int) -> list[str]:
        Need("owner/name", fetch, free, memory).say()
        return capsys.readouterr().err.splitlines()

    gb = 10**9
    fetch = Fetch(17_200_000_000, 3_100_000_000, 17 * gb, lambda progress: Path())
    takes = "owner/name takes 17.2 GB; 120.0 GB of disk are free."
    assert said(fetch, 120 * gb, 64 * gb) == [takes, "Resuming at 3.1 GB of 17.2 GB."]
    assert "it may not load" in said(fetch, 120 * gb, 17 * gb)[-1]
    assert said(fetch, 10 * gb, 0)[-1].endswith("owner/name: 4.8 GB of disk are missing.")
    assert said(replace(fetch, here=fetch.total), 0, 0) == []


def test_what_can_not_be_added_is_said_before_the_download(mlxd: Shell) -> None:
    text = '[models.a]\nsource = "owner/a"\naliases = ["other"]\n'
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    assert 'configured already, as "a"' in mlxd("pull", "owner/a", "--add").err
    assert mlxd("pull", "owner/b", "--add", "bad name").code == 2
    assert mlxd("pull", "owner/b", "--add", "other").code == 2
    assert Path("mlxd.toml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "before",
    [
        "",
        "# nothing but words",
        "[server]\nport = 1  # mine\n\n\n",
        '[models.a]\nsource = "demo"',
        '\ufeff[models]\r\n[models.a]\r\nsource = "demo"\r\n',
        'models.a.source = "demo"\n[log]\nlevel = "debug"',
    ],
)
def test_a_table_is_added_and_every_byte_stays(before: str, tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_bytes(before.encode())
    real.chmod(0o640)
    Path("mlxd.toml").symlink_to(real)
    add_model(Path("mlxd.toml"), "new.one", "owner/n@v1")
    assert real.read_bytes().startswith(before.encode())
    assert real.stat().st_mode & 0o777 == 0o640
    assert Path("mlxd.toml").is_symlink()
    assert load(None, {}).settings.models["new.one"].source == "owner/n@v1"
    assert len(list(tmp_path.glob(".real*"))) == 0


@pytest.mark.parametrize(
    "before", ['models = {a = {source = "demo"}}\n', "[models.b]\nsource = 'x'\n"]
)
def test_a_file_that_a_table_can_not_be_added_to_stays_as_it_is(before: str) -> None:
    Path("mlxd.toml").write_text(before, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)can't be added to.*\[models\.b\]\nsource = "):
        add_model(Path("mlxd.toml"), "b", "owner/b")
    assert Path("mlxd.toml").read_text(encoding="utf-8") == before


def test_without_a_file_one_is_made_that_is_found_from_everywhere(mlxd: Shell, home: Path) -> None:
    made = make_tiny_model(home / "tiny")
    assert mlxd("pull", str(made), "--add", "t").code == 0
    assert from_text("").settings.models == {}
    Path("mlxd.toml").unlink()
    assert load(None, {}).settings.models == {"t": ModelSettings(source=str(made))}
