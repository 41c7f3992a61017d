"""What a KV cache on the disk depends on: of another fingerprint none is ever used."""

import hashlib
from importlib.metadata import version
from typing import Any

from mlx.utils import tree_flatten

from mlxd.engine.model_files.library import locate
from mlxd.engine.model_files.verification import weight_files
from mlxd.engine.models.loading import LoadedModel

CHARS = 32


def state_of_weights(source: str) -> str:
    """A model's configuration, and the names, sizes and times of its weights, as they are now.

    Empty for a model that is not here.
    """
    folder = locate(source)
    if folder is None:
        return ""
    try:
        state = hashlib.sha256((folder / "config.json").read_bytes())
        for path in weight_files(folder):
            is_now = path.stat()
            state.update(f"\n{path.name}\0{is_now.st_size}\0{is_now.st_mtime_ns}".encode())
    except OSError:
        # Loading it will say what is wrong.
        return ""
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
