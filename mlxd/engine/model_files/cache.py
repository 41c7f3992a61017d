"""The hub's cache on this machine, read as it lies there: importing its client takes longer than
all else that a command does."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mlxd.engine.model_files.sources import COMMIT, MAIN, Repository, repository

PART = ".mlxd.incomplete"
"""Ends the name of a file that is partly here, behind the name that it will have."""
PREFIX = "models--"


def cache_root() -> Path:
    """Where the hub's client keeps repositories."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(os.path.expandvars(os.path.expanduser(named or os.path.join(home, "hub"))))


def folder_of(name: str) -> Path:
    """The folder of a repository."""
    return cache_root() / f"{PREFIX}{name.replace('/', '--')}"


def snapshot_of(wanted: Repository) -> Path | None:
    """The files of a repository as they are at the revision; None if it is not here."""
    cached = folder_of(wanted.name)
    commit = _commit(cached / "refs" / (wanted.revision or MAIN))
    folder = cached / "snapshots" / (commit or wanted.revision or MAIN)
    return folder if (folder / "config.json").is_file() else None


def snapshots_of(wanted: Repository) -> list[Path]:
    """The folders of a repository: of the revision, or of every one where none is named."""
    if wanted.revision:
        found = snapshot_of(wanted)
        return [] if found is None else [found]
    return [path for path in (folder_of(wanted.name) / "snapshots").glob("*") if path.is_dir()]


def cached_sources() -> tuple[Repository, ...]:
    """The repositories that the cache has a folder of, by name, each revision by itself."""
    found = []
    for cached in sorted(cache_root().glob(f"{PREFIX}*--*")):
        name = cached.name.removeprefix(PREFIX).replace("--", "/", 1)
        if repository(name) is not None:
            found += [Repository(name, revision) for revision in _revisions(cached)]
    return tuple(found)


def partial_bytes(name: str) -> int:
    """Bytes of a repository's files that are here, if a download of it was broken off."""
    blobs = list((folder_of(name) / "blobs").glob("*"))
    broken_off = any(path.suffix == ".incomplete" for path in blobs)
    return sum(path.stat().st_size for path in blobs) if broken_off else 0


def _revisions(cached: Path) -> Iterator[str]:
    """The names of what is here: the main branch as an empty one, commits that no branch names."""
    refs = [path for path in sorted((cached / "refs").rglob("*")) if path.is_file()]
    names = {path.relative_to(cached / "refs").as_posix(): _commit(path) for path in refs}
    yield ""
    yield from (name for name in names if name != MAIN)
    for folder in sorted((cached / "snapshots").glob("*")):
        if folder.name not in names.values() and COMMIT.fullmatch(folder.name):
            yield folder.name


def _commit(reference: Path) -> str:
    try:
        text = reference.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if re.fullmatch(r"[\w-]+", text, re.ASCII) else ""
