"""What `/health` says: the engine's own view of itself, in one word and in detail."""

from typing import Any, Literal

from mlxd.status import EngineStatus

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


def health_body(status: EngineStatus, health: Health) -> dict[str, Any]:
    """The state with its reasons, for callers who may know them; nothing of what they ask."""
    waiting = sum(request.phase == "queued" for request in status.requests)
    return {
        "status": health,
        "engine": {
            "state": status.state,
            "reason": status.reason,
            "restarts": status.restarts,
            "uptime": round(status.uptime, 1),
            "device": status.device,
        },
        "models": [
            {"id": model.id, "state": model.state}
            | ({"reason": model.reason} if model.reason else {})
            for model in status.models
        ],
        "requests": {"running": len(status.requests) - waiting, "waiting": waiting},
    }
