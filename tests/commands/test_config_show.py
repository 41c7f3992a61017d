"""`mlxd config show`."""

import re
from pathlib import Path

import pytest

from mlxd.config.load import load
from tests.environment import Shell


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
