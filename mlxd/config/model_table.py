"""Adding a model to a configuration file that people write by hand: every byte of theirs stays."""

import os
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path

from mlxd.config.problems import dotted
from mlxd.config.toml_writer import entry, template
from mlxd.errors import ConfigError


def add_model(file: Path, alias: str, source: str) -> Path:
    """Write a table for a model behind all that a file says, and return the file.

    A file that is not there is made, with every key explained. Raises `ConfigError` where the table
    can't be written, or would not mean what it says; the file is as it was then.
    """
    table = f"[{dotted(('models', alias))}]\n{entry('source', source)}\n"
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _replace(file, template({alias: {"source": source}}).encode())
            return file
        before = file.read_bytes()
        after = _appended(before, table)
        if not _says(after, before, alias, source):
            raise ConfigError(str(file), "models", "can't be added to", f"Write it there:\n{table}")
        _replace(file, after)
    except OSError as error:
        reason = f"can't be written: {error.strerror}"
        raise ConfigError(str(file), "models", reason, f"Write it there:\n{table}") from None
    return file


def _appended(before: bytes, table: str) -> bytes:
    newline = b"\r\n" if b"\r\n" in before else b"\n"
    gap = newline if before.endswith((b"\n", b"\r")) or not before else newline * 2
    return before + gap + table.encode().replace(b"\n", newline)


def _says(after: bytes, before: bytes, alias: str, source: str) -> bool:
    """Whether the text says what it said before, and one model more."""
    try:
        old, new = (tomllib.loads(text.decode("utf-8-sig")) for text in (before, after))
        added = new["models"].pop(alias)
    except (ValueError, LookupError, AttributeError, TypeError):
        return False
    return bool(added == {"source": source} and new == {"models": {}, **old})


def _replace(file: Path, content: bytes) -> None:
    """Give a file its new content in one step; a link stays, and so does who may read it."""
    target = Path(os.path.realpath(file))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(content)
        if target.exists():
            os.chmod(name, target.stat().st_mode & 0o7777)
        os.replace(name, target)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise
