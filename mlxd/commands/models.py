"""`mlxd models`: what is configured and what is here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mlxd.commands.options import DEMO, config_option, load

if TYPE_CHECKING:
    from mlxd.config.settings import Settings


class ModelLine(NamedTuple):
    """A line of the table."""

    alias: str
    state: str
    size: str
    source: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects for scripts.")
@config_option
def models(*, as_json: bool, config_file: Path | None) -> int:
    """List the models that are configured or downloaded."""
    if as_json:
        found = [line._asdict() for line in _lines(load(config_file).settings)]
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    lines = [ModelLine("ALIAS", "STATE", "SIZE", "SOURCE"), *_lines(load(config_file).settings)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(ModelLine._fields))]
    for line in lines:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    return 0


def _lines(settings: "Settings") -> Iterator[ModelLine]:
    """The configured models (without any, the demo that is served then), then the others."""
    from mlxd.commands.local_models import find_model
    from mlxd.config.settings import ModelSettings
    from mlxd.config.suggested_models import gigabytes
    from mlxd.engine.model_files.library import downloaded

    configured = settings.models or {DEMO: ModelSettings(source=DEMO)}
    for alias, model in configured.items():
        found = find_model(alias, model)
        size = "" if found.bytes is None else gigabytes(found.bytes)
        yield ModelLine(alias, found.reason or "ready", size, model.source)
    sources = {model.source for model in configured.values()}
    for here in downloaded():
        if here.source not in sources:
            yield ModelLine("", "not configured", gigabytes(here.bytes), here.source)
