"""What the configuration says about mistakes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxd.config.load import load
from mlxd.errors import ConfigError
from tests.environment import from_text, refusal

MISTAKES = [
    ("server.prot = 1", "server.prot", 'unknown key. Did you mean "port"?'),
    ("[server]\nmodel = 'x'", "server.model", 'unknown key. Did you mean "defaults.model"?'),
    ("Server.port = 1", "Server", 'unknown key. Did you mean "server"?'),
    ("port = 1", "port", 'unknown key. Did you mean "server.port"?'),
    ("[model.demo]\nsource = 'demo'", "model", 'unknown key. Did you mean "models"?'),
    ("zzz = 1", "zzz", "unknown key. Known: dialects, server,"),
    ("_env_file = '.env'", "_env_file", "unknown key"),
    ("_build_sources = 1", "_build_sources", "unknown key"),
    ("self = 1", "self", "unknown key"),
    ("__pydantic_self__ = 1", "__pydantic_self__", "unknown key"),
    ('"" = 1', '""', "unknown key"),
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
    ("azure.deployments = 3", "azure.deployments", "expected a table, got 3"),
    ("azure.deployments.d = 3", "azure.deployments.d", "expected a string, got 3"),
    ("azure.deployments.d = 'x'", "azure.deployments.d", '"x" is not configured. Configured: no'),
    ("azure.deployments.'a b' = 'x'", 'azure.deployments."a b"', "expected a name of letters"),
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
        "models.m = {source = 'demo', template_args = {enable_thinking = 'off'}}",
        "models.m.template_args",
        "expected true or false for `enable_thinking`",
    ),
    (
        "models.m = {source = 'demo', template_args = {'a b' = 1}}",
        'models.m.template_args."a b"',
        "expected the name of a variable",
    ),
    (
        "models.m = {source = 'demo', tool_format = 'hermez'}",
        "models.m.tool_format",
        'Did you mean "hermes"?',
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
        (b"[server\n", "mlxd.toml:1: is not valid TOML: "),
        (b"[server]\nport = 1\nport = 2\n", "mlxd.toml:3: is not valid TOML: "),
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
        ("MLXD_DEFAULTS__TOP_P", "5", "MLXD_DEFAULTS__TOP_P: must be at most 1.0, got 5.0"),
        ("MLXD_ENGINE__MEMORY_BYTES", "-1", "MLXD_ENGINE__MEMORY_BYTES: must be at least 0"),
        ("MLXD_SERVER__PORT__X", "1", "MLXD_SERVER__PORT__X (server.port): expected a whole"),
        ("MLXD_SERVER", "x", "MLXD_SERVER: expected a table, got a string"),
        ("MLXD_SERVER", '{"prot": 1}', "MLXD_SERVER (server.prot): unknown key"),
        ("MLXD_DIALECTS", "openai", "MLXD_DIALECTS (dialects[0]): unknown dialect"),
        ("MLXD_DIALECTS", "[" * 100_000, "MLXD_DIALECTS: expected a list"),
        ("MLXD_SERVER__HOST", "0.0.0.0", "MLXD_SERVER__HOST: "),
        ("MLXD_MODELS__X__TOP_P", "0.5", "MLXD_MODELS__X__TOP_P (models.x.source): is missing"),
        ("MLXD_SERVER__PORT", "1" * 5000, "MLXD_SERVER__PORT: can't be read as a value"),
        ("MLXD_SERVER__PORT", "[" * 100_000, "MLXD_SERVER__PORT: can't be read as a value"),
        ("MLXD_MODELS__X__SOURCE", "\udcff", "MLXD_MODELS__X__SOURCE: expected a string that"),
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


@pytest.mark.parametrize(
    "text",
    [
        "server.api_keys = ['sk-hush hush']",
        "admin.token = 'sk-hush hush'",
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
    monkeypatch.setenv("MLXD_MODELS__M__SOURCE", "demo")
    monkeypatch.setenv("MLXD_MODELS__M__TEMPLATE_ARGS__A", "1")
    assert str(refusal("log = 3")) == "mlxd.toml:1: log: expected a table, got 3"
    text = "\n[models.m]\ntemplate_args = 'x'"
    hidden = 'mlxd.toml:3: models.m.template_args: expected a table, got "x"'
    assert str(refusal(text)) == hidden
    assert str(refusal(f"{text}\ntop_p = 2")).splitlines()[0] == hidden


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
