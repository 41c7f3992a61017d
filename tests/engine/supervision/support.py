"""Supervisors over the fake engine process, and proof that they leave nothing behind."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.event_buffer import Unread
from mlxd.engine.supervision.request import BlockFactory
from mlxd.engine.supervision.restarts import RestartPolicy
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import MlxdError, revive
from mlxd.events import Event, Failed
from mlxd.messages import GenerateRequest
from tests.engine.support import ask, events_of, until

FAKE = Path(__file__).with_name("fake_process.py")
NAMES = ("small", "large", "broken", "stuck", "huge", "slow")
MODELS = tuple(ModelSpec(name, source=name) for name in NAMES)
AT_ONCE = RestartPolicy(base=0.0, longest=0.0, limit=1000)
LIMITS = EngineLimits()
READERS = Unread()


def say(text: str, model: str = "small") -> GenerateRequest:
    return ask(text, model=model)


class Lab:
    """A folder in which engine processes run for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = (sys.executable, str(FAKE), str(folder))

    def faults(self, *lines: str) -> None:
        """What befalls the next processes, one line each."""
        (self.folder / "faults").write_text("\n".join(lines))

    def go(self) -> None:
        """Let the paused answers go on."""
        (self.folder / "go").touch()

    def make(
        self,
        *,
        limits: EngineLimits = LIMITS,
        restarts: RestartPolicy = AT_ONCE,
        unread: Unread = READERS,
        load_timeout: float = 30.0,
        stall_timeout: float = 30.0,
        preload: str | None = "small",
        blocks: BlockFactory = BlockBuilder,
    ) -> Supervisor:
        return Supervisor(
            MODELS,
            limits,
            preload=preload,
            stall_timeout=stall_timeout,
            load_timeout=load_timeout,
            command=self.command,
            restarts=restarts,
            unread=unread,
            blocks=blocks,
        )

    @asynccontextmanager
    async def running(self, supervisor: Supervisor) -> AsyncIterator[Supervisor]:
        """Start it, stop it, and look for what it leaves behind."""
        async with leaving_nothing(), self.started(supervisor):
            yield supervisor

    @asynccontextmanager
    async def started(self, supervisor: Supervisor) -> AsyncIterator[Supervisor]:
        """Start it and stop it; no two processes may have met."""
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop(0)
        status = supervisor.status()
        assert (status.state, status.pid, status.requests) == ("stopped", 0, ())
        assert status.idle_seconds == 0, "something is still being watched"
        assert not (self.folder / "crowded").exists(), "two processes at once"


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """No more tasks and open files afterwards than before."""
    tasks, files = asyncio.all_tasks(), open_files()
    yield
    await until(lambda: open_files() <= files and asyncio.all_tasks() <= tasks)


def open_files() -> int:
    """How many files this process has open."""
    return len(os.listdir("/dev/fd"))


async def until_ready(supervisor: Supervisor) -> None:
    await until(lambda: is_settled(supervisor))


async def until_active(supervisor: Supervisor, rows: int) -> None:
    """Wait until the engine process has so many rows."""
    for _ in range(1000):
        if await supervisor.count_tokens(say("active")) == rows:
            return
    raise AssertionError(f"the process never had {rows} rows")


def is_settled(supervisor: Supervisor) -> bool:
    status = supervisor.status()
    return status.state == "ready" and all(model.state != "loading" for model in status.models)


async def outcome(supervisor: Supervisor, request: GenerateRequest) -> list[Event] | MlxdError:
    """The events of a request, or the error it ended with, before or after the first event."""
    try:
        events = await events_of(supervisor, request)
    except MlxdError as error:
        return error
    return revive(events[-1].error) if isinstance(events[-1], Failed) else events


async def outcomes(supervisor: Supervisor, texts: Iterable[str]) -> list[list[Event] | MlxdError]:
    return await asyncio.gather(*(outcome(supervisor, say(text)) for text in texts))
