"""The configuration read again: what is taken at once, and what is not taken at all."""

import pytest

from mlxd.config.settings import ModelSettings, Settings
from mlxd.errors import ConfigError
from mlxd.server.reload import in_words, reloaded


def settings(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


def test_some_keys_are_taken_and_others_wait_for_a_restart() -> None:
    read = settings(
        server={"api_keys": ["secret"], "drain_seconds": 5.0, "port": 9},
        log={"level": "debug"},
        models={"a": {"source": "demo"}},
    )
    result = reloaded(Settings(), read)
    assert result.settings.server.api_keys == ("secret",)
    assert (result.settings.server.drain_seconds, result.settings.log.level) == (5.0, "debug")
    assert (result.settings.server.port, result.settings.models) == (8484, {})
    assert set(result.changed) == {"server.api_keys", "server.drain_seconds", "log.level"}
    assert "server.port" in result.waiting
    assert "models.a.source" in result.waiting
    line = in_words(result)
    assert "changed: server.api_keys" in line
    assert "after a restart: server.port" in line
    assert "secret" not in line


def test_nothing_new_is_said_as_that() -> None:
    same = Settings(models={"a": ModelSettings(source="demo")})
    assert "nothing has changed" in in_words(reloaded(same, same))


def test_an_address_that_others_reach_keeps_its_keys() -> None:
    open_to_all = settings(server={"host": "0.0.0.0", "api_keys": ["k"]})
    # Alone that would be fine, but the address changes with a restart only.
    read = settings(server={"host": "127.0.0.1", "api_keys": []})
    with pytest.raises(ConfigError, match="restart"):
        reloaded(open_to_all, read)
    assert reloaded(open_to_all, settings(server={"host": "127.0.0.1", "api_keys": ["n"]}))
