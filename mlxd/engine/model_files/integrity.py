"""Whether a model's files still are what the hub gave: the cache calls each by its own hash."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from hashlib import _Hash

SHA256, GIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
"""Names of large files, and of those that git itself holds."""
PIECE = 8 << 20
"""Bytes that are read and hashed at once."""
Report = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""
State = Literal["ok", "damaged", "missing", "unknown"]


class FileVerdict(NamedTuple):
    """What a file was found to be; `path` is where its bytes are."""

    name: str
    state: State
    path: Path


def bytes_to_judge(folder: Path) -> int:
    """Bytes that `judged` will read."""
    return sum(path.stat().st_size for path in _files(folder) if path.is_file())


def judged(folder: Path, report: Report) -> Iterator[FileVerdict]:
    """A verdict on each file of a model; files that nobody gave a hash are unknown."""
    for path in _files(folder):
        blob = Path(os.path.realpath(path))
        yield FileVerdict(path.relative_to(folder).as_posix(), _state(path, blob, report), blob)


def _state(path: Path, blob: Path, report: Report) -> State:
    if not blob.is_file():
        return "missing"
    expected = blob.name if path.is_symlink() else ""
    if SHA256.fullmatch(expected):
        found = sha256_of(blob, report)
    elif GIT.fullmatch(expected):
        found = _hash(blob, hashlib.sha1(f"blob {blob.stat().st_size}\0".encode()), report)
    else:
        report(blob.stat().st_size)
        return "unknown"
    return "ok" if found == expected else "damaged"


def sha256_of(path: Path, report: Report) -> str:
    """The SHA-256 of a file."""
    return _hash(path, hashlib.sha256(), report)


def _hash(path: Path, state: "_Hash", report: Report) -> str:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            state.update(piece)
            report(len(piece))
    return state.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if not path.is_dir() and "__pycache__" not in path.parts
    )
