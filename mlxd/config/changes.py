"""A configuration that was read again: what is new in it, and what a running server takes of it."""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from mlxd.config.problems import KeyPath, dotted, follow, plain_keys, sections
from mlxd.config.secrets import without_secrets
from mlxd.config.settings import KeySettings, ModelSettings, Settings
from mlxd.config.sources import leaves
from mlxd.config.value_types import NOW, RESTART, Effect


class ChangedKey(NamedTuple):
    """A key with its values, secrets masked, and when it has an effect."""

    key: str
    old: object
    new: object
    effect: Effect


def effect_of(table: type[BaseModel], name: str) -> Effect:
    """What a key of a table says of itself, or else its table for all of them."""
    own = [each for each in table.model_fields[name].metadata if each in get_args(Effect)]
    found: Effect = own[0] if own else getattr(table, "effect", RESTART)
    return found


def changes(running: Settings, read: Settings) -> tuple[ChangedKey, ...]:
    """The keys in which `read` differs from `running`; a model that came or left is one."""
    old, new = running.model_dump(mode="json"), read.model_dump(mode="json")
    shown_old, shown_new = without_secrets(running), without_secrets(read)
    return tuple(
        ChangedKey(dotted(path), _at(path, shown_old), _at(path, shown_new), _effect_at(path))
        for path in dict.fromkeys([*_paths(running, read), *_paths(read, running)])
        if _at(path, old) != _at(path, new)
    )


def taken(running: Settings, read: Settings) -> Settings:
    """`read`, with those of `running` that only a restart changes."""
    kept: dict[str, Any] = {
        name: getattr(running, name)
        for name in plain_keys()
        if effect_of(Settings, name) == RESTART
    }
    for name, table in sections():
        values = {
            key: getattr(getattr(running, name), key)
            for key in table.model_fields
            if effect_of(table, key) == RESTART
        }
        kept[name] = getattr(read, name).model_copy(update=values)
    return read.model_copy(update=kept)


WHEN: dict[Effect, str] = {
    "now": "changed",
    "next load": "when a model is loaded",
    "restart": "after a restart",
}


def in_words(found: tuple[ChangedKey, ...]) -> str:
    """One line for the log: names of keys only, as values may be secret."""
    parts = [
        f"{words}: {keys}"
        for effect, words in WHEN.items()
        if (keys := ", ".join(each.key for each in found if each.effect == effect))
    ]
    return "; ".join(parts) or "nothing has changed"


def _paths(settings: Settings, other: Settings) -> Iterator[KeyPath]:
    """Every key, and whole models that `other` does not have."""
    # The first model is the default one, so their order counts.
    if list(settings.models) != list(other.models) and {*settings.models} == {*other.models}:
        yield ("models",)
    for path in leaves(settings):
        if path[0] == "models" and path[1] not in other.models:
            yield path[:2]
        else:
            yield path


def _at(path: KeyPath, tree: dict[str, Any]) -> object:
    found, value = follow(path, tree)
    if found != path:
        return None
    if path == ("models",):
        return list(tree["models"])
    if len(path) == 2 and path[0] == "models" and isinstance(value, dict):
        return {key: each for key, each in value.items() if each not in (None, [], {}, False)}
    return value


def _effect_at(path: KeyPath) -> Effect:
    if path[0] == "models":
        return effect_of(ModelSettings, str(path[2])) if len(path) > 2 else NOW
    if path[0] == "keys":
        return effect_of(KeySettings, str(path[2])) if len(path) > 2 else NOW
    table = dict(sections()).get(str(path[0]))
    return effect_of(table, str(path[1])) if table else effect_of(Settings, str(path[0]))
