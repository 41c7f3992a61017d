"""Keys with a table of their own, beside the plain list."""

import pytest

from mlxd.config.api_keys import all_keys, best_priorities, key_id, key_shares
from mlxd.config.load import load
from mlxd.config.secrets import without_secrets
from mlxd.config.settings import KeySettings, ServerSettings, Settings
from mlxd.engine.protocol import KeyShare
from mlxd.errors import ConfigError

LAPTOP = KeySettings(key="first-key", weight=3.0, max_rows=2, priority="high")
SETTINGS = Settings(
    server=ServerSettings(api_keys=("plain",)),
    keys={"laptop": LAPTOP, "phone": KeySettings(key="second-key", tokens_per_minute=100)},
)


def test_both_kinds_of_keys_are_served() -> None:
    assert all_keys(SETTINGS) == ("plain", "first-key", "second-key")


def test_a_table_says_what_its_key_may_take() -> None:
    assert key_shares(SETTINGS) == {
        key_id("first-key"): KeyShare("laptop", 3.0, 2, None),
        key_id("second-key"): KeyShare("phone", 1.0, None, 100),
    }
    assert best_priorities(SETTINGS)[key_id("first-key")] == 1


def test_no_key_is_shown() -> None:
    shown = str(without_secrets(SETTINGS)) + repr(SETTINGS)
    assert not [key for key in all_keys(SETTINGS) if key in shown]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"key": "plain"}, "keys.x.key: is the key of server.api_keys already"),
        ({"key": "two words"}, "keys.x.key: expected visible ASCII characters without spaces"),
        ({"key": "k", "weight": 0.0}, "keys.x.weight: must be at least 0.01"),
        ({"key": "k", "wieght": 1.0}, 'keys.x.wieght: unknown key. Did you mean "weight"?'),
        ({}, "keys.x.key"),
        ("secret-as-a-text", "keys.x: expected a table"),
    ],
)
def test_a_wrong_table_is_named(table: object, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"server.api_keys": ["plain"], "keys": {"x": table}})
    assert problem in str(caught.value)
    assert "two words" not in str(caught.value)
    assert "secret-as-a-text" not in str(caught.value)


def test_a_named_key_lets_the_server_listen_on_the_network() -> None:
    load(None, {"server.host": "0.0.0.0", "keys": {"x": {"key": "k"}}})
