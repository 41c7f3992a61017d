"""What watching costs the server: the time of one status, and events while a dashboard reads.

The dashboard takes four statuses a second, so a status may take 2.5 ms for one percent of a core.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from bench.ceiling import EVENTS, long_script, scripted
from bench.client import count_events
from bench.plan import Plan
from bench.processes import Server
from bench.report import Figure
from mlxd.admin_token import find
from mlxd.api.admin.activity import Activity
from mlxd.api.admin.snapshots import ServerFacts, Snapshots
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import Pause, ScriptedEngine, ScriptItem
from mlxd.events import BlockDelta, BlockStart
from mlxd.messages import GenerateRequest, Message, Text

REQUESTS = 64
STATUSES = 200
"""Statuses of one measurement."""
GOAL = 2.5
"""Milliseconds of a status."""
STREAMS = 8
"""Streams while events are counted."""


def watching(plan: Plan) -> Iterator[Figure]:
    """The time of a status with 64 requests; events a second with and without a dashboard."""
    times: list[tuple[float, float | None]] = []
    for turn in range(plan.rounds):
        times.append((asyncio.run(status_time()), None))
        plan.say(f"admin, round {turn + 1}: {times[-1][0]:.2f} ms a status")
    yield Figure("processor time of a status", "ms", GOAL, times, REQUESTS)
    rates: list[tuple[float, float | None]] = []
    with scripted(long_script(EVENTS // STREAMS)) as server:
        server.wait("GET", "/health")
        for turn in range(plan.rounds):
            watched = asyncio.run(rate(server, watched=True))
            alone = asyncio.run(rate(server, watched=False))
            rates.append((watched, alone))
            plan.say(f"admin, round {turn + 1}: {watched:,.0f} events/s watched, {alone:,.0f} not")
    yield Figure("HTTP side, watched and not", "events/s", None, rates, STREAMS)


async def status_time() -> float:
    """Milliseconds of processor time that a status takes, while many requests run."""
    engine = ScriptedEngine(slowly, max_batch=REQUESTS)
    snapshots = Snapshots(Settings(), engine, Activity(engine), ServerFacts())
    async with contextlib.AsyncExitStack() as stack:
        for number in range(REQUESTS):
            generation = await stack.enter_async_context(engine.generate(question(number)))
            await anext(aiter(generation))
        begun = time.process_time()
        for _ in range(STATUSES):
            snapshots.latest(older=0.0)
        return 1000 * (time.process_time() - begun) / STATUSES


def question(number: int) -> GenerateRequest:
    """A request like no other, so that each is a conversation of its own."""
    text = Text(f"question {number}")
    return GenerateRequest(f"req_{number}", "scripted", (Message("user", (text,)),))


def slowly(request: GenerateRequest) -> Iterator[ScriptItem]:
    """An answer that begins and then waits."""
    yield BlockStart(0, Text(""))
    yield BlockDelta(0, "token")
    yield Pause(3600.0)


async def rate(server: Server, *, watched: bool) -> float:
    """Events a second, with a reader of `/admin/events` or without."""
    async with contextlib.AsyncExitStack() as stack:
        if watched:
            await stack.enter_async_context(dashboard(server))
        count, seconds = await count_events(server.port, STREAMS)
    return count / seconds


@contextlib.asynccontextmanager
async def dashboard(server: Server) -> AsyncIterator[None]:
    """A reader of `/admin/events` meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = (
        f"GET /admin/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {token(server)}\r\n\r\n"
    )
    writer.write(head.encode())
    await reader.readuntil(b"event: status")
    reading = asyncio.create_task(reader.read(-1))
    try:
        yield
    finally:
        writer.close()
        await asyncio.gather(reading, return_exceptions=True)


def token(server: Server) -> str:
    """The server's admin token, as it lies in this account's folder."""
    access = find(f"http://127.0.0.1:{server.port}")
    if access is None:
        raise RuntimeError("the server has left no admin token")
    return access.token
