"""The token of a running server's admin endpoint, left where programs of the same account find it.

One file a port, readable by its owner alone. The server holds a lock on its file while it lives, so
that the file of a server that was killed is told apart from that of one that runs.
"""

import fcntl
import ipaddress
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import platformdirs

OWNER_ONLY = 0o600


@dataclass(frozen=True)
class Access:
    """How to reach a server's admin endpoint, and the process that it is.

    `started` is in seconds since 1970, `birth` what `mlxd.service.processes` says of the process,
    and `started_by` a `terminal`, a `service` or the `background`.
    """

    url: str
    token: str = field(repr=False)
    pid: int = 0
    started: float = 0.0
    birth: str = ""
    started_by: str = ""


def folder() -> Path:
    """Where the files are unless a server is told otherwise."""
    return platformdirs.user_state_path("mlxd")


def chosen(token_file: str, config_file: Path | None) -> Path | None:
    """The file that the setting names, None for the usual one.

    A relative path starts at the folder of the configuration file.
    """
    if not token_file:
        return None
    base = config_file.absolute().parent if config_file is not None else Path.cwd()
    return base / Path(token_file).expanduser()


@contextmanager
def published(access: Access, file: Path | None = None) -> Iterator[Path]:
    """Leave `access` in `file` (one of this port in `folder()` if None) meanwhile.

    Raises `OSError` when it can't be written; what was there before is replaced.
    """
    path = file or folder() / f"admin-{_place(access.url)[1]}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _tidy(path.parent)
    # A new file under a name of its own: nobody has it open, and it is never half written.
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with _created(new) as opened:
        try:
            _lock(opened, fcntl.LOCK_EX)
            json.dump(asdict(access), opened)
            opened.flush()
            new.replace(path)
            yield path
        finally:
            new.unlink(missing_ok=True)
            _remove(path, opened)


def find(url: str | None = None, file: Path | None = None) -> Access | None:
    """The access to the server at `url`, or the one that was started last; None if there is none.

    The token of a server on this machine is never given for an address that is not this machine.
    `file` is where the configuration has it, if it says so.
    """
    found = running(file)
    if url is not None:
        found = [access for access in found if _same_place(access.url, url)]
    return max(found, key=lambda access: access.started, default=None)


def running(file: Path | None = None) -> list[Access]:
    """The access to every server of this account that lives, also one that left it in `file`."""
    files = [*([file] if file is not None else []), *sorted(folder().glob("admin-*.json"))]
    return [access for each in files if (access := _read(each)) is not None]


def _read(path: Path) -> Access | None:
    """What a server that lives has left in `path`."""
    try:
        with path.open(encoding="utf-8") as opened:
            known = os.fstat(opened.fileno())
            if known.st_uid != os.getuid() or known.st_mode & 0o077 or not _held(opened):
                return None
            entry = json.load(opened)
            # Raises for what is no address, as of no server.
            _place(str(entry["url"]))
            return Access(
                *(str(entry["url"]), str(entry["token"])),
                *(int(entry["pid"]), float(entry["started"])),
                birth=str(entry.get("birth", "")),
                started_by=str(entry.get("started_by", "")),
            )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _created(path: Path) -> IO[str]:
    """A new file that its owner alone may read from the beginning."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w")


def _tidy(where: Path) -> None:
    """Remove what servers that were killed have left in the usual folder."""
    if where != folder():
        return
    for path in where.glob("admin-*.json"):
        with suppress(OSError), path.open() as opened:
            if not _held(opened):
                _remove(path, opened)


def _held(opened: IO[str]) -> bool:
    """Whether the server that wrote the file lives."""
    return not _lock(opened, fcntl.LOCK_SH)


def _lock(opened: IO[str], kind: int) -> bool:
    """Whether the lock was there to be taken."""
    try:
        fcntl.flock(opened.fileno(), kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: Path, opened: IO[str]) -> None:
    """Take the file away, unless it is another server's by now."""
    with suppress(OSError):
        if os.path.samestat(path.stat(), os.fstat(opened.fileno())):
            path.unlink()


def _same_place(one: str, other: str) -> bool:
    try:
        return _place(one) == _place(other)
    except ValueError:
        return False


def _place(url: str) -> tuple[str, int]:
    """Host and port of a URL, every name of this machine being the same."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return ("localhost" if _is_loopback(host) else host), port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
