"""The archive: what expires, as one readable JSON file for each conversation.

Names are made from ids that the server made; anything else is hashed. A file is there whole or not
at all, and nothing is written through a symbolic link.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from mlxd.history import Item
from mlxd.store.expiry import ExpiryGroup
from mlxd.store.queries import Queries

VERSION = 1
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)


class _Response(msgspec.Struct, omit_defaults=True, kw_only=True):
    id: str
    created: str
    state: str
    previous: str = ""
    conversation: str = ""
    input: tuple[msgspec.Raw, ...]
    response: msgspec.Raw


class _Archived(msgspec.Struct, omit_defaults=True, kw_only=True):
    """`items` are those of the conversation; a chain has them in its responses."""

    version: int = msgspec.field(default_factory=lambda: VERSION)
    id: str
    owner: str
    archived: str
    metadata: msgspec.Raw | None = None
    created: str = ""
    items: tuple[msgspec.Raw, ...] = ()
    responses: tuple[_Response, ...] = ()


def archived(queries: Queries, group: ExpiryGroup, *, now: float) -> bytes:
    """The file of a group; `now` is in seconds since 1970."""
    whole = _Archived(
        id=group.name,
        owner=group.owner,
        archived=_time(now),
        responses=tuple(
            _Response(
                id=response.id,
                created=_time(response.created),
                state=response.state,
                previous=response.previous,
                conversation=response.conversation,
                input=_raws(response.input),
                response=_raw(response.body),
            )
            for response in queries.responses_of(group.id)
        ),
    )
    if found := queries.conversation_of(group.id):
        conversation, items = found
        whole.created = _time(conversation.created)
        whole.metadata = _raw(conversation.metadata)
        whole.items = _raws(items)
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def write(folder: Path, name: str, data: bytes) -> str:
    """Write a file of the archive and return its name; raises `OSError`."""
    final = f"{name if _SAFE.fullmatch(name) else sha256(name.encode()).hexdigest()}.json"
    temporary = f".{final}.{os.getpid()}.tmp"
    with _opened(folder) as directory:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
                file.write(data)
                file.flush()
                # Before the rename: after a loss of power the name could lead to an empty file.
                os.fsync(file.fileno())
            os.replace(temporary, final, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        # What is archived is deleted from the store next: its name must be on the disk by then.
        os.fsync(directory)
    return final


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The folder, made if it is not there; what it is called may change, what is open stays."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield directory
    finally:
        os.close(directory)


def _raws(items: Sequence[Item]) -> tuple[msgspec.Raw, ...]:
    return tuple(_raw(item.body) for item in items)


def _raw(body: bytes) -> msgspec.Raw:
    """JSON as it is; what is none becomes a string, so that the file can be read all the same."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.Raw(msgspec.json.encode(body.decode("utf-8", "replace")))
    return msgspec.Raw(body)


def _time(seconds: float) -> str:
    """ISO 8601 in UTC; empty for a time that no calendar has."""
    with suppress(OverflowError, OSError, ValueError):
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    return ""
