"""Changing a file that is the user's: by one entry, whole or not at all, and back again.

Beside the record of a change lies a copy of the file as it was. Whoever has changed the file since
gets only the entry taken out; else the copy comes back, byte for byte.
"""

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mlxd.launch.edit import Edit, HasEntry, LeftAlone

RECORD, COPY = "change.json", "before"
OWNER_ONLY, OWNER_ONLY_FOLDER = 0o600, 0o700
EMPTY = ("", "{}", "[]")
"""What is left of a file that holds nothing but our entry."""


class Change(msgspec.Struct, frozen=True):
    """What was done to `file`: hashes of it before (None if there was none) and after.

    `entry` is what was put in, `folders` are those that were made for it, the outermost first.
    """

    file: str
    before: str | None
    after: str
    entry: Any
    folders: list[str]


def add(file: Path, edit: Edit, folder: Path) -> bool:
    """Put an entry into a file; whether that changed anything.

    `folder` is where the change is remembered. An entry that is there already and is not as we left
    it is somebody's work: `HasEntry`. Raises `LeftAlone`.
    """
    current = _read(file)
    found = edit.entry(current or "")
    change = _change(folder)
    if change is not None and change.file != str(file):
        if _read(Path(change.file)) is not None:
            raise LeftAlone(f"is not where the last entry was put, {change.file}: undo that first")
        change = None
    if change is None or current is None:
        if found is not None:
            raise HasEntry("has an entry mlxd already that was not put there by this")
        base, made = current, _missing_folders(file)
    else:
        if found is not None and found != change.entry:
            raise HasEntry("has an entry mlxd that was changed by hand since")
        base, made = _undone(change, current, edit, folder), change.folders
    new = edit.put(base or "")
    if new == current:
        return False
    after = Change(str(file), _hash(base), _hash(new) or "", edit.entry(new), made)
    _refuse_obstacles(file)
    # First what undoes it.
    if base is not None:
        write(folder / COPY, base)
    write(folder / RECORD, msgspec.json.encode(after).decode())
    write(file, new)
    return True


def has_entry(file: Path, edit: Edit) -> bool:
    """Whether there is an entry of our name. Raises `LeftAlone`."""
    return edit.entry(_read(file) or "") is not None


def undo(edit: Edit, folder: Path) -> Path | None:
    """Take back what `add` did; the file that it was, None if nothing was done.

    Raises `LeftAlone`.
    """
    change = _change(folder)
    if change is None:
        return None
    file = Path(change.file)
    current = _read(file)
    if current is not None:
        base = _undone(change, current, edit, folder)
        if base != current:
            _refuse_obstacles(file)
        if base is None or (change.before is None and base.strip() in EMPTY):
            _remove(file, change.folders)
        elif base != current:
            write(file, base)
    (folder / COPY).unlink(missing_ok=True)
    (folder / RECORD).unlink()
    return file


def write(file: Path, text: str) -> None:
    """Write a file as a whole, in the place of one that is there, with its mode and its group.

    Where it is a link, what it leads to is replaced. Raises `LeftAlone`.
    """
    path = Path(os.path.realpath(file))
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
        known = path.stat() if path.exists() else None
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb") as opened:
            if known is not None:
                with suppress(OSError):
                    os.fchown(opened.fileno(), -1, known.st_gid)
                os.fchmod(opened.fileno(), stat.S_IMODE(known.st_mode))
            opened.write(text.encode())
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise LeftAlone(f"can't be written: {error.strerror}") from None


def _undone(change: Change, text: str, edit: Edit, folder: Path) -> str | None:
    """What the file was before the change, as far as it is still that."""
    before = _read(folder / COPY) if change.before is not None else None
    # A copy that is not what was copied is no help.
    sound = _hash(before) == change.before
    if sound and _hash(text) == change.after:
        return before
    return edit.drop(text, before if sound and before else "")


def _change(folder: Path) -> Change | None:
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Change)
    except (OSError, msgspec.MsgspecError):
        return None


def _read(file: Path) -> str | None:
    """The text of a file, None if there is none."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise LeftAlone("is no file")
        return file.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise LeftAlone("is no text in UTF-8") from None
    except OSError as error:
        raise LeftAlone(f"can't be read: {error.strerror}") from None


def _hash(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _refuse_obstacles(file: Path) -> None:
    """Raise `LeftAlone` where replacing a file would be against what its owner has arranged.

    A rename asks the folder alone, whatever the file says.
    """
    path = Path(os.path.realpath(file))
    folder = next(each for each in path.parents if os.path.lexists(each))
    if folder.stat().st_uid != os.geteuid():
        raise LeftAlone("belongs to another account")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LeftAlone("is in a folder that can't be written")
    if not path.exists():
        return
    known = path.stat()
    if known.st_uid != os.geteuid():
        raise LeftAlone("belongs to another account")
    if not known.st_mode & stat.S_IWUSR:
        raise LeftAlone("is read-only")
    if known.st_nlink > 1:
        raise LeftAlone("has a second name, which would keep the old text")


def _missing_folders(file: Path) -> list[str]:
    parents = Path(os.path.realpath(file)).parents
    return [str(each) for each in reversed(parents) if not os.path.lexists(each)]


def _remove(file: Path, folders: list[str]) -> None:
    try:
        Path(os.path.realpath(file)).unlink()
    except OSError as error:
        raise LeftAlone(f"can't be removed: {error.strerror}") from None
    for each in reversed(folders):
        # One that holds something by now stays.
        with suppress(OSError):
            os.rmdir(each)
