"""`mlxd pull`: bring a model to this machine."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import click

from mlxd.commands.options import DEMO, SOURCE_HELP, as_source, config_option, fail, load


@click.command()
@click.argument("source", metavar="SOURCE|demo")
@config_option
def pull(*, source: str, config_file: Path | None) -> int:
    """Download a model: "demo", a repository of the hub, or what a configured alias names."""
    # Our own bar shows the progress of all files together.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    found = as_source(source)
    if found is None and (model := load(config_file).settings.models.get(source)) is not None:
        found = model.source
    if found is None:
        fail(f'"{source}" is neither a source nor a configured alias. {SOURCE_HELP}')
        return 2
    from mlxd.config.suggested_models import gigabytes
    from mlxd.engine.model_files.library import download, locate, size_on_disk

    if found == DEMO and locate(DEMO) is None:
        click.echo("The demo model is downloaded (93 MB), converted and tested: about a minute.")
    with Meter(f"Downloading {found}") as meter:
        folder = download(found, meter.show)
    click.echo(f"{found}: {gigabytes(size_on_disk(folder))} in {folder}")
    return 0


class Meter:
    """A progress bar on stderr, from the first byte on; one line if that is no terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._advance: Callable[[int], None] | None = None
        self._done = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def show(self, done: int, total: int) -> None:
        """Bytes that are done, of all; may be called from any one thread at a time."""
        if self._advance is None and total > 0:
            bar = click.progressbar(length=total, label=self._label, file=sys.stderr)
            self._advance = self._stack.enter_context(bar).update
        if self._advance is not None and done > self._done:
            self._advance(done - self._done)
            self._done = done
