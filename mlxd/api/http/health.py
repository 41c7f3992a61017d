"""What `/health` says: the engine's own view of itself, in one word and in detail."""

from typing import Literal

import msgspec

from mlxd import __version__
from mlxd.status import EngineState, EngineStatus, ModelState

Health = Literal["ok", "loading", "restarting", "stalled", "failed", "draining"]

SERVING: tuple[Health, ...] = ("ok", "loading")
"""Requests are taken; while a model loads they wait."""


def health_of(status: EngineStatus, stall_timeout: float) -> Health:
    """One word for the state; `stall_timeout` in seconds."""
    match status.state:
        case "starting":
            return "loading"
        case "ready" if status.idle_seconds > stall_timeout:
            return "stalled"
        case "ready":
            states = {model.state for model in status.models}
            if states == {"failed"}:
                return "failed"
            return "loading" if "loading" in states and "loaded" not in states else "ok"
        case "stopping" | "stopped":
            return "draining"
        case "restarting" | "failed" as state:
            return state


class EngineHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The engine process; `reason` says why it does not serve."""

    state: EngineState
    reason: str
    restarts: int
    uptime: float
    device: str


class ModelHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """A configured model; what is not known yet, or says nothing, is left out.

    `bytes` and `context_length` (tokens) are known once it was loaded, `progress` (to 1) while it
    loads, `reason` when it has failed.
    """

    id: str
    state: ModelState
    reason: str = ""
    aliases: tuple[str, ...] = ()
    context_length: int = 0
    bytes: int = 0
    progress: float = 0.0


class RequestsHealth(msgspec.Struct, frozen=True):
    """How many requests have a slot, and how many wait for one."""

    running: int
    waiting: int


class ApiHealth(msgspec.Struct, frozen=True):
    """An enabled API; `base_path` is what its clients want behind the server's address."""

    name: str
    title: str
    base_path: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state with its reasons, for callers who may know them; nothing of what they ask."""

    status: Health
    version: str
    engine: EngineHealth
    models: tuple[ModelHealth, ...]
    requests: RequestsHealth
    apis: tuple[ApiHealth, ...]


def health_report(
    status: EngineStatus, health: Health, apis: tuple[ApiHealth, ...]
) -> HealthReport:
    """The report on an engine whose health is `health`."""
    waiting = sum(request.phase == "queued" for request in status.requests)
    return HealthReport(
        status=health,
        version=__version__,
        engine=EngineHealth(
            state=status.state,
            reason=status.reason,
            restarts=status.restarts,
            uptime=round(status.uptime, 1),
            device=status.device,
        ),
        models=tuple(
            ModelHealth(
                model.id,
                model.state,
                reason=model.reason,
                aliases=model.aliases,
                context_length=model.context_length,
                bytes=model.bytes,
                progress=round(model.progress, 3) if model.state == "loading" else 0.0,
            )
            for model in status.models
        ),
        requests=RequestsHealth(len(status.requests) - waiting, waiting),
        apis=apis,
    )
