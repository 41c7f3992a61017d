"""Loading: flags beat `MLXD_*` variables, those beat one TOML file, and that beats the defaults."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlxd.config.places import find
from mlxd.config.problems import conflicts, dotted, hidden_values, problems
from mlxd.config.settings import Settings
from mlxd.config.sources import Layer, environment, leaves, nested, source_of, together
from mlxd.errors import ConfigError

MAX_FILE = 1024 * 1024
"""Bytes; a longer file is no configuration."""


@dataclass(frozen=True)
class Loaded:
    """The settings, the file that was read, and where each value came from.

    `origins` maps dotted keys to "flag", "environment MLXD_…", "file" or "default".
    """

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]


def load(
    path: Path | None, flags: Mapping[str, object], *, places: Sequence[Path] | None = None
) -> Loaded:
    """The effective configuration; raises one `ConfigError` that carries all problems.

    `path` is the file to read; without it that is the first of `places` that is there: usually
    `./mlxd.toml`, or else the one in the user's configuration folder. `flags` has dotted keys
    (`server.port`) or whole tables; None means "not given".
    """
    file = path or find(places)
    given = [Layer("flag", "command line", nested(flags))]
    written = [read(file)] if file else []
    models = [layer.values.get("models") for layer in (*given, *written)]
    aliases = {alias for table in models if isinstance(table, Mapping) for alias in table}
    layers = [*given, *environment(aliases), *written]
    settings = _validated(layers)
    origins = {
        dotted(leaf): next((layer.origin for layer in layers if layer.holds(leaf)), "default")
        for leaf in leaves(settings)
    }
    return Loaded(settings, file, origins)


def read(path: Path) -> Layer:
    """What a file says; raises `ConfigError`."""
    text = _text(path)
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(str(path), "", "is nested too deeply") from None
    except ValueError as error:
        at = re.search(r"\(at line (\d+)", str(error))
        line = int(at[1]) if at else 0
        raise ConfigError(str(path), "", f"is not valid TOML: {error}", line=line) from None
    _resolve_sources(path, values)
    return Layer("file", str(path), values, text)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(str(path), "", f"can't be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise ConfigError(str(path), "", f"is longer than {MAX_FILE} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(str(path), "", "is not UTF-8 text", line=line) from None


def _resolve_sources(path: Path, values: dict[str, Any]) -> None:
    """Make a source such as `./folder` mean a folder next to the file."""
    models = values.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        source = model.get("source") if isinstance(model, dict) else None
        if isinstance(source, str) and source.startswith(("./", "../")):
            model["source"] = os.path.normpath(path.parent.absolute() / source)


def _validated(layers: list[Layer]) -> Settings:
    # Pydantic-settings shows each source what those before it say: the last one sees the whole.
    last = Layer("default", "configuration", {})
    # To mypy the fields are all the arguments that there are.
    build: Callable[..., Settings] = Settings
    try:
        settings = build(_build_sources=((*layers, last), {}))
    except ValidationError as error:
        found = problems(error.errors(include_url=False), last.current_state)
    else:
        found = list(conflicts(settings))
    errors = [(source_of(problem.path, layers) or last).error(problem) for problem in found]
    wrong = {problem.path for problem in found}
    for layer in layers:
        hidden = hidden_values(layer.values, last.current_state)
        errors += [layer.error(problem) for problem in hidden if problem.path not in wrong]
    if errors:
        # Those of the file in its order.
        raise together(sorted(errors, key=lambda error: error.line))
    return settings
