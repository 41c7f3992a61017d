"""Background runs: answers that are generated whether or not anybody waits for them.

A run is a task of the server. It keeps the frames it has told, so that any number of followers can
read them from any place, and it is stored as a whole at its end, before that end is told.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress

import msgspec

from mlxd.api.dialect import KEEP_ALIVE, Answering, Frame, JsonObject, Settled
from mlxd.api.http.exchange import End
from mlxd.api.http.internal_errors import crashes_told
from mlxd.api.http.request_log import Record
from mlxd.api.http.sse import encode
from mlxd.api.openai.responses.continuation import Turn, keep
from mlxd.api.openai.responses.retried_answer import Asking
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
from mlxd.history import Item, Store

ENTRY = 1.0
"""Seconds in which a refusal is the answer to the request itself; later it is a failed run."""
KEPT_BYTES = 32 * 1024 * 1024
"""Frames of one run that are kept; beyond it the oldest go, and its stream can't be told again."""
UNSTORED = 64
"""Ended runs that are kept in memory because they could not be stored."""


class Tape:
    """The frames of a run, numbered from 0; those before `first` are gone."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.first = 0
        self._frames: list[bytes] = []
        self._size = 0
        self._limit = limit

    def add(self, frames: Iterable[Frame]) -> None:
        """The next frames."""
        for frame in frames:
            data = encode([frame])
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
        return () if self.first else (*self._frames, *(encode([frame]) for frame in end))


class Run:
    """One answer in the background, from the moment it is asked for until its end is stored."""

    def __init__(self, asking: Asking, store: Store, *, idle: float) -> None:
        self.queued = b""
        """The response as it was when it was accepted."""
        self.over = False
        self.ending = False
        """The answer is whole, or broken off; its end is being stored."""
        self.stored = True
        """Its end is in the store, unless nothing of it is to be."""
        self._asking = asking
        self._store = store
        self._record = asking.record
        self._idle = idle
        self._decided = asyncio.Event()
        self._wanted = False
        self._halted = False
        self._tape = Tape()
        self._change = asyncio.Event()
        self._verdict: MlxdError | None = None
        self._answering = asyncio.create_task(self._answer())
        self._task = asyncio.create_task(self._live())

    def when_over(self, call: Callable[[], None]) -> None:
        """Have `call` called after its end."""
        self._task.add_done_callback(lambda _: call())

    @property
    def turn(self) -> Turn:
        return self._asking.turn

    @property
    def renderer(self) -> Answering:
        return self.turn.answer.renderer

    async def accepted(self, seconds: float) -> None:
        """Wait until the engine has taken it, though not for long; raises why it did not."""
        accepted = asyncio.create_task(self._asking.accepted.wait())
        await asyncio.wait(
            {accepted, self._answering}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        accepted.cancel()
        if self._answering.done():
            self._answering.result()

    def release(self) -> None:
        """It is stored as queued, and may tell its answer."""
        self._wanted = True
        self._asking.released.set()
        self._decided.set()

    def drop(self) -> None:
        """It was not wanted after all: nothing of it is stored."""
        self._answering.cancel()
        self._decided.set()

    def halt(self, verdict: MlxdError | None = None) -> None:
        """End it now: as failed with `verdict`, or as cancelled. What has ended stays as it is.

        The engine, if it has the request, ends it and says what it has cost.
        """
        if not (self._halted or self._answering.done()):
            self._halted, self._verdict = True, verdict
            if not self._asking.cancel():
                self._answering.cancel()

    async def ended(self) -> None:
        """Wait until its end is stored and told."""
        await asyncio.wait({self._task})

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """Its frames behind number `after`, then those that come, until its end.

        Ends early for a reader so slow that the next frame is gone.
        """
        position = after + 1
        while position >= self._tape.first:
            change = self._change
            if news := self._tape.since(position):
                position += len(news)
                yield b"".join(news)
            elif self.over:
                if position == after + 1:
                    # A stream without its end is one that broke off.
                    yield self._tape.last
                return
            elif not await _set_within(change, self._idle):
                yield encode([KEEP_ALIVE])

    def check_place(self, after: int) -> None:
        """Raises `InvalidField` where what follows `after` is gone."""
        if after + 1 < self._tape.first:
            message = f"Events before {self._tape.first} are no longer kept."
            raise InvalidField("starting_after", "value", message)

    async def _answer(self) -> End:
        """Tell the answer but for its end, which is returned."""
        async with aclosing(self._asking.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, Finished | Failed):
                        return event
                    self._keep(self.renderer.frames(0, event))
        raise InternalError("an answer ended without an end")

    async def _live(self) -> None:
        await asyncio.wait({self._answering})
        self.ending = True
        await self._decided.wait()
        if self._wanted:
            try:
                with crashes_told(self._record.id):
                    await self._end()
            except MlxdError as error:
                self._record.error = type(error).__name__
                self.stored = False
            self._record.write()
        elif not self._answering.cancelled():
            self._answering.exception()
        self.over = True
        self._pulse()

    async def _end(self) -> None:
        end = self._outcome()
        if self._halted and isinstance(end, Failed):
            if self._verdict is None:
                await self._cancel(end)
                return
            end = Failed(self._verdict.report(), usage=end.usage)
        self._record.terminal(0, end)
        settled = self.renderer.settle(end)
        frames = list(self.renderer.frames(0, end))
        if isinstance(end, Finished):
            frames += self.renderer.end()
        await self._store_end(settled, frames)

    def _outcome(self) -> End:
        try:
            with crashes_told(self._record.id):
                return self._answering.result()
        except asyncio.CancelledError:
            return self._break_off(self._verdict or Cancelled())
        except MlxdError as error:
            return self._break_off(error)

    def _break_off(self, error: MlxdError) -> Failed:
        failed = Failed(error.report())
        for event in self._asking.broken_off(failed)[:-1]:
            self._keep(self.renderer.frames(0, event))
        return failed

    async def _cancel(self, end: Failed) -> None:
        self._record.error = "cancelled"
        self._record.terminal(0, end)
        frames = list(self.renderer.cancel(end.usage))
        body = self.renderer.snapshot()
        await self._store_end(Settled("cancelled", body, _items(body)), frames)

    async def _store_end(self, settled: Settled, frames: list[Frame]) -> None:
        """Store the whole, then tell its end; what can't be stored has failed."""
        try:
            await keep(self._store, self.turn, settled, self._tape.whole(frames))
        except StoreUnavailable as error:
            self.stored = False
            self._record.error = type(error).__name__
            frames = list(self.renderer.frames(0, Failed(error.report())))
        self._keep(frames)

    def _keep(self, frames: Iterable[Frame]) -> None:
        self._tape.add(frames)
        self._pulse()

    def _pulse(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


class Runs:
    """The background runs of a server."""

    def __init__(self, engine: Engine, store: Store, *, idle: float) -> None:
        self._engine = engine
        self._store = store
        self._idle = idle
        self._runs: dict[str, Run] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, owner: str, response: str) -> Run | None:
        """The run behind a response, while it lives."""
        run = self._runs.get(response)
        return run if run is not None and run.turn.owner == owner else None

    async def start(self, turn: Turn, record: Record) -> Run:
        """Begin to answer `turn`, which is stored as queued; raises what refuses it at once.

        `record` is that of the run, which writes it at its end.
        """
        if self._closing:
            raise EngineStopped
        asking = Asking(self._engine, turn, record)
        run = Run(asking, self._store, idle=self._idle)
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
        self._closing = True
        for run in list(self._runs.values()):
            run.halt(EngineStopped())
            await run.ended()

    def _forget(self, run: Run) -> None:
        """Keep only what the store could not take, and not too much of it."""
        if run.stored:
            self._runs.pop(run.turn.call.id, None)
        unstored = [name for name, each in self._runs.items() if each.over]
        for name in unstored[:-UNSTORED]:
            del self._runs[name]


def _items(body: JsonObject) -> tuple[Item, ...]:
    """The output of a response's object."""
    return tuple(Item(each["id"], msgspec.json.encode(each)) for each in body["output"])


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
