"""What each source of the configuration says: a tree of values, and where its keys were written."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from mlxd.config.line_numbers import key_lines
from mlxd.config.problems import KeyPath, Problem, dotted, follow, nearest, sections
from mlxd.config.settings import Settings
from mlxd.errors import ConfigError

PREFIX = "MLXD_"
OTHER_VARIABLES = ("MLXD_API_KEY", "MLXD_BLAS", "MLXD_DEBUG", "MLXD_URL")
"""Variables that are named like a setting and are none."""


@dataclass(frozen=True)
class Layer:
    """One source: the command line, one environment variable, or the file with its text."""

    kind: Literal["flag", "environment", "file"]
    name: str
    values: Mapping[str, Any]
    text: str = field(default="", repr=False)

    @cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return key_lines(self.text)

    @property
    def origin(self) -> str:
        """As `mlxd config show` prints it."""
        return f"environment {self.name}" if self.kind == "environment" else self.kind

    def holds(self, path: KeyPath) -> bool:
        """Whether this source says something at `path`."""
        return follow(path, self.values)[0] == path

    def error(self, problem: Problem) -> ConfigError:
        """`problem`, told at the place where the user wrote it."""
        key = dotted(problem.path)
        if self.kind == "environment":
            key = self.name if variable(problem.path) == self.name else f"{self.name} ({key})"
        starts = (problem.path[:end] for end in range(len(problem.path), 0, -1))
        return ConfigError(
            file="environment" if self.kind == "environment" else self.name,
            key=key,
            reason=problem.reason,
            hint=problem.hint,
            line=next((self._lines[start] for start in starts if start in self._lines), 0),
        )


def source_of(path: KeyPath, layers: Collection[Layer]) -> Layer | None:
    """The layer whose value stands at `path` in the merged tree, or else at what encloses it."""
    for end in range(len(path), 0, -1):
        holders = [layer for layer in layers if layer.holds(path[:end])]
        plain = [layer for layer in holders if not _is_table(layer, path[:end])]
        if holders:
            return (plain or holders)[0]
    return None


def _is_table(layer: Layer, path: KeyPath) -> bool:
    return isinstance(follow(path, layer.values)[1], Mapping)


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """One tree of all layers; the first that says something about a key wins.

    Where one has a table and another a plain value, the plain value stays: it is the mistake.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        _add(values, layer.values)
    return values


def _add(values: dict[str, Any], lower: Mapping[str, Any]) -> None:
    for key, value in lower.items():
        above = values.get(key)
        if isinstance(value, Mapping) and isinstance(above, dict):
            _add(above, value)
        elif isinstance(value, Mapping) and key not in values:
            _add(values.setdefault(key, {}), value)
        elif key not in values or isinstance(above, dict):
            values[key] = value


def nested(flags: Mapping[str, object]) -> dict[str, Any]:
    """Dotted keys as a tree; None means that a flag was not given."""
    tree: dict[str, Any] = {}
    for key, value in flags.items():
        *tables, last = key.split(".")
        table = tree
        for name in tables if value is not None else ():
            table = table.setdefault(name, {})
        if value is not None:
            table[last] = value
    return tree


def variable(path: KeyPath) -> str:
    """The environment variable for a key."""
    return PREFIX + "__".join(_as_variable(str(part)) for part in path)


def _as_variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def environment(aliases: Collection[str]) -> list[Layer]:
    """One layer for each `MLXD_*` variable, the more specific first.

    `MLXD_MODELS__QWEN3_4B__TOP_P` means the model `qwen3-4b` if `aliases` has it. Raises
    `ConfigError` for variables that are no settings.
    """
    names = {name for name in os.environ if name.upper().startswith(PREFIX) and os.environ[name]}
    layers, refused = [], []
    for name in sorted(names - set(OTHER_VARIABLES), key=_specific_first):
        try:
            values = _OneVariable(name, os.environ[name], aliases)()
        except (ValueError, RecursionError):
            refused.append(ConfigError("environment", name, "can't be read as a value"))
            continue
        if values:
            layers.append(Layer("environment", name, values))
        else:
            refused.append(_unknown_variable(name))
    if refused:
        raise together(refused)
    return layers


def _specific_first(name: str) -> tuple[int, str]:
    return -name.count("__"), name


def together(errors: list[ConfigError]) -> ConfigError:
    """The first error, carrying the rest."""
    first, *others = errors
    first.others = tuple(others)
    return first


def _unknown_variable(name: str) -> ConfigError:
    known = [variable((field,)) for field in Settings.model_fields]
    for section, model in sections():
        known += [variable((section, field)) for field in model.model_fields]
    ending = name.upper().removeprefix(PREFIX)
    same_ending = (item for item in known if item.endswith(f"__{ending}"))
    meant = next(same_ending, "") or nearest(name, known)
    hint = f"Did you mean {meant}?" if meant else "`mlxd config show` lists the keys."
    return ConfigError("environment", name, "is not a setting", hint)


class _OneVariable(EnvSettingsSource):
    """Pydantic's environment source, for one variable.

    Lists may be written with commas as well as in JSON; what can't be read as JSON stays a string,
    which validation then refuses with the name of the key.
    """

    def __init__(self, name: str, value: str, aliases: Collection[str]) -> None:
        super().__init__(Settings)
        self.env_vars = {name.lower(): value}
        same = {alias: alias for alias in aliases}
        self._aliases = {_as_variable(alias).lower(): alias for alias in aliases} | same

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        models = values.get("models")
        if isinstance(models, dict):
            values["models"] = {
                self._aliases.get(alias, alias): _with_scalars(model)
                for alias, model in models.items()
            }
        return values

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        text = str(value).strip()
        if text[:1] not in ("[", "{") and field is not None and _is_list(field.annotation):
            return [item.strip() for item in text.split(",")]
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return value


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) is tuple or any(map(_is_list, get_args(annotation)))


def _with_scalars(model: object) -> object:
    """`model` with template arguments such as "false" and "3" read as JSON."""
    if not isinstance(model, dict) or not isinstance(model.get("template_args"), dict):
        return model
    return {**model, "template_args": {k: _scalar(v) for k, v in model["template_args"].items()}}


def _scalar(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"true|false|-?\d{1,15}(\.\d{1,15})?", value):
        return json.loads(value)
    return value


def leaves(settings: Settings) -> Iterator[KeyPath]:
    """The path of every key that has a value, in the tree's order."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        match value:
            case dict():
                for alias, model in value.items():
                    yield from ((name, alias, key) for key in type(model).model_fields)
            case _ if name in dict(sections()):
                yield from ((name, key) for key in type(value).model_fields)
            case _:
                yield (name,)
