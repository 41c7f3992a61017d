"""What several commands share: the `--config` option and what a SOURCE may be."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from mlxd.config.load import Loaded
    from mlxd.config.settings import Settings

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file; without it ./mlxd.toml, or the one in your configuration folder.",
)

DEMO = "demo"
SOURCE_HELP = (
    'A source is "demo", a folder, a repository of the hub (owner/name, owner/name@revision or its '
    "page's address), or a short name that `mlxd models --recommended` lists."
)


class NamedModel(NamedTuple):
    """A model that someone has named, and what it is called by requests; `configured` or new."""

    source: str
    alias: str
    configured: bool


def load(
    config_file: Path | None, flags: Mapping[str, object] | None = None, *, service: bool = False
) -> "Loaded":
    """The effective configuration, for a `service` without `./mlxd.toml`; raises `ConfigError`."""
    from mlxd.config import load as files
    from mlxd.config.places import own_file

    places = (own_file(),) if service else None
    return files.load(config_file, flags or {}, places=places)


def as_source(text: str) -> str | None:
    """`text` as a model's source, folders as absolute paths; None if it can't be one."""
    from mlxd.engine.model_files.sources import repository

    if text == DEMO:
        return text
    try:
        folder = Path(text).expanduser()
    except RuntimeError:  # There is no user of that name.
        return None
    written_as_path = text.startswith(("./", "../", "/", "~"))
    try:
        if folder.is_dir() and (written_as_path or (folder / "config.json").is_file()):
            return os.path.abspath(folder)
    except (OSError, ValueError):  # It is too long for a path, or has a zero byte.
        return None
    found = repository(text)
    return None if found is None else str(found)


def find_named(text: str, settings: "Settings") -> NamedModel | None:
    """The model that `text` names: an alias, a source, or a short name of the catalogue."""
    from mlxd.config.catalogue import catalogue

    for alias, model in settings.models.items():
        if text == alias or text in model.aliases:
            return NamedModel(model.source, alias, configured=True)
    if (source := as_source(text)) is not None:
        wanted = alias_for(source)
    elif (listed := catalogue().by_name(text)) is not None:
        source, wanted = listed.source, listed.name
    else:
        return None
    for alias, model in settings.models.items():
        if model.source == source:
            return NamedModel(source, alias, configured=True)
    taken = {*settings.models, *(name for m in settings.models.values() for name in m.aliases)}
    free, number = wanted, 2
    while free in taken:
        free, number = f"{wanted}-{number}", number + 1
    return NamedModel(source, free, configured=False)


def alias_for(source: str) -> str:
    """An alias for a source: the last part of its name."""
    from mlxd.engine.model_files.sources import repository

    found = None if source.startswith("/") else repository(source)
    name = Path(found.name if found else source).name
    return re.sub(r"[^A-Za-z0-9._:-]", "-", name).strip("-._:")[:128] or "model"


def fail(text: str) -> None:
    """One line about what went wrong, on stderr."""
    click.echo(f"mlxd: {text}", err=True)
