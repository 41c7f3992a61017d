"""Where models are on this machine, and how they come here. Nothing here imports MLX."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlxd.engine.model_files import demo_model as demo
from mlxd.engine.model_files import hub
from mlxd.engine.model_files.cache import (
    cache_root,
    cached_sources,
    folder_of,
    partial_bytes,
    snapshot_of,
    snapshots_of,
)
from mlxd.engine.model_files.download_progress import Progress
from mlxd.engine.model_files.sources import DEMO, repository
from mlxd.engine.model_files.verification import MAX_FILES, weight_files
from mlxd.errors import ModelUnusable


@dataclass(frozen=True)
class Downloaded:
    """A model that is on this machine; `bytes` of weights. Without a `folder` only parts are."""

    source: str
    folder: Path | None
    bytes: int


@dataclass(frozen=True)
class Fetch:
    """A model that can be brought here: bytes in all, those that are here, those of weights.

    `run` does it, and returns the folder; it raises `ModelUnusable`.
    """

    total: int
    here: int
    weights: int
    run: Callable[[Progress], Path]


def locate(source: str) -> Path | None:
    """The folder of a model that is here: `demo`, a folder, or a repository of the hub.

    Never asks the network.
    """
    if source == DEMO:
        return demo.folder() if demo.is_whole(demo.folder()) else None
    if (folder := _local_folder(source)) is not None:
        return folder
    wanted = repository(source)
    return snapshot_of(wanted) if wanted is not None else None


def state_of_files(source: str) -> str:
    """How a model's files are now: another text once one of them was changed; empty without any."""
    folder = locate(source)
    if folder is None:
        return ""
    # Python compiles a model's own code beside it: that changes nothing.
    paths = (
        Path(parent) / name
        for parent, _, files in os.walk(folder)
        for name in files
        if Path(parent).name != "__pycache__"
    )
    state = hashlib.sha256()
    for path in sorted(islice(paths, MAX_FILES)):
        try:
            is_now = path.stat()
        except OSError:
            # A link that leads nowhere; it is refused elsewhere.
            continue
        state.update(f"{path}\0{is_now.st_size}\0{is_now.st_mtime_ns}\n".encode(errors="replace"))
    return state.hexdigest()


def size_on_disk(folder: Path) -> int:
    """Bytes of a model's weights."""
    return sum(path.stat().st_size for path in weight_files(folder))


def downloaded() -> tuple[Downloaded, ...]:
    """The demo and the hub models that are here, by name, also those whose download was cut."""
    found = []
    for source in (DEMO, *map(str, cached_sources())):
        folder = locate(source)
        size = size_on_disk(folder) if folder is not None else partial_bytes(source)
        if size:
            found.append(Downloaded(source, folder, size))
    return tuple(found)


def fetch(source: str) -> Fetch:
    """What bringing a model here takes; asks the hub. Raises `ModelUnusable`."""
    if source == DEMO:
        size = demo.DEMO.size + demo.CONVERTED
        here = size if demo.is_whole(demo.folder()) else 0
        return Fetch(size, here, demo.CONVERTED, demo.pull_demo)
    if (folder := _local_folder(source)) is not None:
        found, size = folder, size_on_disk(folder)
        return Fetch(size, size, size, lambda progress: found)
    wanted = repository(source)
    if wanted is None:
        raise ModelUnusable(source, "it is neither a folder, nor a hub repository, nor 'demo'")
    download = hub.look_up(wanted)
    return Fetch(download.total, download.here, download.weights, download.run)


def removable(source: str) -> frozenset[Path]:
    """The folders that removing a model takes away; raises `ModelUnusable` if there are none."""
    if source == DEMO:
        found = [demo.folder()] if demo.folder().is_dir() else []
    elif _local_folder(source) is not None:
        raise ModelUnusable(source, "it is a folder of yours, no download")
    else:
        wanted = repository(source)
        found = snapshots_of(wanted) if wanted is not None else []
        # A download that was broken off has none, and is all that there is.
        if wanted is not None and not found and folder_of(str(wanted)).is_dir():
            found = [folder_of(wanted.name)]
    if not found:
        raise ModelUnusable(source, "it is not here")
    return frozenset(found)


def remove(source: str) -> int:
    """Remove what is here of a model, and return how many bytes that frees."""
    folders = removable(source)
    wanted = repository(source)
    if wanted is None:
        return demo.remove_demo()
    return hub.remove(wanted.name, frozenset(folder.name for folder in folders))


def cache_folder(source: str) -> Path:
    """The folder that a model will go to, or the nearest one to it that is there."""
    wanted = demo.folder() if source == DEMO else cache_root()
    return next(each for each in (wanted, *wanted.absolute().parents) if each.is_dir())


def _local_folder(source: str) -> Path | None:
    try:
        folder = Path(source).expanduser()
    except RuntimeError:  # There is no user of that name.
        return None
    return folder.absolute() if source and folder.is_dir() else None
