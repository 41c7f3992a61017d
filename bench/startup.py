"""How soon the server answers after its start, and what it weighs before its first request."""

import compileall
from collections.abc import Iterator
from pathlib import Path

import mlxd as package
from bench.plan import Plan
from bench.processes import mlxd
from bench.report import Figure

HEALTH_GOAL = 1.0
MEMORY_GOAL = 120.0


def start_and_memory(plan: Plan) -> Iterator[Figure]:
    """Each round is a new server; its model loads meanwhile in the engine process."""
    health: list[tuple[float, float | None]] = []
    memory: list[tuple[float, float | None]] = []
    # As an installer does. In a clone the first start after a change would be the slower one.
    compileall.compile_dir(Path(package.__file__).parent, quiet=1)
    for turn in range(plan.rounds):
        with mlxd(plan.model, {}) as server:
            health.append((server.wait("GET", "/health"), None))
            memory.append((server.resident_bytes() / 1e6, None))
        plan.say(f"start, round {turn + 1}: {health[-1][0]:.2f} s, {memory[-1][0]:.0f} MB")
    yield Figure("start to /health", "s", HEALTH_GOAL, health)
    yield Figure("server process before traffic", "MB", MEMORY_GOAL, memory)
