"""One answer, requested until it is whole, though engine processes come and go meanwhile.

A background answer has no client that could try again: without this, an engine process that is
replaced in the middle of an hour's run would lose it, for a fault that another request may have
caused. The request has a seed, so its answer comes out the same, and `ResumedStream` lets through
what readers have not seen: to them it is one stream that paused. Where the second answer is another
one after all, as on a device whose sums depend on the neighbours, the run fails with the engine's
error: a stream that goes on with other words would be worse than none.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from mlxd.api.http.event_batches import merged
from mlxd.api.http.exchange import left_out, with_source
from mlxd.api.http.request_log import Record
from mlxd.api.openai.responses.continuation import StatefulCall, begin_fitting
from mlxd.api.openai.responses.resumed_stream import Differs, ResumedStream
from mlxd.engine.interface import Engine, Generation
from mlxd.errors import EngineCrashed, EngineStalled, EngineStopped, Unavailable, revive
from mlxd.events import Event, Failed

log = logging.getLogger(__name__)

TRIES = 3
"""How often an answer is begun; a request may be what the engine dies of."""
PATIENCE = 60
"""How often an engine is tried that takes nothing just now."""


class RetriedAnswer:
    """Makes one stream of events out of as many generations as it takes.

    Nothing is shown before `released` is set; `accepted` is set when the engine has taken the
    request once.
    """

    def __init__(self, engine: Engine, turn: StatefulCall, record: Record) -> None:
        # Without a seed of its own the second answer would be another one.
        self.turn = turn.seeded()
        self.record = record
        self.left_out: tuple[str, ...] = ()
        self.accepted = asyncio.Event()
        self.released = asyncio.Event()
        self._engine = engine
        self._resumed = ResumedStream()

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        """The events; raises what refuses the request."""
        for _ in range(TRIES):
            self._resumed.begin_again()
            try:
                async with aclosing(self._once()) as batches:
                    async for batch in batches:
                        yield batch
                return
            except (EngineCrashed, EngineStalled) as error:
                log.info("%s is generated again: %s", self.turn.call.id, error)
                # What is shown if no try is left, or if the next one comes out differently.
                failed = Failed(error.report())
            except Differs:
                log.info("%s came out differently the second time", self.turn.call.id)
                break
        yield self.broken_off(failed)

    def cancel(self) -> bool:
        """Have the engine end it with what it has cost; whether the engine has it just now."""
        (request,) = self.turn.answer.requests
        return self._engine.cancel(request.id)

    def broken_off(self, failed: Failed) -> list[Event]:
        """What ends the stream with `failed`, wherever it stands."""
        return self._resumed.end(failed)

    async def _once(self) -> AsyncGenerator[list[Event], None]:
        async with AsyncExitStack() as stack:
            generation = await self._enter(stack)
            self.left_out = left_out(self.turn.answer, [generation])
            self.accepted.set()
            # Not before its response is stored as queued: whoever sees a frame may ask for it.
            await self.released.wait()
            merged_batches = aclosing(merged((generation,), lambda: None))
            async for ((_, batch),) in await stack.enter_async_context(merged_batches):
                yield list(self._resumed.new(batch))
                if isinstance(failed := batch[-1], Failed):
                    error = revive(failed.error)
                    if isinstance(error, EngineCrashed | EngineStalled):
                        raise error
                    yield self.broken_off(failed)

    async def _enter(self, stack: AsyncExitStack) -> Generation:
        """Raises what refuses the request; once it was accepted, an engine that is away is not."""

        async def begin(turn: StatefulCall) -> Generation:
            self.turn = turn
            (request,) = turn.answer.requests
            request = with_source(request, turn.answer, self.record)
            with turn.answer.in_callers_words():
                return await stack.enter_async_context(self._engine.generate(request))

        for _ in range(PATIENCE):
            try:
                return await begin_fitting(self.turn, begin)
            except Unavailable as error:
                if isinstance(error, EngineStopped) or not self.accepted.is_set():
                    raise
                await asyncio.sleep(error.retry_after)
        return await begin_fitting(self.turn, begin)
