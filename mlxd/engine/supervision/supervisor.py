"""The engine as the server sees it: requests in, generations out, a process behind."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from mlxd.engine.interface import Generation, Watcher
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.protocol import (
    SAVE_SECONDS,
    Configure,
    Count,
    EngineLimits,
    Load,
    ModelSpec,
    Unload,
)
from mlxd.engine.supervision.bridge import Bridge
from mlxd.engine.supervision.call import EngineCall
from mlxd.engine.supervision.event_buffer import Unread
from mlxd.engine.supervision.request import BlockFactory, PendingRequest
from mlxd.engine.supervision.restarts import RestartPolicy
from mlxd.engine.supervision.watchdog import Timeouts
from mlxd.errors import DeadlineExceeded, EngineCrashed, EngineStopped, QueueFull
from mlxd.messages import GenerateRequest
from mlxd.status import EngineState, EngineStatus, ModelInfo

# -P: a folder the server is started in must not be able to replace a module of the engine.
ENGINE_COMMAND = (sys.executable, "-P", "-m", "mlxd.engine")
EXIT_SECONDS = 1.0
"""Between the command to shut down and the kill."""
USUAL_RESTARTS = RestartPolicy()
USUAL_UNREAD = Unread()


class Supervisor:
    """Runs the engine process, routes its replies to generations, and replaces it when it fails.

    `stall_timeout` and `load_timeout` are the seconds that may pass without progress while requests
    run, and while a model loads; a start may take twice `stall_timeout`. `command` is run with
    `--fd N` appended.
    """

    def __init__(
        self,
        models: tuple[ModelSpec, ...],
        limits: EngineLimits,
        *,
        preload: str | None,
        stall_timeout: float,
        load_timeout: float,
        command: Sequence[str] = ENGINE_COMMAND,
        restarts: RestartPolicy = USUAL_RESTARTS,
        unread: Unread = USUAL_UNREAD,
        blocks: BlockFactory = BlockBuilder,
    ) -> None:
        self._limits = limits
        self._unread = unread
        self._blocks = blocks
        self._bridge = Bridge(
            Configure(models=models, limits=limits, preload=preload),
            Timeouts(stall=stall_timeout, load=load_timeout),
            command=command,
            restarts=restarts,
        )
        self._stopping = False
        self._stopped = False

    async def start(self) -> None:
        """Start the process; it may take a while until it answers, requests wait for it."""
        self._bridge.restart_loop.start()

    def configure(
        self, models: tuple[ModelSpec, ...], limits: EngineLimits, *, preload: str | None
    ) -> None:
        """Take what is configured from now on; requests go on with what they began with."""
        self._limits = limits
        self._bridge.configure(Configure(models=models, limits=limits, preload=preload))

    async def stop(self, drain: float) -> None:
        """End everything; a second call with a shorter `drain` overtakes the first."""
        self._stopping = True
        bridge = self._bridge
        bridge.restart_loop.retire()
        bridge.watcher.changed()
        bridge.end_all(EngineStopped(), waiting_only=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await bridge.drained.wait()
        bridge.end_all(EngineStopped())
        saving = SAVE_SECONDS if self._limits.prefix_disk else 0.0
        await bridge.restart_loop.close(EXIT_SECONDS + saving if bridge.ready else 0.0)
        self._stopped = True
        bridge.close()

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        """See `Engine.generate`. Also raises `EngineCrashed`, `EngineStalled`, `DeadlineExceeded`
        when that happens before the engine has accepted the request."""
        pending = self._admit(request)
        seconds = self._limits.request_seconds
        deadline = asyncio.get_running_loop().call_later(
            seconds, self._bridge.end, pending, DeadlineExceeded(seconds=seconds)
        )
        try:
            await pending.wait_until_accepted()
            yield pending
        finally:
            deadline.cancel()
            self._bridge.leave(pending)
            pending.abandon()

    async def count_tokens(self, request: GenerateRequest) -> int:
        """See `Engine.count_tokens`."""
        self._check(request.model)
        return await self._call(EngineCall(Count(self._bridge.number(), request)))

    async def load(self, model: str) -> None:
        """See `Engine.load`."""
        self._check(model)
        await self._call(EngineCall(Load(self._bridge.number(), model)))

    async def unload(self, model: str) -> None:
        """See `Engine.unload`; the model is not loaded again after a restart."""
        self._check(model)
        await self._call(EngineCall(Unload(self._bridge.number(), model)))

    def cancel(self, request: str) -> bool:
        """See `Engine.cancel`."""
        return self._bridge.cancel(request)

    def restart(self, reason: str) -> None:
        """See `Engine.restart`; raises `EngineStopped` when the server is ending."""
        if self._stopping:
            raise EngineStopped
        self._bridge.restart(EngineCrashed(reason=reason))

    def watch(self, watcher: Watcher) -> None:
        """See `Engine.watch`."""
        self._bridge.watcher = watcher

    def models(self) -> tuple[ModelInfo, ...]:
        """See `Engine.models`."""
        return self._bridge.report.models

    def status(self) -> EngineStatus:
        """See `Engine.status`."""
        bridge = self._bridge
        report, hello = bridge.report, bridge.report.hello
        return EngineStatus(
            state=self._state(),
            reason=bridge.reason,
            restarts=max(0, bridge.restart_loop.starts - 1),
            pid=bridge.restart_loop.pid,
            device=hello.device if hello else "",
            blas=hello.blas if hello else "",
            uptime=report.uptime,
            idle_seconds=bridge.silence,
            step_seconds=report.step_seconds,
            memory_limit=hello.memory_limit if hello else 0,
            figures=report.figures,
            models=report.models,
            requests=(requests := bridge.statuses()),
            keys=bridge.accounts.status(
                zip((each.request.source.key for each in bridge.requests), requests, strict=True)
            ),
            last_restarts=tuple(bridge.restart_loop.losses),
        )

    def _admit(self, request: GenerateRequest) -> PendingRequest:
        """Take the request on; raises what can be known without the process."""
        self._check(request.model)
        limits = self._limits
        self._bridge.accounts.check(request.source.key)
        if len(self._bridge.requests) >= limits.max_batch + limits.max_queue:
            raise QueueFull(limit=limits.max_queue)
        pending = PendingRequest(
            self._bridge.number(),
            self._bridge.report.settled(request),
            unread=self._unread,
            blocks=self._blocks,
            watcher=self._bridge.watcher,
        )
        self._bridge.take_on(pending)
        return pending

    def _check(self, model: str) -> None:
        if self._stopping:
            raise EngineStopped
        self._bridge.report.configured(model)
        if self._bridge.failing:
            raise self._bridge.failure()

    async def _call(self, call: EngineCall) -> int:
        self._bridge.take_on(call)
        try:
            return await call.result()
        finally:
            self._bridge.leave(call)

    def _state(self) -> EngineState:
        if self._stopping:
            return "stopped" if self._stopped else "stopping"
        if self._bridge.failing:
            return "failed"
        if self._bridge.ready:
            return "ready"
        return "restarting" if self._bridge.reason else "starting"
