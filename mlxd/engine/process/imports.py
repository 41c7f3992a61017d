"""Where MLX, mlx-lm and transformers are imported first, in half of the time that they take.

At its import transformers looks through 1,700 files for the names that each exports, line by line,
and again when its models are imported: its cache of folders is smaller than their number. That
would be most of what an engine process does until it can load a model. So each file is looked
through once, and what was found is kept for the next process.
"""

import gc
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import msgspec

from mlxd.engine.process.blas import load_blas
from mlxd.engine.process.kept_files import keep, kept_folder

LISTING = "transformers.utils.import_utils"
LIST_ALL = "define_import_structure"
LIST_FOLDER, NAMES_IN_TEXT = "create_import_structure_from_path", "fetch__all__"
"""Functions of that module; where they have gone, transformers is imported as it is."""
NAMES = "\n__all__"
MODELS = "models"
"""The folder with most of the files."""

COMPILED = "__pycache__"

Exported: TypeAlias = dict[frozenset[str], dict[str, set[str]]]
"""By the packages that they need and their module, the names that may be imported."""


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
        if list_all := functions.get(LIST_ALL):
            version = str(getattr(sys.modules.get("transformers"), "__version__", ""))
            file = kept_folder() / "transformers-models.json"
            functions[LIST_ALL] = remembering(list_all, file, version)


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


def remembering(
    list_all: Callable[..., Exported], file: Path, version: str
) -> Callable[..., Exported]:
    """The same function, which reads what is in the folder of models from `file`, if it can."""

    def exported(path: str | Path, prefix: str | None = None) -> Exported:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        if folder.name != MODELS:
            return list_all(path, prefix)
        key = _state(folder, version)
        found = _kept(file, key)
        if found is None:
            found = list_all(folder)
            # Without a folder to write to, the next process looks again.
            with suppress(OSError):
                keep(file, msgspec.json.encode((key, list(found.items()))))
        before = "" if prefix is None else f"{prefix}."
        return {
            needed: {before + module: names for module, names in modules.items()}
            for needed, modules in found.items()
        }

    return exported


def _state(folder: Path, version: str) -> list[str]:
    """What changes whenever another release is installed there."""
    with os.scandir(folder) as entries:
        times = [(one.name, one.stat().st_mtime_ns) for one in entries if one.name != COMPILED]
    listed = repr(sorted(times)).encode()
    return [version, str(folder), hashlib.sha256(listed).hexdigest()]


def _kept(file: Path, key: list[str]) -> Exported | None:
    form = tuple[list[str], list[tuple[frozenset[str], dict[str, set[str]]]]]
    try:
        kept, exported = msgspec.json.decode(file.read_bytes(), type=form)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return dict(exported) if kept == key else None
