"""`mlxd init`."""

import re
from pathlib import Path

from mlxd.config.load import load
from mlxd.config.settings import ModelSettings, Settings
from tests.environment import Shell


def test_init_writes_a_file_that_serves_the_demo(mlxd: Shell) -> None:
    result = mlxd("init")
    assert result.code == 0
    assert "mlxd pull demo" in result.out
    assert "mlxd serve" in result.out
    assert load(None, {}).settings == Settings(models={"demo": ModelSettings(source="demo")})


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
    assert models == {"Qwen3-4B-4bit": ModelSettings(source="mlx-community/Qwen3-4B-4bit")}
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
