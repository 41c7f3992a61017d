"""What a KV cache on the disk depends on: of another fingerprint none is ever used."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from mlx.utils import tree_flatten

from mlxd.engine.model_files.library import locate
from mlxd.engine.model_files.verification import weight_files
from mlxd.engine.models.loading import LoadedModel

CHARS = 32


class FilesAsRead(NamedTuple):
    """How a model's files were: `weights` with config.json, and for `reading` all others."""

    weights: str
    reading: str


def state_of_model(source: str) -> FilesAsRead | None:
    """The names, sizes and times of a model's files, as they are now; None if it is not here."""
    folder = locate(source)
    if folder is None:
        return None
    try:
        weights = weight_files(folder)
        others = sorted(path for path in folder.iterdir() if path.is_file())
        return FilesAsRead(
            _state((folder / "config.json").read_bytes(), weights),
            _state(b"", [path for path in others if path not in weights]),
        )
    except OSError:
        # Loading it will say what is wrong.
        return None


def _state(content: bytes, paths: Iterable[Path]) -> str:
    state = hashlib.sha256(content)
    for path in paths:
        is_now = path.stat()
        state.update(f"\n{path.name}\0{is_now.st_size}\0{is_now.st_mtime_ns}".encode())
    return state.hexdigest()


def fingerprint(loaded: LoadedModel, weights: str, caches: list[Any], file_format: int) -> str:
    """Names what computes: the state of its weights from before they were read, and all else.

    That is how they were cast, the classes and sizes of its caches, and the release of mlx-lm.
    """
    dtypes = sorted({str(array.dtype) for _, array in tree_flatten(loaded.model.parameters())})
    minor = ".".join(version("mlx-lm").split(".")[:2])
    facts = (file_format, weights, dtypes, [_class(layer) for layer in caches], minor)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:CHARS]


def _class(layer: Any) -> object:
    """A cache's class and the numbers that it was made with."""
    inner = [_class(each) for each in getattr(layer, "caches", ())]
    sizes = {name: value for name, value in vars(layer).items() if isinstance(value, int)}
    return type(layer).__name__, sorted(sizes.items()), inner
