"""The configuration read again while serving: what it changes at once, and what at a restart."""

from collections.abc import Sequence
from typing import NamedTuple

from mlxd.config.problems import conflicts, dotted, follow
from mlxd.config.settings import Settings
from mlxd.config.sources import leaves
from mlxd.errors import ConfigError

AT_ONCE: dict[str, Sequence[str]] = {
    "server": ("api_keys", "allowed_hosts", "cors_origins", "drain_seconds"),
    "log": ("level", "format"),
}
"""Keys that the running server takes; a request keeps what it began with."""


class Reloaded(NamedTuple):
    """The settings from now on, the keys that they differ in, and those that wait for a restart."""

    settings: Settings
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def reloaded(running: Settings, read: Settings) -> Reloaded:
    """`running` with what it can take of `read`; raises `ConfigError` where that does not fit."""
    updates = {
        section: getattr(running, section).model_copy(
            update={key: getattr(getattr(read, section), key) for key in keys}
        )
        for section, keys in AT_ONCE.items()
    }
    merged = running.model_copy(update=updates)
    # An address that others reach, of which only a restart would change anything, keeps its keys.
    for problem in conflicts(merged):
        reason = f"{problem.reason} (it takes a restart)"
        raise ConfigError("configuration", dotted(problem.path), reason, problem.hint)
    return Reloaded(merged, differing(running, merged), differing(merged, read))


def differing(one: Settings, other: Settings) -> tuple[str, ...]:
    """The keys in which two configurations differ, in their order."""
    trees = one.model_dump(), other.model_dump()
    paths = dict.fromkeys([*leaves(one), *leaves(other)])
    return tuple(dotted(path) for path in paths if follow(path, trees[0]) != follow(path, trees[1]))


def in_words(result: Reloaded) -> str:
    """One line for the log; names of keys only, as values may be secret."""
    now, later = ", ".join(result.changed), ", ".join(result.waiting)
    parts = [f"changed: {now}"] if now else []
    parts += [f"after a restart: {later}"] if later else []
    return f"the configuration was read again; {'; '.join(parts) or 'nothing has changed'}"
