"""`mlxd models`: what is configured and what is here."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mlxd.commands.options import DEMO, config_option, load

if TYPE_CHECKING:
    from mlxd.config.settings import Settings


class Row(NamedTuple):
    """A line of the table."""

    alias: str
    state: str
    size: str
    source: str


@click.command()
@config_option
def models(*, config_file: Path | None) -> int:
    """List the models that are configured or downloaded."""
    rows = [Row("ALIAS", "STATE", "SIZE", "SOURCE"), *_rows(load(config_file).settings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(Row._fields))]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    return 0


def _rows(settings: "Settings") -> Iterator[Row]:
    """The configured models (without any, the demo that is served then), then the others."""
    from mlxd.commands.local_models import look
    from mlxd.config.settings import ModelSettings
    from mlxd.config.suggested_models import gigabytes
    from mlxd.engine.model_files.library import downloaded

    configured = settings.models or {DEMO: ModelSettings(source=DEMO)}
    for alias, model in configured.items():
        found = look(alias, model)
        size = "" if found.bytes is None else gigabytes(found.bytes)
        yield Row(alias, found.reason or "ready", size, model.source)
    sources = {model.source for model in configured.values()}
    for here in downloaded():
        if here.source not in sources:
            yield Row("", "not configured", gigabytes(here.bytes), here.source)
