"""What several commands share: the `--config` option and what a SOURCE may be."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mlxd.config.load import Loaded

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file; without it ./mlxd.toml, or the one in your configuration folder.",
)

DEMO = "demo"
HUB_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#]+/[^/?#]+)"
    r"(?:/(?:tree|blob)/main(?:/[^?#]*)?)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
"""The address of a repository's page, as a browser shows it."""
SOURCE_HELP = (
    'A source is "demo", a folder, or a repository of the hub: owner/name, or its page\'s address.'
)


def load(
    config_file: Path | None, flags: Mapping[str, object] | None = None, *, service: bool = False
) -> "Loaded":
    """The effective configuration, for a `service` without `./mlxd.toml`; raises `ConfigError`."""
    from mlxd.config import load as files

    places = (files.own_file(),) if service else None
    return files.load(config_file, flags or {}, places=places)


def as_source(text: str) -> str | None:
    """`text` as a model's source, folders as absolute paths; None if it can't be one."""
    if text == DEMO:
        return text
    folder = Path(text).expanduser()
    written_as_path = text.startswith(("./", "../", "/", "~"))
    if folder.is_dir() and (written_as_path or (folder / "config.json").is_file()):
        return os.path.abspath(folder)
    page = HUB_PAGE.fullmatch(text)
    name = page[1] if page else text
    is_repository = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name, re.ASCII)
    return name if is_repository else None


def alias_for(source: str) -> str:
    """An alias for a source: the last part of its name."""
    name = re.sub(r"[^A-Za-z0-9._:-]", "-", Path(source).name).strip("-._:")
    return name[:128] or "model"


def fail(text: str) -> None:
    """One line about what went wrong, on stderr."""
    click.echo(f"mlxd: {text}", err=True)
