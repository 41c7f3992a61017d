"""mlxd: the local inference server people trust with their agents."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

__version__ = "0.1.0"


def outdated(version: str) -> bool:
    """Whether a server of this version runs on after this program was updated."""
    served, installed = (
        [int(part) for part in re.findall(r"\d+", each)] for each in (version, __version__)
    )
    return bool(served) and served < installed


def called() -> str:
    """How this program is called in this shell: `mlxd` if that is what it finds, else a path."""
    started = Path(sys.argv[0])
    # Other processes of ours, and `python -m mlxd`, have the script beside their Python.
    own = started if started.name == "mlxd" else Path(sys.executable).with_name("mlxd")
    if not own.is_file():
        return f"{_short(Path(sys.executable))} -m mlxd"
    found = shutil.which("mlxd")
    return "mlxd" if found and os.path.samefile(found, own) else _short(own)


def _short(path: Path) -> str:
    """A path as it would be typed here."""
    # Not resolved: a virtual environment's Python is a link to one that knows nothing of it.
    path, here = Path(os.path.abspath(path)), Path(os.path.abspath("."))
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
