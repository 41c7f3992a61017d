"""What each source of the configuration says: a tree of values, and where its keys were written.

Pydantic-settings merges the trees; this reads the flags and the variables, and finds a key again.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property, reduce
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource, InitSettingsSource

from mlxd.config.line_numbers import key_lines
from mlxd.config.problems import KeyPath, Problem, dotted, follow, nearest, sections
from mlxd.config.settings import Section, Settings
from mlxd.errors import ConfigError

PREFIX = "MLXD_"
OTHER_VARIABLES = ("MLXD_ADMIN_TOKEN", "MLXD_API_KEY", "MLXD_BLAS", "MLXD_DEBUG", "MLXD_URL")
"""Variables that are named like a setting and are none."""


class Layer(InitSettingsSource):
    """One source: the command line, one environment variable, or the file with its text.

    The environment is a layer a variable, so that a mistake in it can be put down to one.
    """

    def __init__(
        self,
        kind: Literal["flag", "environment", "file", "default"],
        name: str,
        values: dict[str, Any],
        text: str = "",
    ) -> None:
        super().__init__(Settings, values)
        self.kind, self.name, self.values = kind, name, values
        self._text = text

    @cached_property
    def _lines(self) -> Mapping[KeyPath, int]:
        return key_lines(self._text)

    @property
    def origin(self) -> str:
        """As `mlxd config show` prints it."""
        return f"environment {self.name}" if self.kind == "environment" else self.kind

    def holds(self, path: KeyPath) -> bool:
        """Whether this source says something at `path`."""
        return follow(path, self.values)[0] == path

    def error(self, problem: Problem) -> ConfigError:
        """`problem` with the line or the variable that the user wrote."""
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
    starts = (path[:end] for end in range(len(path), 0, -1))
    return next((layer for start in starts for layer in layers if layer.holds(start)), None)


def nested(flags: Mapping[str, object]) -> dict[str, Any]:
    """Dotted keys as a tree; None means that a flag was not given."""
    tree: dict[str, Any] = {}
    for key, value in flags.items():
        if value is not None:
            *tables, last = key.split(".")
            innermost = reduce(lambda table, name: table.setdefault(name, {}), tables, tree)
            innermost[last] = value
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
    # What a source adds to a table comes before what is there, so models end up sorted by name.
    for name in sorted(names - {*OTHER_VARIABLES}, key=lambda n: (n.count("__"), n), reverse=True):
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
        super().__init__(Settings, case_sensitive=False)
        section, *keys = name.lower().split("__")
        # An alias may have characters that the name of a variable can't.
        if section == "mlxd_models" and keys and keys[0] not in aliases:
            as_variables = {_as_variable(alias).lower(): alias for alias in aliases}
            keys[0] = as_variables.get(keys[0], keys[0])
        self.env_vars = {"__".join((section, *keys)): value}

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        models = values.get("models")
        for model in models.values() if isinstance(models, dict) else ():
            arguments = model.get("template_args") if isinstance(model, dict) else None
            if isinstance(arguments, dict):
                model["template_args"] = {key: _scalar(arguments[key]) for key in arguments}
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


def _scalar(value: object) -> object:
    """A template's argument such as "false" and "3" read as JSON: its type is not declared."""
    if isinstance(value, str) and re.fullmatch(r"true|false|-?\d{1,15}(\.\d{1,15})?", value):
        return json.loads(value)
    return value


def leaves(table: BaseModel, above: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every key, in the tree's order."""
    for name, value in table:
        match value:
            case Section():
                yield from leaves(value, (*above, name))
            case dict() if name == "models":
                for alias, model in value.items():
                    yield from leaves(model, (*above, name, alias))
            case _:
                yield (*above, name)
