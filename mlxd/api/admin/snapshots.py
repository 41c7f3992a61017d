"""One `Status` of the parts that engine, store, activity and server have of it."""

import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from mlxd import __version__
from mlxd.api.admin.activity import Activity
from mlxd.api.http.health import health_of
from mlxd.config.changes import ChangedKey
from mlxd.config.engine_specs import default_model
from mlxd.config.machine import resident_bytes
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine
from mlxd.status import (
    Capacity,
    EngineStatus,
    ModelFacts,
    ModelInfo,
    RequestStatus,
    ServerStatus,
    Status,
    StoreStatus,
)

FRESH = 0.1
"""Seconds for which a snapshot is good enough for one more reader."""


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


async def nothing_new(_check: bool) -> Sequence[ChangedKey]:
    """The reload of a server that has no configuration to read again."""
    return ()


@dataclass(frozen=True)
class ServerFacts:
    """What only the server knows of itself."""

    token: str = field(default_factory=new_token, repr=False)
    url: str = ""
    config_file: str = ""
    connections: Callable[[], int] = int
    store: Callable[[], StoreStatus] = StoreStatus
    reload: Callable[[bool], Awaitable[Sequence[ChangedKey]]] = nothing_new
    """Reads the configuration again, only to check it or to take it; raises `ConfigError`."""
    dialects: Mapping[str, str] = field(default_factory=dict)
    """The enabled dialects, and the title of each."""
    describe: Callable[[str], ModelFacts] = lambda source: ModelFacts()
    """What the files of a model's source say; reads them."""


class Snapshot(NamedTuple):
    """A status as JSON, and the version of the activity that it shows."""

    version: int
    data: bytes


class Snapshots:
    """Makes snapshots, and shares each with all who ask at about the same time."""

    def __init__(
        self, settings: Settings, engine: Engine, activity: Activity, facts: ServerFacts
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._activity = activity
        self._facts = facts
        self._began = time.monotonic()
        self._taken = -FRESH
        self._latest = Snapshot(-1, b"")

    def latest(self, *, older: float = FRESH) -> Snapshot:
        """A snapshot that is not `older`, in seconds."""
        now = time.monotonic()
        if now - self._taken >= older:
            version = self._activity.version
            self._latest = Snapshot(version, msgspec.json.encode(self.status()))
            self._taken = now
        return self._latest

    def status(self) -> Status:
        """Everything, now."""
        engine, activity, settings = self._engine.status(), self._activity, self.settings
        engine = replace(
            engine,
            requests=tuple(self._with_activity(each, engine.models) for each in engine.requests),
            models=tuple(self._with_use(model, engine.requests) for model in engine.models),
        )
        rates: dict[str, float] = {}
        for each in engine.requests:
            rates[each.conversation] = rates.get(each.conversation, 0.0) + each.rate
        return Status(
            server=self._server(engine),
            engine=engine,
            capacity=Capacity(
                max_batch=settings.engine.max_batch,
                max_queue=settings.server.max_queue,
            ),
            conversations=activity.conversations.statuses(rates),
            rates=activity.counts.rates(),
            totals=activity.totals,
            store=self._facts.store(),
        )

    def _server(self, engine: EngineStatus) -> ServerStatus:
        draining = engine.state in ("stopping", "stopped")
        return ServerStatus(
            version=__version__,
            state="draining" if draining else "serving",
            health=health_of(engine, self.settings.engine.stall_timeout),
            reason=engine.reason,
            at=round(time.time(), 3),
            pid=os.getpid(),
            uptime=round(time.monotonic() - self._began, 3),
            url=self._facts.url,
            config_file=self._facts.config_file,
            dialects=dict(self._facts.dialects),
            memory=resident_bytes(),
            connections=self._facts.connections(),
        )

    def _with_use(self, model: ModelInfo, requests: Iterable[RequestStatus]) -> ModelInfo:
        return replace(
            model,
            progress=1.0 if model.state == "loaded" else model.progress,
            running=sum(each.model == model.id and each.phase != "queued" for each in requests),
            default=model.id == default_model(self.settings),
        )

    def _with_activity(self, status: RequestStatus, models: Iterable[ModelInfo]) -> RequestStatus:
        usual = next((model.max_tokens for model in models if model.id == status.model), 0)
        status = replace(status, max_tokens=status.max_tokens or usual)
        if (live := self._activity.live.get(status.id)) is None:
            return status
        return replace(status, conversation=live.conversation, text=live.tail)
