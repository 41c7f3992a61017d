"""Which settings are shown to nobody."""

from typing import Any

from mlxd.config.settings import Settings

SECRETS = (("server", "api_keys"), ("admin", "token"))
"""Settings that are shown to nobody."""


def without_secrets(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, what is secret masked."""
    tree = settings.model_dump(mode="json")
    for section, key in SECRETS:
        value = tree[section][key]
        tree[section][key] = ["****"] * len(value) if isinstance(value, list) else value and "****"
    return tree
