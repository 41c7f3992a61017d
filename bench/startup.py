"""How soon the server answers after its start, and what it weighs before its first request."""

from collections.abc import Iterator

from bench.plan import Plan
from bench.processes import mlxd
from bench.report import Figure

HEALTH_GOAL = 1.0
MEMORY_GOAL = 120.0


def start_and_memory(plan: Plan) -> Iterator[Figure]:
    """Each round is a new server; its model loads meanwhile in the engine process."""
    health: list[tuple[float, float | None]] = []
    memory: list[tuple[float, float | None]] = []
    for turn in range(plan.rounds):
        with mlxd(plan.model, {}) as server:
            health.append((server.wait("GET", "/health"), None))
            memory.append((server.resident_bytes() / 1e6, None))
        plan.say(f"start, round {turn + 1}: {health[-1][0]:.2f} s, {memory[-1][0]:.0f} MB")
    yield Figure("start to /health", "s", HEALTH_GOAL, health)
    yield Figure("server process before traffic", "MB", MEMORY_GOAL, memory)
