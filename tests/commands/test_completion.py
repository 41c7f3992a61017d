"""What a shell is told when someone presses Tab."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context
from click.shell_completion import ShellComplete

from mlxd.cli import cli
from mlxd.commands.completion import config_keys
from mlxd.config.load import load
from mlxd.config.problems import dotted
from mlxd.config.sources import leaves
from tests.environment import ROOT, Shell
from tests.import_table import NEVER_AT_START

CONFIG = '[models.mine]\nsource = "demo"\naliases = ["gpt-4o", "claude-*"]\n'


def completed(*words: str) -> list[str]:
    """What can stand in place of the last one of the words behind `mlxd`."""
    found = ShellComplete(cli, {}, "mlxd", "_MLXD_COMPLETE")
    return [item.value for item in found.get_completions(list(words[:-1]), words[-1])]


def cached(name: str) -> None:
    folder = Path(os.environ["HF_HUB_CACHE"]) / f"models--{name.replace('/', '--')}"
    (folder / "snapshots").mkdir(parents=True)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_models_are_completed_from_the_file_the_cache_and_the_catalogue() -> None:
    Path("mlxd.toml").write_text(CONFIG, encoding="utf-8")
    cached("owner/here")
    everything = completed("pull", "")
    assert everything[:4] == ["mine", "gpt-4o", "demo", "owner/here"]
    assert "qwen3-4b" in everything
    for words in (("run",), ("serve",), ("serve", "demo"), ("models", "rm"), ("init", "--model")):
        assert completed(*words, "owner/") == ["owner/here"]
    assert completed("chat", "--model", "") == ["mine", "gpt-4o"]
    Path("other.toml").write_text("[models.other]\nsource = 'demo'\n", encoding="utf-8")
    assert completed("serve", "--config", "other.toml", "ot") == ["other"]


@pytest.mark.parametrize(
    "text", ["", "no TOML", "models = 3", "[models]\na = 1", "[models.a]\naliases = 3"]
)
def test_a_wrong_file_completes_nothing_and_says_nothing(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    assert completed("chat", "--model", "") in ([], ["a"])
    assert capsys.readouterr() == ("", "")


def test_the_keys_are_those_of_the_configuration() -> None:
    Path("mlxd.toml").write_text(CONFIG, encoding="utf-8")
    keys = config_keys(Context(cli), cli.params[0], "")
    own = [key for key in keys if "gpt-4o" not in key]
    assert sorted(own) == sorted(map(dotted, leaves(load(None, {}).settings)))
    assert completed("config", "show", "log.l") == ["log.level"]


def test_shells_get_a_script_that_names_the_program(mlxd: Shell) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = mlxd("completion", shell).out
        assert f"_MLXD_COMPLETE={shell}_complete" in script
    assert mlxd("completion", "tcsh").code == 2


def test_completing_loads_nothing_slow() -> None:
    program = (
        "import atexit, json, sys; atexit.register(lambda: print(json.dumps(list(sys.modules))));"
        "from mlxd.cli import main; main([])"
    )
    for words, wanted in (
        ("mlxd serve qwen3-4", "qwen3-4b"),
        ("mlxd config show log.f", "log.format"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                **{"PYTHONPATH": str(ROOT), "_MLXD_COMPLETE": "bash_complete"},
                **{"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))},
            },
            capture_output=True,
            text=True,
            check=True,
        )
        *found, modules = done.stdout.splitlines()
        assert found == [f"plain,{wanted}"]
        loaded = {name.partition(".")[0] for name in json.loads(modules)}
        assert not loaded & {*NEVER_AT_START, "huggingface_hub", "msgspec", "asyncio", "numpy"}
