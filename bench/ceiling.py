"""How many events a second the HTTP side can carry: the scripted engine, no model.

The client is this process and the server another, so on two cores each has one of its own.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.client import count_events
from bench.plan import Plan
from bench.processes import MLXD, Server, serving
from bench.report import Figure

GOAL = 30_000
CONNECTIONS = (1, 8, 32)
EVENTS = 64_000
"""Events of one measurement, over all connections."""
SINGLE_EVENTS = 16_000
DELTA = " token"


def event_ceiling(plan: Plan) -> Iterator[Figure]:
    """Events a second over several streams at once.

    First as the server sends them when it is the bottleneck: what is ready goes out together. Then
    the worst case: a write for each event.
    """
    for connections in CONNECTIONS:
        events = EVENTS // connections
        rates = measure(plan, long_script(events), connections)
        yield Figure("HTTP side alone", "events/s", GOAL, rates, connections)
    events = SINGLE_EVENTS // CONNECTIONS[-1]
    rates = measure(plan, long_script(events, apart=True), CONNECTIONS[-1])
    yield Figure("HTTP side alone, a write each", "events/s", None, rates, CONNECTIONS[-1])


def measure(plan: Plan, script: str, connections: int) -> list[tuple[float, None]]:
    """Events a second of each round."""
    rates: list[tuple[float, None]] = []
    with scripted(script) as server:
        server.wait("GET", "/health")
        for turn in range(plan.rounds):
            count, seconds = asyncio.run(count_events(server.port, connections))
            rates.append((count / seconds, None))
            rate = f"{count / seconds:,.0f}/s"
            plan.say(f"events, round {turn + 1}, {connections} streams: {rate}")
    return rates


@contextlib.contextmanager
def scripted(script: str) -> Iterator[Server]:
    """`mlxd serve --scripted` with the defaults and no log of single requests."""
    with tempfile.TemporaryDirectory() as folder:
        config, file = Path(folder) / "mlxd.toml", Path(folder) / "script.json"
        config.write_text("", encoding="utf-8")
        file.write_text(script, encoding="utf-8")
        command = [*MLXD, "serve", "--config", str(config), "--scripted", str(file)]
        with serving("mlxd", [*command, "--log-level", "warning"], {}) as server:
            yield server


def long_script(deltas: int, *, apart: bool = False) -> str:
    """One answer in many small pieces; `apart` forbids to send two of them together."""
    delta = {"type": "block_delta", "index": 0, "text": DELTA}
    pieces = [{"pause": 0}, delta] if apart else [delta]
    answer = [
        {"type": "block_start", "index": 0, "part": {"type": "text", "text": ""}},
        *(pieces * deltas),
        {"type": "block_end", "index": 0, "part": {"type": "text", "text": DELTA * deltas}},
    ]
    return json.dumps([answer])
