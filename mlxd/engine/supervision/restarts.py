"""Keeps one engine process alive: spawn, read, reap, wait, again. Never two at once."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from mlxd.engine.protocol import Command, Reply, Shutdown, encode
from mlxd.engine.supervision.process import BrokenProtocol, EngineProcess
from mlxd.errors import EngineCrashed, EngineStalled
from mlxd.status import Restart

logger = logging.getLogger(__name__)

REAP_SECONDS = 5.0
"""How long a killed process may take to go, when the server wants to end."""
LOSSES_REMEMBERED = 20
"""Lost processes that can be asked about, with the reason of each."""

Loss = EngineCrashed | EngineStalled


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How soon a dead engine is started again, in seconds.

    The first failure of a window costs no wait, the next ones `base`, twice that, and so on up to
    `longest`. From the failure number `limit` on the engine counts as failing.
    """

    base: float = 1.0
    longest: float = 4.0
    limit: int = 5
    window: float = 600.0


class Failures:
    """The failures of the last window, and what follows from them."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times: deque[float] = deque()

    @property
    def too_many(self) -> bool:
        """Whether the last failure made it `limit` of them in one window."""
        return len(self._times) >= self._policy.limit

    def record(self, now: float) -> float:
        """Take a failure at `now`; the seconds to wait before the next start."""
        self._times.append(now)
        while self._times[0] <= now - self._policy.window:
            self._times.popleft()
        if self.too_many:
            return self._policy.longest
        if len(self._times) == 1:
            return 0.0
        return min(self._policy.longest, self._policy.base * 2.0 ** (len(self._times) - 2))

    def forget(self) -> None:
        """Begin a new window."""
        self._times.clear()


class ProcessListener(Protocol):
    """Who hears of the process; called on the event loop, must not wait."""

    def spawned(self) -> None:
        """A process runs and reads its socket; nothing was sent to it yet."""

    def received(self, reply: Reply) -> None:
        """A reply came; may raise `BrokenProtocol`."""

    def lost(self, error: Loss, *, on_purpose: bool) -> None:
        """The process is gone or given up; all that was sent to it is lost."""


class RestartLoop:
    """One engine process at a time, replaced when it dies."""

    def __init__(
        self, command: Sequence[str], policy: RestartPolicy, listener: ProcessListener
    ) -> None:
        self._command = command
        self._listener = listener
        self._failures = Failures(policy)
        self._process: EngineProcess | None = None
        self._alive = False
        self._retiring = False
        self._wake = asyncio.Event()
        self._closing = False
        self._runner: asyncio.Task[None] | None = None
        self._retry_at = 0.0
        self.starts = 0
        """Processes that were started."""
        self.losses: deque[Restart] = deque(maxlen=LOSSES_REMEMBERED)

    @property
    def alive(self) -> bool:
        """Whether there is a process that has not been given up."""
        return self._alive

    @property
    def pid(self) -> int:
        """The process's number, 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def too_many_failures(self) -> bool:
        return self._failures.too_many

    @property
    def retry_in(self) -> float:
        """Seconds until the next start, 0 when it is not being waited for."""
        return max(0.0, self._retry_at - asyncio.get_running_loop().time())

    def start(self) -> None:
        """Begin; does nothing the second time, or after `retire`."""
        if self._runner is None and not self._retiring:
            self._runner = asyncio.create_task(self._run(), name="mlxd engine restarts")

    def send(self, command: Command) -> None:
        """Send to the process that is alive, if there is one."""
        self.send_frame(encode(command))

    def send_frame(self, frame: bytes) -> None:
        """Send a command that is encoded already."""
        if self._process is not None and self._alive:
            self._process.send(frame)

    def replace(self, error: Loss) -> None:
        """Give the process up and kill it; the next one starts when it is reaped."""
        if self._process is not None:
            # Lost before it is dead, so that callers have their error while it is being reaped.
            self._lose(error)
            self._process.kill()

    def restart(self, error: EngineCrashed) -> None:
        """Replace the process on purpose: that is no failure, and the next one starts at once."""
        self._failures.forget()
        if self._process is not None:
            self._lose(error, failed=False)
            self._process.kill()
        self._wake.set()

    def retire(self) -> None:
        """Start no further process; the one that is alive goes on."""
        self._retiring = True
        self._wake.set()

    async def close(self, grace: float) -> None:
        """Ask the process to end, kill it after `grace` seconds, and wait until it is reaped."""
        self.retire()
        self._closing = True
        if self._runner is None:
            return
        self.send(Shutdown())
        try:
            await asyncio.wait({self._runner}, timeout=grace)
        finally:
            # Also when the wait is cancelled: no process may outlive the server.
            if self._process is not None:
                self._process.kill()
        done, _ = await asyncio.wait({self._runner}, timeout=REAP_SECONDS)
        if not done:
            logger.error("the engine process %d does not end, even when killed", self.pid)
            self._runner.cancel()

    async def _run(self) -> None:
        while not self._retiring:
            self._wake.clear()
            try:
                await self._live()
            except Exception:
                logger.exception("the supervision of the engine process failed")
                self._lose(EngineCrashed(reason="the server failed to read it"))
            self._alive = False
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._retry_at):
                    await self._wake.wait()

    async def _live(self) -> None:
        """One process from spawn to reap."""
        self._alive = True
        try:
            process = self._process = await EngineProcess.spawn(self._command)
        except OSError as error:
            self._lose(EngineCrashed(reason=f"it could not be started: {error.strerror}"))
            return
        self.starts += 1
        try:
            if not self._closing:
                self._lose(EngineCrashed(reason=await self._serve(process)))
        finally:
            await process.reap()
            self._process = None

    async def _serve(self, process: EngineProcess) -> str:
        """Pass replies on until the process ends; the reason why it did."""
        self._listener.spawned()
        try:
            while replies := await process.receive():
                for reply in replies:
                    # A process that was given up may still have said something.
                    if self._alive:
                        self._listener.received(reply)
        except BrokenProtocol as error:
            return str(error)
        return await process.ending()

    def _lose(self, error: Loss, *, failed: bool = True) -> None:
        if not self._alive:
            return
        self._alive = False
        if not self._closing:
            now = asyncio.get_running_loop().time()
            delay = self._failures.record(now) if failed else 0.0
            self._retry_at = now + delay
            self.losses.append(Restart(time.time(), reason_of(error)))
            coming = "" if self._retiring else f" The next starts in {delay:.0f} s."
            logger.warning("The engine process is lost: %s.%s", reason_of(error), coming)
        self._listener.lost(error, on_purpose=not failed)


def reason_of(error: Loss) -> str:
    """Why a process was lost, as half a sentence."""
    match error:
        case EngineCrashed(reason=reason):
            return reason
        case EngineStalled(seconds=seconds):
            return f"it made no progress for {seconds:.0f} s"
