"""What of a shell's environment goes into a unit, and what never does."""

import pytest

from mlxd.service.environment import copied

NEEDED = {
    "HF_HOME": "/models",
    "HF_HUB_OFFLINE": "1",
    "MLXD_SERVER__PORT": "9000",
    "MLXD_DEFAULTS__MAX_TOKENS": "100",
    "MLXD_ADMIN__TOKEN_FILE": "/run/token",
    "XDG_STATE_HOME": "/state",
    "https_proxy": "http://proxy:3128",
    "NO_PROXY": "localhost",
}


def test_what_a_service_needs_is_copied_and_nothing_else() -> None:
    others = {"PATH": "/bin", "LANG": "C", "MLXD_URL": "http://x", "HOME": "/", "HF_EMPTY": ""}
    found = copied({**NEEDED, **others})
    assert found.variables == NEEDED
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "hf_abc"),
        ("MLXD_API_KEY", "abc"),
        ("mlxd_server__api_keys", "abc"),
        ("MLXD_SERVER", '{"api_keys": ["abc"]}'),
        ("MLXD_ADMIN__TOKEN", "abc"),
        ("MLXD_ADMIN", '{"token": "abc"}'),
        ("MLXD_ADMIN_TOKEN", "abc"),
        ("MLXD_MODELS__A__SOURCE", "a configured-secret inside"),
        ("https_proxy", "http://ann:pass@proxy:3128"),
        ("HF_ENDPOINT", "https://user@mirror"),
        ("HF_HOME", "/a\nExecStart=/bin/evil"),
    ],
)
def test_keys_and_what_would_be_a_line_of_its_own_are_left_out(name: str, value: str) -> None:
    found = copied({name: value, **NEEDED} | {name: value}, ["configured-secret", ""])
    assert name not in found.variables
    assert found.left_out == (name,)
