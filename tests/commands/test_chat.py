"""Which server `mlxd chat` talks to, and with which key."""

from pathlib import Path

import click
import pytest

from mlxd.commands.conversation import Target, find_target, is_terminal
from mlxd.errors import ConfigError

KEYED = '[server]\nhost = "0.0.0.0"\nport = 9000\napi_keys = ["first", "second"]\n'


@pytest.mark.parametrize(
    ("url", "key", "found"),
    [
        (None, None, Target("http://127.0.0.1:9000", "first")),
        (None, "mine", Target("http://127.0.0.1:9000", "mine")),
        ("http://127.0.0.1:9000/v1/", None, Target("http://127.0.0.1:9000", "first")),
        ("http://elsewhere:9000", None, Target("http://elsewhere:9000", "")),
        ("https://elsewhere/v1", "mine", Target("https://elsewhere", "mine")),
        ("localhost:1234", None, Target("http://localhost:1234", "")),
    ],
)
def test_a_key_of_the_configuration_goes_to_its_server_only(
    url: str | None, key: str | None, found: Target
) -> None:
    Path("mlxd.toml").write_text(KEYED, encoding="utf-8")
    assert find_target(url, key, None) == found


def test_without_a_file_the_defaults_say_where() -> None:
    assert find_target(None, None, None) == Target("http://127.0.0.1:8484", "")


def test_an_address_of_ipv6_is_written_with_brackets() -> None:
    Path("mlxd.toml").write_text('[server]\nhost = "::1"\n', encoding="utf-8")
    assert find_target(None, None, None).url == "http://[::1]:8484"


def test_a_broken_configuration_matters_only_where_it_is_needed() -> None:
    Path("mlxd.toml").write_text("nonsense", encoding="utf-8")
    assert find_target("http://elsewhere", "k", None) == Target("http://elsewhere", "k")
    with pytest.raises(ConfigError):
        find_target(None, None, None)
    with pytest.raises(ConfigError):
        find_target("http://elsewhere", None, Path("mlxd.toml"))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[::1", "http://x:99999", "a b://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(click.BadParameter):
        find_target(url, None, None)


def test_a_stream_that_is_closed_is_no_terminal() -> None:
    assert not is_terminal(None)
