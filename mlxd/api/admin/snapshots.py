"""One `Status` made of what the engine, the activity and the server know."""

import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from mlxd import __version__
from mlxd.api.admin.activity import Activity
from mlxd.api.http.health import health_of
from mlxd.config.engine_specs import default_model, engine_limits
from mlxd.config.machine import resident_bytes
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine, EngineStatus, ModelInfo, RequestStatus
from mlxd.history import StoreStatus
from mlxd.status import (
    EnginePart,
    ModelPart,
    PrefixPart,
    RequestPart,
    ServerPart,
    Status,
    StorePart,
)

FRESH = 0.1
"""Seconds for which a snapshot is good enough for one more reader."""


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _no_connections() -> int:
    return 0


def _no_store() -> StoreStatus | None:
    return None


@dataclass(frozen=True)
class Facts:
    """What only the server knows of itself."""

    token: str = field(default_factory=new_token, repr=False)
    url: str = ""
    config_file: str = ""
    connections: Callable[[], int] = _no_connections
    store: Callable[[], StoreStatus | None] = _no_store


class Snapshot(NamedTuple):
    """A status as JSON, and the version of the activity that it shows."""

    version: int
    data: bytes


class Snapshots:
    """Makes snapshots, and shares each with all who ask at about the same time."""

    def __init__(
        self, settings: Settings, engine: Engine, activity: Activity, facts: Facts
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._activity = activity
        self._facts = facts
        self._default = default_model(settings)
        self._prefix_limit = engine_limits(settings).prefix_cache_bytes
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
        engine, activity = self._engine.status(), self._activity
        requests = [self._request(each, engine.models) for each in engine.requests]
        rates: dict[str, float] = {}
        for part in requests:
            rates[part.conversation] = rates.get(part.conversation, 0.0) + part.rate
        return Status(
            server=self._server(engine),
            engine=self._engine_part(engine),
            models=tuple(self._model(model, requests) for model in engine.models),
            max_queue=self._settings.server.max_queue,
            waiting=tuple(part for part in requests if part.phase == "queued"),
            running=tuple(part for part in requests if part.phase != "queued"),
            conversations=activity.conversations.parts(rates),
            rates=activity.rings.rates(),
            prefixes=PrefixPart(
                entries=engine.prefix_entries,
                bytes=engine.prefix_bytes,
                limit=self._prefix_limit,
                hits=engine.prefix_hits,
                hit_tokens=engine.prefix_hit_tokens,
            ),
            totals=activity.totals,
            store=self._store(),
        )

    def _server(self, engine: EngineStatus) -> ServerPart:
        draining = engine.state in ("stopping", "stopped")
        return ServerPart(
            version=__version__,
            state="draining" if draining else "serving",
            health=health_of(engine, self._settings.engine.stall_timeout),
            reason=engine.reason,
            at=round(time.time(), 3),
            pid=os.getpid(),
            uptime=_rounded(time.monotonic() - self._began),
            url=self._facts.url,
            config_file=self._facts.config_file,
            dialects=self._settings.dialects,
            memory=resident_bytes(),
            connections=self._facts.connections(),
        )

    def _engine_part(self, engine: EngineStatus) -> EnginePart:
        return EnginePart(
            state=engine.state,
            reason=engine.reason,
            pid=engine.pid,
            uptime=_rounded(engine.uptime),
            device=engine.device,
            blas=engine.blas,
            restarts=engine.restarts,
            last_restarts=engine.last_restarts,
            idle=_rounded(engine.idle_seconds),
            memory_used=engine.memory_used,
            memory_peak=engine.memory_peak,
            memory_limit=engine.memory_limit,
            step=round(engine.step_seconds, 6),
            max_batch=self._settings.engine.max_batch,
        )

    def _model(self, model: ModelInfo, requests: Iterable[RequestPart]) -> ModelPart:
        return ModelPart(
            id=model.id,
            state=model.state,
            source=model.source,
            aliases=model.aliases,
            reason=model.reason,
            progress=_rounded(1.0 if model.state == "loaded" else model.progress),
            bytes=model.bytes,
            context_length=model.context_length,
            running=sum(each.model == model.id and each.phase != "queued" for each in requests),
            default=model.id == self._default,
        )

    def _request(self, status: RequestStatus, models: Iterable[ModelInfo]) -> RequestPart:
        live, source = self._activity.live.get(status.id), status.source
        usual = next((model.max_tokens for model in models if model.id == status.model), 0)
        return RequestPart(
            id=status.id,
            dialect=status.dialect,
            model=status.model,
            asked_model=source.asked_model,
            client=source.client,
            agent=source.agent,
            conversation=live.conversation if live else "",
            phase=status.phase,
            stream=source.stream,
            age=_rounded(status.age),
            queued=_rounded(status.queued),
            prefill=_rounded(status.prefill),
            decode=_rounded(status.decode),
            first_token=_rounded(status.first_token),
            prompt_tokens=status.prompt_tokens,
            cached_tokens=status.cached_tokens,
            prefilled_tokens=status.prefilled_tokens,
            completion_tokens=status.completion_tokens,
            max_tokens=status.max_tokens or usual,
            rate=round(status.rate, 2),
            cache_note=status.cache_note,
            wait_note=status.wait_note,
            text=live.tail if live else "",
        )

    def _store(self) -> StorePart:
        store = self._facts.store()
        if store is None:
            return StorePart()
        return StorePart(
            kind=store.kind,
            path=store.path,
            bytes=store.bytes,
            responses=store.responses,
            conversations=store.conversations,
            problem=store.problem,
        )


def _rounded(seconds: float) -> float:
    return round(seconds, 6)
