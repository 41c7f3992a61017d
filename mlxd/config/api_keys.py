"""The API keys of the configuration: the plain list, and the tables with names and limits."""

import hashlib

from mlxd.config.settings import KeySettings, Settings
from mlxd.engine.protocol import KeyShare

PRIORITIES = {"low": -1, "normal": 0, "high": 1}


def key_id(key: str) -> str:
    """The short hash by which a key is known once it was checked."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def all_keys(settings: Settings) -> tuple[str, ...]:
    """Every key that a caller may present, each once."""
    named = (table.key for table in settings.keys.values())
    return tuple(dict.fromkeys((*settings.server.api_keys, *named)))


def key_shares(settings: Settings) -> dict[str, KeyShare]:
    """What the keys with a table may take, by their short hashes."""
    return {key_id(table.key): _share(name, table) for name, table in settings.keys.items()}


def best_priorities(settings: Settings) -> dict[str, int]:
    """The most that requests of the keys with a table may ask for, by their short hashes."""
    return {key_id(table.key): PRIORITIES[table.priority] for table in settings.keys.values()}


def _share(name: str, table: KeySettings) -> KeyShare:
    return KeyShare(name, table.weight, table.max_rows, table.tokens_per_minute)
