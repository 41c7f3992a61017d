"""Stores for tests: a clock that is told what time it is, and short ways to say what is put."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlxd.config.settings import ConversationSettings
from mlxd.history import Item, ResponseState, StoredResponse
from mlxd.store.clock import StoreClock
from mlxd.store.conversations import ConversationStore
from mlxd.store.database import MEMORY

Kind = Literal["sqlite", "memory"]
KINDS: tuple[Kind, ...] = ("sqlite", "memory")
TTL = 1000.0
INTERVAL = 60.0
"""Between two sweeps of a store with that time to live."""
ME, OTHER = "me", "other"


class FakeClock:
    """Both clocks of a machine: `pass_time` moves them, `set_wall` is somebody setting the date."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 5_000.0
        self.boot = 1

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def set_wall(self, by: float) -> None:
        self.wall += by

    def reboot(self, seconds: float) -> None:
        """The machine was off for that long."""
        self.wall += seconds
        self.monotonic = 3.0
        self.boot += 1

    def clock(self) -> StoreClock:
        return StoreClock(lambda: self.wall, lambda: self.monotonic, lambda: f"boot {self.boot}")


def store_file(folder: Path) -> Path:
    return folder / "data" / "conversations.sqlite3"


def archive_of(folder: Path) -> Path:
    return folder / "data" / "conversation_logs"


def make(
    folder: Path,
    kind: Kind = "sqlite",
    *,
    clock: FakeClock | None = None,
    sweeping: bool = True,
    **options: Any,
) -> ConversationStore:
    """A store in `folder` that is not open yet; `options` are settings of `[conversations]`."""
    settings = ConversationSettings(**{"store": kind, "ttl": TTL, "archive": False, **options})
    path = store_file(folder) if kind == "sqlite" else MEMORY
    archive = archive_of(folder) if settings.archive else None
    return ConversationStore(
        settings,
        path,
        archive,
        clock=(clock or FakeClock()).clock(),
        reserve=1024 * 1024,
        sweeping=sweeping,
    )


@asynccontextmanager
async def opened(
    folder: Path, kind: Kind = "sqlite", *, clock: FakeClock | None = None, **options: Any
) -> AsyncIterator[ConversationStore]:
    store = make(folder, kind, clock=clock, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def item(name: str, text: str = "") -> Item:
    return Item(name, msgspec.json.encode({"id": name, "type": "message", "text": text or name}))


def items(*names: str) -> tuple[Item, ...]:
    return tuple(map(item, names))


def names(found: tuple[Item, ...]) -> list[str]:
    return [each.id for each in found]


def response(
    name: str, state: ResponseState = "completed", *, owner: str = ME, **fields: Any
) -> StoredResponse:
    """A response that says of itself what it is."""
    body = msgspec.json.encode({"id": name, "object": "response", "status": state})
    return StoredResponse(id=name, owner=owner, created=1.0, state=state, body=body, **fields)


def turn(name: str, *, previous: str = "", **fields: Any) -> StoredResponse:
    """A finished response with one item in and one out, named after it."""
    asked, said = items(f"{name}_in"), items(f"{name}_out")
    return response(name, input=asked, output=said, previous=previous, **fields)
