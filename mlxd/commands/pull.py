"""`mlxd pull`: bring a model to this machine."""

import os
from pathlib import Path

import click

from mlxd.commands.meter import Meter
from mlxd.commands.options import DEMO, SOURCE_HELP, as_source, config_option, fail, load


@click.command()
@click.argument("source", metavar="SOURCE|demo")
@config_option
def pull(*, source: str, config_file: Path | None) -> int:
    """Download a model: "demo", a repository of the hub, or what a configured alias names."""
    found = as_source(source)
    if found is None and (model := load(config_file).settings.models.get(source)) is not None:
        found = model.source
    if found is None:
        fail(f'"{source}" is neither a source nor a configured alias. {SOURCE_HELP}')
        return 2
    from mlxd.config.suggested_models import gigabytes
    from mlxd.engine.model_files.library import size_on_disk

    folder = bring(found)
    click.echo(f"{found}: {gigabytes(size_on_disk(folder))} in {folder}")
    return 0


def bring(source: str) -> Path:
    """Bring a model here, with its progress on stderr; raises `ModelUnusable`."""
    from mlxd.engine.model_files.library import download

    # Our own line shows the progress of all files together.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    steps = " ({} of 4)" if source == DEMO else ""
    names = {
        "download": f"downloading {source}{steps.format(1)}",
        "check": f"checking what came{steps.format(2)}",
        "convert": f"converting it{steps.format(3)}",
        "test": f"asking it a question{steps.format(4)}",
    }
    with Meter(names) as meter:
        return download(source, meter.show)
