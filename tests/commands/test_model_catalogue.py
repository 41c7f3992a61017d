"""The catalogue, what `mlxd models` makes of it, and the names that it gives models."""

import json
import re
from pathlib import Path

import pytest

from mlxd.commands.options import alias_for, as_source
from mlxd.config.catalogue import LEAST_WINDOW, catalogue
from mlxd.config.load import load
from mlxd.config.settings import ModelSettings, Settings
from tests.environment import Shell


def test_the_catalogue_is_by_size_and_every_name_and_source_is_sound() -> None:
    models = catalogue().models
    assert [model.bytes for model in models] == sorted(model.bytes for model in models)
    assert len({model.name for model in models}) == len({model.source for model in models})
    for model in models:
        assert as_source(model.source) == model.source
        assert as_source(model.name) is None
        assert model.window >= LEAST_WINDOW
        assert catalogue().by_name(model.name.upper()) is model
        assert Settings(models={model.name: ModelSettings(source=model.source)})


@pytest.mark.parametrize("spare", [-1, 0, 4095, 4096, 50_000, 10**9])
def test_the_window_is_what_memory_leaves_and_never_more_than_the_models_own(spare: int) -> None:
    for model in catalogue().models:
        window = model.window_in(model.bytes + spare * model.kv_bytes)
        assert window == (min(spare, model.window) if spare >= LEAST_WINDOW else 0)


def test_what_is_recommended_depends_on_the_memory(mlxd: Shell) -> None:
    Path("mlxd.toml").write_text("[engine]\nmemory_bytes = 3_000_000_000\n", encoding="utf-8")
    listed = json.loads(mlxd("models", "--recommended", "--json").out)
    assert listed["date"] == str(catalogue().date)
    windows = {model["name"]: model["window_here"] for model in listed["models"]}
    assert windows["qwen3-4b"] == 700_000_000 // 147_456
    assert windows["gpt-oss-20b"] == 0
    lines = mlxd("models", "--recommended").out.splitlines()
    assert re.search(r"^gpt-oss-20b +12\.1 GB +too large", "\n".join(lines), re.MULTILINE)
    assert len(lines) == len(catalogue().models) + 4
    assert str(catalogue().date) in lines[-2]


def test_a_short_name_is_a_source_for_init_too(mlxd: Shell) -> None:
    assert mlxd("init", "--model", "qwen3-4b").code == 0
    assert load(None, {}).settings.models == {
        "qwen3-4b": ModelSettings(source="mlx-community/Qwen3-4B-Instruct-2507-4bit")
    }


def test_a_folder_called_like_a_short_name_comes_first(mlxd: Shell, tmp_path: Path) -> None:
    Path("qwen3-4b").mkdir()
    Path("qwen3-4b/config.json").write_text("{}", encoding="utf-8")
    assert as_source("qwen3-4b") == str(tmp_path / "work" / "qwen3-4b")


def test_a_revision_is_no_part_of_an_alias() -> None:
    assert alias_for("owner/Name-4bit@refs/pr/3") == "Name-4bit"
