"""The folder of prefixes: its lock, its key, and what lies in it by names and sizes alone."""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from mlxd.engine.prefix_disk.spill_file import FOLDER, Buffer, SpillFile

LOCK, KEY, LABEL, WRITTEN = "lock", "key", "about.json", "written"
KEY_BYTES = 32
UNFINISHED = ".tmp"


class FolderInUse(Exception):
    """Another process holds the folder."""


class DayCount(NamedTuple):
    """What was written on a day, counted from 1970 in UTC; it outlives the process."""

    day: int = 0
    written: int = 0

    @classmethod
    def read(cls, root: Path) -> Self:
        """The count as it was written last."""
        with suppress(OSError, ValueError):
            day, written = (root / WRITTEN).read_text("ascii").split()
            return cls(int(day), int(written))
        return cls()

    def at(self, seconds: float) -> "DayCount":
        """The count at that time. Where the clock was set back, what was written counts on."""
        day = int(seconds // 86400)
        return DayCount(day, 0 if day > self.day else self.written)

    def write(self, root: Path) -> None:
        """Keep the count; raises `OSError`."""
        write_private(root / WRITTEN, [f"{self.day} {self.written}".encode()])


class Found(NamedTuple):
    """A file that lies in the folder."""

    file: SpillFile
    size: int
    used: int
    """When it was used last, as the file system has it, in nanoseconds."""


class ModelPrefixes(NamedTuple):
    """What is kept for one model; `model` is its name when it was written last."""

    model: str
    entries: int
    bytes: int


def words_of(error: OSError) -> str:
    """What went wrong, without a path."""
    return (error.strerror or "the disk reported an error").lower()


def nearest(root: Path) -> Path:
    """The folder, or the one above it that is there already."""
    return next(each for each in (root.absolute(), *root.absolute().parents) if each.exists())


def free_bytes(root: Path) -> int:
    """What the disk of a folder, which may not be there yet, has left for this account."""
    return shutil.disk_usage(nearest(root)).free


def take(root: Path) -> int:
    """Hold the folder until the file is closed; makes it. Raises `FolderInUse`, `OSError`."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise FolderInUse from error
        raise
    return lock


def read_key(root: Path) -> bytes:
    """The folder's key. A new one is made where there is none, and all that is there goes.

    Without its key no file can be found or trusted.
    """
    try:
        file = os.open(root / KEY, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        pass
    else:
        with open(file, "rb") as opened:
            state, key = os.fstat(opened.fileno()), opened.read(KEY_BYTES + 1)
        if state.st_uid != os.getuid() or state.st_mode & 0o077:
            raise PermissionError(errno.EACCES, "its key can be read by others")
        if len(key) == KEY_BYTES:
            return key
    clear(root)
    key = secrets.token_bytes(KEY_BYTES)
    write_private(root / KEY, [key])
    return key


def write_private(path: Path, pieces: Sequence[Buffer]) -> None:
    """Write a file for this account alone: it is there whole or not at all."""
    temporary = path.with_name(path.name + UNFINISHED)
    with suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Not synced: what a loss of power leaves half written is found by its seal.
        with open(os.open(temporary, flags, 0o600), "wb", buffering=0) as file:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[file.write(left) :]
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def read_private(path: Path) -> bytes:
    """All of a file, which is no link; raises `OSError`."""
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb", buffering=0) as file:
        return file.read()


def scan(root: Path) -> Iterator[Found]:
    """The files in the folder; what a killed process left unfinished is removed. Opens none."""
    for model, scope in _scopes(root):
        for entry in _entries(root / model / scope):
            file = SpillFile.named(model, scope, entry.name)
            with suppress(OSError):
                if file is not None:
                    state = entry.stat(follow_symlinks=False)
                    yield Found(file, state.st_size, state.st_mtime_ns)
                elif entry.name.endswith(UNFINISHED):
                    os.unlink(entry.path)


def labels(root: Path) -> dict[str, str]:
    """The folders of models, each with the model's name as it was configured; empty if unknown."""
    found = {}
    for entry in _entries(root):
        if FOLDER.fullmatch(entry.name):
            found[entry.name] = ""
            with suppress(OSError, ValueError, KeyError, TypeError):
                label = json.loads((root / entry.name / LABEL).read_text(encoding="utf-8"))
                found[entry.name] = str(label["model"])
    return found


def label(root: Path, model: str, name: str) -> None:
    """Write whose prefixes a folder holds, for people."""
    (root / model).mkdir(exist_ok=True, mode=0o700)
    write_private(root / model / LABEL, [json.dumps({"model": name}).encode()])


def summary(root: Path) -> list[ModelPrefixes]:
    """What is kept, by model; the largest first. Nothing is changed."""
    names = labels(root)
    totals = dict.fromkeys(names, (0, 0))
    for model, scope in _scopes(root):
        for entry in _entries(root / model / scope):
            if SpillFile.named(model, scope, entry.name) is not None:
                with suppress(OSError):
                    entries, size = totals[model]
                    totals[model] = entries + 1, size + entry.stat(follow_symlinks=False).st_size
    kept = [ModelPrefixes(names[model], *total) for model, total in totals.items()]
    return sorted(kept, key=lambda each: -each.bytes)


def clear(root: Path) -> None:
    """Remove all prefixes and the key; files that are not ours stay. Raises `OSError`.

    A server that uses the folder sees that its key is gone, and begins anew.
    """
    with suppress(FileNotFoundError):
        (root / KEY).unlink()
    for model in labels(root):
        # A server may be writing its last file there.
        shutil.rmtree(root / model, ignore_errors=True)
        if (root / model).exists():
            shutil.rmtree(root / model)


def _scopes(root: Path) -> Iterator[tuple[str, str]]:
    for model in _entries(root):
        if FOLDER.fullmatch(model.name) and model.is_dir(follow_symlinks=False):
            for scope in _entries(Path(model.path)):
                if FOLDER.fullmatch(scope.name) and scope.is_dir(follow_symlinks=False):
                    yield model.name, scope.name


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
