"""Where values come from: flags, environment, file, defaults, and in which order."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import pytest

from mlxd.config.load import load
from mlxd.config.places import find
from mlxd.config.problems import dotted
from mlxd.config.settings import Settings
from mlxd.config.sources import leaves
from tests.environment import DEFAULT_FILE, from_text


def test_building_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_SERVER__PORT", "1")
    assert Settings().server.port == 8484


VALUES: dict[str, Mapping[str, tuple[str, object]]] = {
    "server.port": {"file": ("1111", 1111), "environment": ("2222", 2222), "flag": ("", 3333)},
    "server.host": {
        "file": ('"127.0.0.2"', "127.0.0.2"),
        "environment": ("127.0.0.3", "127.0.0.3"),
        "flag": ("", "127.0.0.4"),
    },
    "server.api_keys": {
        "file": ('["a"]', ("a",)),
        "environment": ("b,c", ("b", "c")),
        "flag": ("", ["d"]),
    },
    "defaults.temperature": {
        "file": ("0", 0.0),
        "environment": ("1", 1.0),
        "flag": ("", 0.25),
    },
    "engine.memory_bytes": {
        "file": ("1000000000", 10**9),
        "environment": ("2000000000", 2 * 10**9),
        "flag": ("", 3 * 10**9),
    },
    "log.level": {
        "file": ('"debug"', "debug"),
        "environment": ("warning", "warning"),
        "flag": ("", "error"),
    },
    "models.m.trust_remote_code": {
        "file": ("true", True),
        "environment": ("false", False),
        "flag": ("", True),
    },
}
SUBSETS = [
    subset
    for size in range(4)
    for subset in itertools.combinations(("flag", "environment", "file"), size)
]


@pytest.mark.parametrize("sources", SUBSETS, ids="+".join)
@pytest.mark.parametrize("key", VALUES)
def test_flags_beat_environment_beats_file_beats_defaults(
    key: str, sources: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = VALUES[key]
    table, name = key.rsplit(".", 1)
    variable = "MLXD_" + key.replace(".", "__").upper()
    text = '[models.m]\nsource = "demo"\n' + (f"[{table}]\n" if table != "models.m" else "")
    if "file" in sources:
        text += f"{name} = {values['file'][0]}\n"
    if "environment" in sources:
        monkeypatch.setenv(variable, values["environment"][0])
    flags = {key: values["flag"][1] if "flag" in sources else None}
    Path("mlxd.toml").write_text(text, encoding="utf-8")

    loaded = load(None, flags)

    effective: object = loaded.settings
    for part in key.split("."):
        effective = effective[part] if isinstance(effective, dict) else getattr(effective, part)
    winner = sources[0] if sources else "default"
    if winner != "default":
        expected = values[winner][1]
        assert effective == (tuple(expected) if isinstance(expected, list) else expected)
    origin = f"environment {variable}" if winner == "environment" else winner
    assert loaded.origins[key] == origin


def test_sources_fill_different_keys_of_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_SERVER__MAX_QUEUE", "7")
    server = from_text("[server]\nport = 5\n", server__host="127.0.0.9").settings.server
    assert (server.host, server.port, server.max_queue) == ("127.0.0.9", 5, 7)


def test_a_more_specific_variable_beats_a_table_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_SERVER", '{"port": 1, "max_queue": 2}')
    monkeypatch.setenv("MLXD_SERVER__PORT", "3")
    loaded = load(None, {})
    assert (loaded.settings.server.port, loaded.settings.server.max_queue) == (3, 2)
    assert loaded.origins["server.port"] == "environment MLXD_SERVER__PORT"
    assert loaded.origins["server.max_queue"] == "environment MLXD_SERVER"


def test_a_variable_reaches_a_model_whose_alias_has_other_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLXD_MODELS__QWEN3_4B_IT__TOP_P", "0.5")
    monkeypatch.setenv("MLXD_MODELS__OTHER__SOURCE", "demo")
    monkeypatch.setenv("MLXD_MODELS__A_B__TOP_P", "0.25")
    aliases = ("Qwen3-4B.it", "a_b", "a-b")
    models = from_text(
        "".join(f'[models."{a}"]\nsource = "demo"\n' for a in aliases)
    ).settings.models
    assert models["Qwen3-4B.it"].top_p == 0.5
    assert (models["a_b"].top_p, models["a-b"].top_p) == (0.25, None)
    assert models["other"].source == "demo"


def test_template_arguments_from_variables_keep_their_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = "MLXD_MODELS__M__TEMPLATE_ARGS__"
    for name, value in {"A": "false", "B": "3", "C": "0.5", "D": "low", "E": "1e999"}.items():
        monkeypatch.setenv(prefix + name, value)
    arguments = from_text('[models.m]\nsource = "demo"\n').settings.models["m"].template_args
    assert arguments == {"a": False, "b": 3, "c": 0.5, "d": "low", "e": "1e999"}


def test_a_switch_of_a_template_may_be_written_as_text() -> None:
    text = (
        '[models.m]\nsource = "demo"\ntemplate_args = {enable_thinking = "False", thinking = 1}\n'
    )
    arguments = from_text(text).settings.models["m"].template_args
    assert arguments == {"enable_thinking": False, "thinking": True}


@pytest.mark.parametrize("text", ["one,two", '["one", "two"]', " one , two "])
def test_lists_in_variables_may_be_written_with_commas(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXD_SERVER__API_KEYS", text)
    assert load(None, {}).settings.server.api_keys == ("one", "two")


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_SERVER__API_KEYS", "")
    monkeypatch.setenv("MLXD_SERVER__PORT", "")
    assert from_text('[server]\napi_keys = ["k"]\n').settings.server.api_keys == ("k",)


def test_the_named_file_beats_the_working_folder_and_that_the_users_folder(tmp_path: Path) -> None:
    users = platformdirs.user_config_path("mlxd") / "mlxd.toml"
    users.parent.mkdir(parents=True)
    users.write_text("[server]\nport = 1\n", encoding="utf-8")
    assert users.is_relative_to(tmp_path)
    assert load(None, {}).file == users

    here = Path("mlxd.toml")
    here.write_text("[server]\nport = 2\n", encoding="utf-8")
    assert find() == here
    assert load(None, {}).settings.server.port == 2

    named = tmp_path / "other.toml"
    named.write_text("[server]\nport = 3\n", encoding="utf-8")
    assert load(named, {}).settings.server.port == 3


def test_a_file_is_read_whole_or_not_at_all() -> None:
    users = platformdirs.user_config_path("mlxd") / "mlxd.toml"
    users.parent.mkdir(parents=True)
    users.write_text("[server]\nport = 1\n", encoding="utf-8")
    assert from_text("[server]\nmax_queue = 5\n").settings.server.port == 8484


def test_a_relative_source_means_a_folder_next_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mlxd.toml"
    file.write_text('[models.m]\nsource = "./weights/m"\n', encoding="utf-8")
    assert load(file, {}).settings.models["m"].source == str(tmp_path / "weights" / "m")


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_DEBUG", "1")
    monkeypatch.setenv("MLXD_BLAS", "reference")
    monkeypatch.setenv("MLXD_ADMIN_TOKEN", "of `mlxd top`")
    assert load(None, {}).settings == Settings()


def test_every_key_has_an_origin() -> None:
    loaded = load(DEFAULT_FILE, {"models": {"m.x": {"source": "demo"}}})
    assert set(loaded.origins) == {dotted(leaf) for leaf in leaves(loaded.settings)}
    assert loaded.origins['models."m.x".source'] == "flag"
    assert loaded.origins["dialects"] == "default"


def test_a_variable_about_a_model_does_not_change_which_one_is_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for alias in ("D", "B", "C"):
        monkeypatch.setenv(f"MLXD_MODELS__{alias}__SOURCE", "demo")
    models = from_text('[models.z]\nsource = "demo"\n[models.b]\nsource = "a/b"\n').settings.models
    assert [*models] == ["z", "b", "c", "d"]
    assert models["b"].source == "demo"
