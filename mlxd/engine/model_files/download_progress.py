"""Progress of a download, seen from how its folder grows.

It works for every program that downloads, and needs nothing from it.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with the bytes that are done and their number in total, again and again."""

INTERVAL = 0.2
"""Seconds between two measurements."""


@contextmanager
def watching(folder: Path, total: int, progress: Progress) -> Iterator[None]:
    """Report how much `folder` grows while the body runs, and `total` once it is done."""
    before = _size(folder)
    done = threading.Event()

    def measure() -> None:
        while not done.wait(INTERVAL):
            progress(min(max(_size(folder) - before, 0), total), total)

    watcher = threading.Thread(target=measure, name="download-progress", daemon=True)
    progress(0, total)
    # A thread of its own: whoever downloads blocks this one.
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    progress(total, total)


def _size(folder: Path) -> int:
    """Bytes of the files in `folder`, which may come and go meanwhile."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size
