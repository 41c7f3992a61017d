"""Where MLX, mlx-lm and transformers are imported first, in half of the time that they take.

At its import transformers looks through 1,700 files for the names that each exports, line by line,
and again when its models are imported: its cache of folders is smaller than their number. That
would be most of what an engine process does until it can load a model.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from mlxd.engine.process.blas import load_blas

LISTING = "transformers.utils.import_utils"
LIST_FOLDER, NAMES_IN_TEXT = "create_import_structure_from_path", "fetch__all__"
"""Functions of that module; where they have gone, transformers is imported as it is."""
NAMES = "\n__all__"


@contextmanager
def engine_imports() -> Iterator[str]:
    """What the engine process computes with is to be imported in here; gives the BLAS."""
    # MLX binds to the BLAS that is loaded first.
    blas = load_blas()
    finder = _ListingFinder()
    sys.meta_path.insert(0, finder)
    # None of the objects that are made by imports is garbage.
    gc.disable()
    try:
        yield blas
    finally:
        gc.freeze()
        gc.enable()
        sys.meta_path.remove(finder)


class _ListingLoader(SourceFileLoader):
    """Loads the module, and lets each file be looked through once, from its last list of names."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        functions = vars(module)
        if uncached := getattr(functions.get(LIST_FOLDER), "__wrapped__", None):
            functions[LIST_FOLDER] = lru_cache(maxsize=None)(uncached)
        if names_in_text := functions.get(NAMES_IN_TEXT):
            functions[NAMES_IN_TEXT] = from_last_list(names_in_text)


class _ListingFinder(MetaPathFinder):
    """Has the one module loaded by the loader above."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name == LISTING else None
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _ListingLoader(name, found.loader.path)
        return found


def from_last_list(names_in_text: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """The same function, which looks only where the last `__all__` of a file begins."""
    return lambda text: names_in_text(text[max(text.rfind(NAMES) + 1, 0) :])
