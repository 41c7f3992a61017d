"""Which model types the installed mlx-lm knows, read from its files: importing it loads MLX."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "mlx_lm"
UNKNOWN = "does not know its model_type"
RENAMED = ("MODEL_REMAPPING", "MODEL_ARCHITECTURE_REMAPPING")
"""Tables of its `utils`: their keys are, or begin with, types that the code of another serves."""


def unsupported(model_type: str) -> str:
    """Why a model of this type can't be served; empty if it can, or if there is no telling."""
    known = _known_types()
    if not known or model_type in known:
        return ""
    return f"mlx-lm {version('mlx-lm')} {UNKNOWN} {model_type!r}"


@cache
def _known_types() -> frozenset[str]:
    found = find_spec(PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    if not places:
        return frozenset()
    root = Path(places[0])
    try:
        tables = ast.parse((root / "utils.py").read_text(encoding="utf-8"))
        return frozenset({path.stem for path in root.glob("models/*.py")} | {*_renamed(tables)})
    except (OSError, ValueError, SyntaxError):
        return frozenset()


def _renamed(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=table) if name in RENAMED:
                for key in ast.literal_eval(table):
                    yield key if isinstance(key, str) else key[0]
