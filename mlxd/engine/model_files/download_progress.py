"""Progress of bringing a model here: a download is seen from how its folder grows.

It works for every program that downloads, and needs nothing from it.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

ModelPhase = Literal["download", "check", "convert", "test"]
Progress = Callable[[ModelPhase, int, int], None]
"""Called again and again with what goes on, how many bytes of it are done and how many there are;
both are 0 where nobody can say."""

INTERVAL = 0.2
"""Seconds between two measurements."""


@contextmanager
def watching(folder: Path, total: int, progress: Progress, here: int = 0) -> Iterator[None]:
    """Report how much of `total` is there while the body downloads, by how `folder` grows.

    `here` is what was there before.
    """
    before = _size(folder) - here

    def report() -> None:
        progress("download", min(max(_size(folder) - before, 0), total), total)

    with _repeated(report):
        yield
    report()


@contextmanager
def going_on(phase: ModelPhase, progress: Progress) -> Iterator[None]:
    """Report that the body goes on with a phase that has no measure."""
    with _repeated(lambda: progress(phase, 0, 0)):
        yield


@contextmanager
def _repeated(report: Callable[[], None]) -> Iterator[None]:
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(INTERVAL):
            report()

    report()
    # A thread of its own: whoever downloads blocks this one.
    reporter = threading.Thread(target=repeat, name="model-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _size(folder: Path) -> int:
    """Bytes of the files in `folder`, which may come and go meanwhile."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size
