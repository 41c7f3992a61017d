"""The configuration: defaults, precedence, search order, and what it says about mistakes."""

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mlxd.config import Defaults, Engine, Log, Model, Server, Settings
from mlxd.config_errors import dotted
from mlxd.config_file import Loaded, find, load
from mlxd.config_layers import leaves
from mlxd.config_template import MODEL_EXAMPLE, template
from mlxd.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_FILE = ROOT / "config" / "mlxd.toml"


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty configuration folder, no variables of ours."""
    for name in [name for name in os.environ if name.upper().startswith("MLXD_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def from_text(text: str, **flags: object) -> Loaded:
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    return load(None, {key.replace("__", "."): value for key, value in flags.items()})


def refusal(text: str, **flags: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        from_text(text, **flags)
    return caught.value


def test_without_any_source_the_defaults_hold() -> None:
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert set(loaded.origins.values()) == {"default"}


def test_the_shipped_file_says_what_the_defaults_say() -> None:
    loaded = load(DEFAULT_FILE, {})
    assert loaded.settings == Settings()
    assert loaded.file == DEFAULT_FILE


def test_the_shipped_file_is_made_from_the_tree() -> None:
    hint = "run `python docs/generate.py`"
    assert DEFAULT_FILE.read_text(encoding="utf-8") == template(), hint


def test_the_shipped_file_writes_every_key_that_has_a_default() -> None:
    origins = load(DEFAULT_FILE, {}).origins
    unwritten = {key for key, origin in origins.items() if origin == "default"}
    assert unwritten == {"engine.prefix_cache_bytes", "engine.memory_bytes"}


def test_a_template_for_models_says_what_a_tree_with_them_says() -> None:
    models: dict[str, dict[str, object]] = {
        "a.b": {"source": "demo"},
        "c": {"source": "owner/name", "aliases": ["gpt-4o"]},
    }
    text = template(models, '# More:\n#[models.d]\n#source = "demo"')
    expected = {alias: Model.model_validate(values) for alias, values in models.items()}
    assert from_text(text).settings == Settings(models=expected)


def test_the_disabled_lines_of_the_shipped_file_are_valid_settings() -> None:
    enabled = re.sub(r"(?m)^#(?! )", "", template())
    assert from_text(enabled).settings.models["demo"] == Model.model_validate(MODEL_EXAMPLE)


def test_the_example_of_a_model_shows_every_key() -> None:
    assert list(MODEL_EXAMPLE) == list(Model.model_fields)


def test_every_key_and_table_has_a_docstring() -> None:
    tables: list[type[BaseModel]] = [Settings, Server, Defaults, Model, Engine, Log]
    for table in tables:
        for name, field in table.model_fields.items():
            assert field.description, f"{table.__name__}.{name}"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Settings().server.port = 1
    with pytest.raises(ValidationError):
        Settings().log = Settings().log


def test_building_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_SERVER__PORT", "1")
    assert Settings().server.port == 8484


def test_settings_keep_api_keys_out_of_their_representation() -> None:
    assert "hush" not in repr(Settings(server=Server(api_keys=("hush",))))


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
    models = from_text('[models."Qwen3-4B.it"]\nsource = "demo"\n').settings.models
    assert models["Qwen3-4B.it"].top_p == 0.5
    assert models["other"].source == "demo"


def test_template_arguments_from_variables_keep_their_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix = "MLXD_MODELS__M__TEMPLATE_ARGS__"
    for name, value in {"A": "false", "B": "3", "C": "0.5", "D": "low", "E": "1e999"}.items():
        monkeypatch.setenv(prefix + name, value)
    arguments = from_text('[models.m]\nsource = "demo"\n').settings.models["m"].template_args
    assert arguments == {"a": False, "b": 3, "c": 0.5, "d": "low", "e": "1e999"}


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


MISTAKES = [
    ("server.prot = 1", "server.prot", 'unknown key. Did you mean "port"?'),
    ("[server]\nmodel = 'x'", "server.model", 'unknown key. Did you mean "defaults.model"?'),
    ("port = 1", "port", 'unknown key. Did you mean "server.port"?'),
    ("[model.demo]\nsource = 'demo'", "model", 'unknown key. Did you mean "models"?'),
    ("zzz = 1", "zzz", "unknown key. Known: dialects, server,"),
    ("dialects = ['openai_caht']", "dialects[0]", 'unknown dialect "openai_caht". Did you mean'),
    ("dialects = []", "dialects", "expected at least 1 entry"),
    ("dialects = 'openai_chat'", "dialects", 'expected a list, got "openai_chat"'),
    ("dialects = ['openai_chat', 'openai_chat']", "dialects", "listed more than once"),
    ("log = 3", "log", "expected a table, got 3"),
    ("server.port = '8484'", "server.port", 'expected a whole number, got "8484"'),
    ("server.port = true", "server.port", "expected a whole number, got true"),
    ("server.port = 1.5", "server.port", "expected a whole number, got 1.5"),
    ("server.port = 65536", "server.port", "must be at most 65535, got 65536"),
    ("server.port = -1", "server.port", "must be at least 0, got -1"),
    ("server.port = 1979-05-27", "server.port", "expected a whole number, got a date or time"),
    ("server.port = [1]", "server.port", "expected a whole number, got a list"),
    ("server.host = ''", "server.host", "expected a host name"),
    ("server.host = 'http://x/'", "server.host", "expected a host name"),
    ("server.host = '0.0.0.0'", "server.host", "server.api_keys must not be empty"),
    ("server.host = '::'", "server.host", "server.api_keys must not be empty"),
    ("server.host = 'box.local'", "server.host", "server.api_keys must not be empty"),
    ("server.unknown_model = 'defalt'", "server.unknown_model", 'Did you mean "default"?'),
    ("server.validation_status = 500", "server.validation_status", "expected 400 or 422, got 500"),
    ("server.max_queue = 0", "server.max_queue", "must be at least 1, got 0"),
    ("server.max_bodies = 2048", "server.max_bodies", "must be at least server.max_body"),
    ("server.request_seconds = 0", "server.request_seconds", "must be more than 0.0, got 0"),
    ("server.drain_seconds = inf", "server.drain_seconds", "expected a finite number, got inf"),
    ("server.allowed_hosts = ['a b']", "server.allowed_hosts[0]", "expected a host name"),
    ("server.cors_origins = ['app.example']", "server.cors_origins[0]", "expected an origin"),
    ("server.cors_origins = ['https://a.example/']", "server.cors_origins[0]", "(no path)"),
    ("defaults.temperature = nan", "defaults.temperature", "expected a finite number, got nan"),
    ("defaults.temperature = 'hot'", "defaults.temperature", 'expected a number, got "hot"'),
    ("defaults.top_p = 0", "defaults.top_p", "must be more than 0"),
    ("defaults.reasoning = 'hide'", "defaults.reasoning", '"separate", "strip" or "inline"'),
    ("defaults.model = 'x'", "defaults.model", '"x" is not configured. Configured: no model.'),
    ("engine.max_batch = 0x" + "f" * 5000, "engine.max_batch", "got a very large number"),
    ("engine.stall_timeout = 0", "engine.stall_timeout", "must be more than 0"),
    ("log.level = 'INFO'", "log.level", 'Did you mean "info"?'),
    ("models = 3", "models", "expected a table, got 3"),
    ("models.source = 'demo'", "models.source", "Write [models.<alias>]"),
    ("models.m = {}", "models.m.source", 'is missing. Name "demo"'),
    ("models.m.source = ' '", "models.m.source", "expected a string that is not empty"),
    ('models.m.source = "a\\u0000b"', "models.m.source", "no control characters"),
    ('models."a b".source = "demo"', 'models."a b"', "expected a name of letters"),
    ('models."".source = "demo"', 'models.""', "expected a name of letters"),
    ("models.m = {source = 'demo', max_token = 1}", "models.m.max_token", '"max_tokens"'),
    ("models.m = {source = 'demo', aliases = ['é']}", "models.m.aliases[0]", "expected a name"),
    (
        "models.m = {source = 'demo', reasoning_tags = ['a']}",
        "models.m.reasoning_tags",
        "expected exactly two strings",
    ),
    (
        "models.m = {source = 'demo', reasoning_tags = ['a', 'b', 'c']}",
        "models.m.reasoning_tags",
        "expected exactly two strings",
    ),
    (
        "models.m = {source = 'demo', template_args = {x = [1]}}",
        "models.m.template_args.x",
        "expected a string, a number, true or false, got a list",
    ),
    (
        "models.m = {source = 'demo', template_args = {'a b' = 1}}",
        'models.m.template_args."a b"',
        "expected the name of a variable",
    ),
    ("models.m = {source = 'demo', dtype = 'int4'}", "models.m.dtype", 'expected "float32"'),
    (
        "models = {a = {source = 'demo', aliases = ['b']}, b = {source = 'demo'}}",
        "models.a.aliases",
        '"b" already names the model "b"',
    ),
    (
        "models = {a = {source='demo', aliases=['x*']}, b = {source='demo', aliases=['x*']}}",
        "models.b.aliases",
        '"x*" already names the model "a"',
    ),
]


@pytest.mark.parametrize(("text", "key", "says"), MISTAKES, ids=[key for _, key, _ in MISTAKES])
def test_a_mistake_is_told_with_file_line_key_and_reason(text: str, key: str, says: str) -> None:
    error = refusal(f"# a comment\n\n{text}\n")
    assert (error.file, error.key, error.others) == ("mlxd.toml", key, ())
    assert error.line == (4 if text.startswith("[") and key != "model" else 3)
    assert says in str(error)
    assert "\n" not in str(error)


def test_models_may_have_patterns_that_overlap() -> None:
    models = "[models.a]\nsource = 'demo'\naliases = ['gpt-*', 'a']\n[models.b]\n"
    assert from_text(models + "source = 'demo'\naliases = ['*']\n").settings.models["b"].aliases


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "LOCALHOST"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert from_text(f"server.host = '{host}'").settings.server.host == host


def test_the_network_is_served_with_keys() -> None:
    assert from_text("[server]\nhost = '0.0.0.0'\napi_keys = ['k']\n").settings.server.api_keys


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    error = refusal(
        "dialects = ['x']\n[server]\nprot = 1\nport = 'y'\n[models.m]\ntop_p = 2\n[engin]\n"
    )
    keys = [error.key, *(other.key for other in error.others)]
    expected = ["dialects[0]", "server.prot", "server.port", "models.m.source", "models.m.top_p"]
    assert keys == [*expected, "engin"]
    lines = str(error).splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "3", "4", "5", "6", "7"]


def test_lines_are_right_after_values_of_several_lines() -> None:
    text = (
        '[models.m]\ntemplate_args.x = """\n[server]\nport = 3\n"""\naliases = [\n  "a", # [x]\n'
        '  "b",\n]\nsource = "demo"\n'
        "[server]\nallowed_hosts = [\n'a',\n'b c',\n]\nprot = 1\n"
    )
    error = refusal(text)
    assert [error.line, *(other.line for other in error.others)] == [12, 16]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[server\n", "mlxd.toml: is not valid TOML: "),
        (b"[server]\nport = 1\nport = 2\n", "(at line 3, column "),
        (b"\xff\xfe", "mlxd.toml:1: is not UTF-8 text"),
        (b"a = 1\n# \xe9\n", "mlxd.toml:2: is not UTF-8 text"),
        (b"a = " + b"[" * 5000, "mlxd.toml: is nested too deeply"),
        (b"a = 1" + b"0" * 5000, "mlxd.toml: is not valid TOML: "),
        (b"#" * (1024 * 1024 + 1), "mlxd.toml: is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(content: bytes, says: str) -> None:
    Path("mlxd.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark_and_have_crlf_lines() -> None:
    Path("mlxd.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 9\r\n")
    assert load(None, {}).settings.server.port == 9


@pytest.mark.parametrize("name", ["missing.toml", "folder"])
def test_a_named_file_that_can_not_be_read_is_refused(name: str) -> None:
    Path("folder").mkdir()
    with pytest.raises(ConfigError, match=f"{name}: can't be read: "):
        load(Path(name), {})


def test_a_broken_link_is_not_passed_over() -> None:
    Path("mlxd.toml").symlink_to("nowhere.toml")
    with pytest.raises(ConfigError, match="mlxd.toml: can't be read: "):
        load(None, {})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MLXD_PORT", "1", "MLXD_PORT: is not a setting. Did you mean MLXD_SERVER__PORT?"),
        ("MLXD_SERVR__PORT", "1", "MLXD_SERVR__PORT: is not a setting. Did you mean MLXD_SERVER__"),
        ("MLXD_SERVER__PROT", "1", 'MLXD_SERVER__PROT: unknown key. Did you mean "port"?'),
        ("MLXD_SERVER__PORT", "x", 'MLXD_SERVER__PORT: expected a whole number, got "x"'),
        ("MLXD_SERVER__PORT", "70000", "MLXD_SERVER__PORT: must be at most 65535, got 70000"),
        ("MLXD_SERVER__PORT__X", "1", "MLXD_SERVER__PORT__X (server.port): expected a whole"),
        ("MLXD_SERVER", "x", "MLXD_SERVER: expected a table, got a string"),
        ("MLXD_SERVER", '{"prot": 1}', "MLXD_SERVER (server.prot): unknown key"),
        ("MLXD_DIALECTS", "openai", "MLXD_DIALECTS (dialects[0]): unknown dialect"),
        ("MLXD_DIALECTS", "[" * 100_000, "MLXD_DIALECTS: expected a list"),
        ("MLXD_SERVER__HOST", "0.0.0.0", "MLXD_SERVER__HOST: "),
        ("MLXD_MODELS__X__TOP_P", "0.5", "MLXD_MODELS__X__TOP_P (models.x.source): is missing"),
        ("MLXD_LOG__LEVEL", "loud", "MLXD_LOG__LEVEL: expected "),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    assert str(caught.value).startswith(f"environment: {says}")
    assert len(str(caught.value)) < 300


def test_a_mistake_in_a_flag_says_so() -> None:
    assert str(refusal("", server__host="0.0.0.0")).startswith("command line: server.host: ")


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_DEBUG", "1")
    monkeypatch.setenv("MLXD_BLAS", "reference")
    assert load(None, {}).settings == Settings()


@pytest.mark.parametrize(
    "text",
    [
        "server.api_keys = ['sk-hush hush']",
        "server.api_keys = 'sk-hush'",
        "server.api_keys = {hush = 'sk-hush'}",
        "server.api_key = 'sk-hush'",
        "server = 'sk-hush'",
    ],
)
def test_messages_never_hold_an_api_key(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXD_LOG__LEVEL", "info")
    message = str(refusal(text))
    assert "hush" not in message.replace("api_keys.hush", "")


def test_a_plain_value_where_another_source_has_a_table_is_the_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLXD_LOG__LEVEL", "info")
    assert str(refusal("log = 3")) == "mlxd.toml:1: log: expected a table, got 3"


def test_every_key_has_an_origin() -> None:
    loaded = load(DEFAULT_FILE, {"models": {"m.x": {"source": "demo"}}})
    assert set(loaded.origins) == {dotted(leaf) for leaf in leaves(loaded.settings)}
    assert loaded.origins['models."m.x".source'] == "flag"
    assert loaded.origins["dialects"] == "file"


TOML_PIECES = st.sampled_from(
    ["server", "models", "m", ".", "=", "[", "]", '"', "'", "\n", "1", "true", "{", "}", ",", "#"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TOML_PIECES, max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    Path("mlxd.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    told = ""
    try:
        load(None, {})
    except ConfigError as error:
        told = str(error)
    assert all(line.startswith("mlxd.toml:") for line in told.splitlines())
