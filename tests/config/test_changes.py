"""A configuration read again: what is another, and when a running server takes it."""

from typing import get_args

from mlxd.config.changes import changes, effect_of, in_words, taken
from mlxd.config.problems import sections
from mlxd.config.settings import ModelSettings, Settings
from mlxd.config.value_types import Effect

PAGE = {
    "now": (
        *("server.api_keys", "server.allowed_hosts", "server.cors_origins", "server.max_queue"),
        *("server.request_seconds", "server.drain_seconds", "defaults.temperature", "log.level"),
        *("admin.show_text", "azure.deployments", "conversations.ttl", "conversations.max_bytes"),
    ),
    "next load": ("engine.max_batch", "engine.prefix_cache_bytes"),
    "restart": (
        *("server.host", "server.port", "conversations.store", "conversations.path"),
        *("admin.token_file", "engine.memory_bytes"),
    ),
}


def settings(**tables: object) -> Settings:
    return Settings.model_validate(tables)


def test_every_table_says_when_its_keys_have_an_effect() -> None:
    tables = dict(sections())
    for table in (*tables.values(), ModelSettings):
        assert getattr(table, "effect", "") in get_args(Effect)
    for effect, keys in PAGE.items():
        for key in keys:
            section, name = key.split(".")
            assert (key, effect_of(tables[section], name)) == (key, effect)
    assert effect_of(Settings, "dialects") == "restart"
    loads = {name for name in ModelSettings.model_fields if effect_of(ModelSettings, name) != "now"}
    assert loads == {
        *("source", "context_length", "dtype", "tool_format", "reasoning_tags"),
        *("template_args", "trust_remote_code", "kv_bits"),
    }


def test_changes_are_named_with_their_values_but_for_secrets() -> None:
    running = settings(
        server={"api_keys": ["first"]}, models={"a": {"source": "demo"}, "gone": {"source": "x/y"}}
    )
    read = settings(
        server={"api_keys": ["other"], "port": 9},
        models={"a": {"source": "demo", "top_p": 0.5, "dtype": "float32"}, "new": {"source": "z"}},
    )
    found = {each.key: each[1:] for each in changes(running, read)}
    assert found == {
        "server.port": (8484, 9, "restart"),
        "server.api_keys": (["****"], ["****"], "now"),
        "models.a.top_p": (None, 0.5, "now"),
        "models.a.dtype": (None, "float32", "next load"),
        "models.gone": ({"source": "x/y"}, None, "now"),
        "models.new": (None, {"source": "z"}, "now"),
    }
    line = in_words(changes(running, read))
    assert "when a model is loaded: models.a.dtype; after a restart: server.port" in line
    assert in_words(changes(read, read)) == "nothing has changed"


def test_another_first_model_is_a_change() -> None:
    one, two = {"source": "x/y"}, {"source": "x/z"}
    found = changes(settings(models={"a": one, "b": two}), settings(models={"b": two, "a": one}))
    assert found == (("models", ["a", "b"], ["b", "a"], "now"),)


def test_what_is_taken_leaves_what_needs_a_restart() -> None:
    running = settings(server={"port": 7}, dialects=["anthropic"])
    read = settings(
        server={"port": 9, "max_queue": 3}, defaults={"temperature": 0.25}, engine={"max_batch": 2}
    )
    now = taken(running, read)
    assert (now.server.port, now.dialects) == (7, ("anthropic",))
    assert (now.server.max_queue, now.engine.max_batch) == (3, 2)
    # Else what nobody wrote would beat the model's own file.
    assert now.defaults.model_fields_set == {"temperature"}
    assert {each.key for each in changes(now, read)} == {"server.port", "dialects"}
