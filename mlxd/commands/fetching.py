"""Bringing a model here: what it takes, whether there is room, and how far it is."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mlxd.commands.options import DEMO, fail
from mlxd.commands.output.meter import Meter

if TYPE_CHECKING:
    from mlxd.engine.model_files.download_progress import ModelPhase, Progress
    from mlxd.engine.model_files.library import Fetch

DISK_MARGIN, MEMORY_MARGIN = 1.05, 1.25
"""What a download and a model take, as parts of their size."""


class Need(NamedTuple):
    """What bringing a model here takes, and what this machine has, in bytes."""

    source: str
    fetch: "Fetch"
    free: int
    memory: int

    @property
    def to_come(self) -> int:
        """Bytes that are not here yet."""
        return self.fetch.total - self.fetch.here

    @property
    def has_room(self) -> bool:
        """Whether the disk has room for what is to come."""
        return self.to_come * DISK_MARGIN <= self.free

    @property
    def fits_memory(self) -> bool:
        """Whether it will load here, with room for a prompt."""
        return self.source == DEMO or self.fetch.weights * MEMORY_MARGIN <= self.memory

    def say(self) -> None:
        """Size, disk, memory and what is here already, on stderr."""
        from mlxd.config.catalogue import gigabytes

        size, here = gigabytes(self.fetch.total), self.fetch.here
        if not self.to_come:
            return
        free = f"{gigabytes(self.free)} of disk are free"
        click.echo(f"{self.source} takes {size}; {free}.", err=True)
        if here:
            click.echo(f"Resuming at {gigabytes(here)} of {size}.", err=True)
        if not self.has_room:
            missing = gigabytes(round(self.to_come * DISK_MARGIN) - self.free)
            fail(f"there is no room for {self.source}: {missing} of disk are missing.")
        elif not self.fits_memory:
            fail(f"{self.source} is large for this machine's memory; it may not load.")


def need(source: str) -> Need:
    """Look at a model and at this machine; asks the hub. Raises `ModelUnusable`."""
    from mlxd.config.machine import model_memory_bytes
    from mlxd.engine.model_files.library import cache_folder, fetch

    # Our own line shows the progress of all files together.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    free = shutil.disk_usage(cache_folder(source)).free
    return Need(source, fetch(source), free, model_memory_bytes())


def bring(wanted: Need, again: str) -> Path:
    """Bring a model here, with its progress on stderr; raises `ModelUnusable`.

    `again` is the command that goes on with it, for whoever breaks it off.
    """
    steps = " ({} of 4)" if wanted.source == DEMO else ""
    names = {
        "download": f"downloading {wanted.source}{steps.format(1)}",
        "check": f"checking what came{steps.format(2)}",
        "convert": f"converting it{steps.format(3)}",
        "test": f"asking it a question{steps.format(4)}",
    }
    with Meter(names) as meter:
        return run(wanted, meter.show, lambda words: fail(f"{words} Go on with: {again}"))


def run(wanted: Need, show: "Progress", stopped: Callable[[str], None]) -> Path:
    """Bring a model here; `stopped` gets how far it came when it is broken off."""
    from mlxd.config.catalogue import gigabytes

    done, total = wanted.fetch.here, wanted.fetch.total

    def note(phase: "ModelPhase", now: int, whole: int) -> None:
        nonlocal done
        if phase == "download" and whole:
            done = now
        show(phase, now, whole)

    try:
        return wanted.fetch.run(note)
    except KeyboardInterrupt:
        kept = f"{gigabytes(done)} of {gigabytes(total)} are here and stay"
        stopped(f"stopped; {'nothing of it is kept' if wanted.source == DEMO else kept}.")
        raise
