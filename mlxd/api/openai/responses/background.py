"""Background runs: answers that are generated whether or not anybody waits for them.

A run is a task of the server. It keeps the frames it has made, so that any number of followers can
read them from any position, and it is stored as a whole at its end, before that end is shown.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress

from mlxd.api.dialect import Frame, Framing
from mlxd.api.http.exchange import End
from mlxd.api.http.internal_errors import bugs_hidden
from mlxd.api.http.request_log import Record
from mlxd.api.openai.responses.continuation import StatefulCall, store_final
from mlxd.api.openai.responses.format.calls import FinalState, ObjectRenderer
from mlxd.api.openai.responses.format.response_object import output_of
from mlxd.api.openai.responses.retried_answer import RetriedAnswer
from mlxd.engine.interface import Engine
from mlxd.errors import (
    Cancelled,
    EngineStopped,
    InternalError,
    InvalidField,
    MlxdError,
    StoreUnavailable,
)
from mlxd.events import Failed, Finished
from mlxd.history import Store

ENTRY = 1.0
"""Seconds in which a refusal is the answer to the request itself; later it is a failed run."""
MAX_LOG_BYTES = 32 * 1024 * 1024
"""Frames of one run in memory; beyond it the oldest go, and its stream can't be resumed."""
UNSTORED = 64
"""Ended runs that stay in memory because they could not be stored."""


class FrameLog:
    """The frames of a run, numbered from 0; those before `first` are gone."""

    def __init__(self, framing: Framing, limit: int = MAX_LOG_BYTES) -> None:
        self._framing = framing
        self.first = 0
        self._frames: list[bytes] = []
        self._size = 0
        self._limit = limit

    def add(self, frames: Iterable[Frame]) -> None:
        """The next frames."""
        for frame in frames:
            data = self._framing.encode([frame])
            self._frames.append(data)
            self._size += len(data)
        while self._size > self._limit:
            self._size -= len(self._frames.pop(0))
            self.first += 1

    def since(self, number: int) -> list[bytes]:
        """The frames from `number` on."""
        return self._frames[max(0, number - self.first) :]

    @property
    def last(self) -> bytes:
        """The last frame so far."""
        return self._frames[-1]

    def whole(self, end: Iterable[Frame]) -> tuple[bytes, ...]:
        """All frames, with those of its `end`; none if some are gone."""
        if self.first:
            return ()
        return (*self._frames, *(self._framing.encode([frame]) for frame in end))


class BackgroundRun:
    """One answer in the background, from the moment it is requested until its end is stored."""

    def __init__(
        self, answer: RetriedAnswer, store: Store, framing: Framing, *, idle: float
    ) -> None:
        self.queued = b""
        """The response as it was when it was accepted."""
        self.over = False
        self.ending = False
        """The answer is whole, or broken off; its end is being stored."""
        self.stored = True
        """Its end is in the store, unless nothing of it is to be."""
        self._answer = answer
        self._store = store
        self._record = answer.record
        self._framing = framing
        self._idle = idle
        self._decided = asyncio.Event()
        self._released = False
        self._halted = False
        self._log = FrameLog(framing)
        self._change = asyncio.Event()
        self._verdict: MlxdError | None = None
        self._generating = asyncio.create_task(self._generate())
        self._task = asyncio.create_task(self._run())

    def when_over(self, call: Callable[[], None]) -> None:
        """Have `call` called after its end."""
        self._task.add_done_callback(lambda _: call())

    @property
    def left_out(self) -> tuple[str, ...]:
        """What of the body is left to the model, as far as the engine has said so."""
        return self._answer.left_out

    @property
    def turn(self) -> StatefulCall:
        return self._answer.turn

    @property
    def renderer(self) -> ObjectRenderer:
        return self.turn.answer.renderer

    async def accepted(self, seconds: float) -> None:
        """Wait until the engine has taken it, though not for long; raises why it did not."""
        accepted = asyncio.create_task(self._answer.accepted.wait())
        try:
            await asyncio.wait(
                {accepted, self._generating}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            accepted.cancel()
        if self._generating.done():
            self._generating.result()

    def release(self) -> None:
        """It is stored as queued, and may show its answer."""
        self._released = True
        self._answer.released.set()
        self._decided.set()

    def drop(self) -> None:
        """It was not wanted after all: nothing of it is stored."""
        self._generating.cancel()
        self._decided.set()

    def halt(self, verdict: MlxdError | None = None) -> None:
        """End it now: as failed with `verdict`, or as cancelled. What has ended stays as it is.

        The engine, if it has the request, ends it and says what it has cost.
        """
        if not (self._halted or self._generating.done()):
            self._halted, self._verdict = True, verdict
            # Rather by the engine, which counts the tokens that were spent.
            if not self._answer.cancel():
                self._generating.cancel()

    async def ended(self) -> None:
        """Wait until its end is stored and shown."""
        await asyncio.wait({self._task})

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """Its frames behind number `after`, then those that come, until its end.

        Ends early for a reader so slow that the next frame is gone.
        """
        position = after + 1
        while position >= self._log.first:
            # Taken before looking: a frame that comes meanwhile sets this one and makes the next.
            change = self._change
            if news := self._log.since(position):
                position += len(news)
                yield b"".join(news)
            elif self.over:
                if position == after + 1:
                    # A stream without its end is one that broke off.
                    yield self._log.last
                return
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._idle):
                        await change.wait()
                if not change.is_set():
                    yield self._framing.keep_alive

    def check_position(self, after: int) -> None:
        """Raises `InvalidField` where what follows `after` is gone."""
        if after + 1 < self._log.first:
            message = f"Events before {self._log.first} are no longer kept."
            raise InvalidField("starting_after", "value", message)

    async def _generate(self) -> End:
        """Log the frames of the answer but for its end, which is returned."""
        async with aclosing(self._answer.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, Finished | Failed):
                        return event
                    self._add(self.renderer.frames(0, event))
        raise InternalError("an answer ended without an end")

    async def _run(self) -> None:
        # `wait` raises nothing and is not cancelled along: how it ended is for `_outcome` to say.
        await asyncio.wait({self._generating})
        self.ending = True
        # Whether it is stored as queued. Until then nobody knows of it, and it may be dropped.
        await self._decided.wait()
        if self._released:
            try:
                with bugs_hidden(self._record.id):
                    await self._end()
            except MlxdError as error:
                self._record.error = type(error).__name__
                self.stored = False
            self._record.write()
        elif not self._generating.cancelled():
            # Looked at, or asyncio would log an exception that nobody has retrieved.
            self._generating.exception()
        self.over = True
        self._pulse()

    async def _end(self) -> None:
        """Store the whole, then show its end; what can't be stored has failed."""
        end = self._outcome()
        broken = self._halted and isinstance(end, Failed)
        if broken and self._verdict is not None:
            end = Failed(self._verdict.report(), usage=end.usage)
        self._record.terminal(0, end)
        if broken and self._verdict is None:
            self._record.error = "cancelled"
            frames = list(self.renderer.cancel(end.usage))
            body = self.renderer.snapshot()
            final = FinalState("cancelled", body, output_of(body))
        else:
            final = self.renderer.final(end)
            frames = list(self.renderer.frames(0, end))
            frames += self.renderer.end() if isinstance(end, Finished) else ()
        try:
            await store_final(self._store, self.turn, final, self._log.whole(frames))
        except StoreUnavailable as error:
            self.stored = False
            self._record.error = type(error).__name__
            frames = list(self.renderer.frames(0, Failed(error.report())))
        self._add(frames)

    def _outcome(self) -> End:
        try:
            with bugs_hidden(self._record.id):
                return self._generating.result()
        except asyncio.CancelledError:
            return self._break_off(self._verdict or Cancelled())
        except MlxdError as error:
            return self._break_off(error)

    def _break_off(self, error: MlxdError) -> Failed:
        failed = Failed(error.report())
        for event in self._answer.broken_off(failed)[:-1]:
            self._add(self.renderer.frames(0, event))
        return failed

    def _add(self, frames: Iterable[Frame]) -> None:
        self._log.add(frames)
        self._pulse()

    def _pulse(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


class BackgroundRuns:
    """The background runs of a server."""

    def __init__(self, engine: Engine, store: Store, *, idle: float) -> None:
        self._engine = engine
        self._store = store
        self._idle = idle
        self._runs: dict[str, BackgroundRun] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, owner: str, response: str) -> BackgroundRun | None:
        """The run behind a response, while it lives."""
        run = self._runs.get(response)
        return run if run is not None and run.turn.owner == owner else None

    async def start(self, turn: StatefulCall, record: Record, framing: Framing) -> BackgroundRun:
        """Begin to answer `turn`, which is stored as queued; raises what refuses it at once.

        `record` is that of the run, which writes it at its end.
        """
        if self._closing:
            raise EngineStopped
        # Accepted, stored, then shown: a request that is refused leaves nothing behind, and an id
        # that a client has seen can be asked for from then on.
        answer = RetriedAnswer(self._engine, turn, record)
        run = BackgroundRun(answer, self._store, framing, idle=self._idle)
        try:
            await run.accepted(ENTRY)
            queued = run.turn.unfinished("queued")
            await self._store.put_response(queued)
        except BaseException:
            run.drop()
            raise
        self._runs[turn.call.id] = run
        run.queued = queued.body
        run.when_over(lambda: self._forget(run))
        run.release()
        return run

    async def close(self) -> None:
        """End what still runs, as failed; the engine has had its time to drain."""
        # First of all: a run that began behind the list below would never end.
        self._closing = True
        for run in list(self._runs.values()):
            run.halt(EngineStopped())
            await run.ended()

    def _forget(self, run: BackgroundRun) -> None:
        """Keep only what the store could not take, and not too much of it."""
        if run.stored:
            self._runs.pop(run.turn.call.id, None)
        unstored = [name for name, each in self._runs.items() if each.over]
        for name in unstored[:-UNSTORED]:
            del self._runs[name]
