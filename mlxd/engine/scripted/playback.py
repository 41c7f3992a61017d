"""A written script on its way to one reader."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

import msgspec
from msgspec.structs import replace

from mlxd.engine.interface import Watcher
from mlxd.engine.phase_times import BATCH_FULL, PhaseTimes
from mlxd.engine.scripted.answers import output_tokens
from mlxd.errors import MlxdError
from mlxd.events import (
    TERMINAL,
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    OrderChecker,
    Progress,
    Started,
    Timings,
    Usage,
)
from mlxd.messages import GenerateRequest, Reasoning, ToolCall
from mlxd.status import RequestStatus, RowFigures

LARGEST_BATCH = 256
"""Events that are given out at once; an endless script has to let others live."""


class Pause(msgspec.Struct, frozen=True):
    """Time that passes between two events, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Gate:
    """A script goes on when someone sets `opened`."""

    opened: asyncio.Event


ScriptItem = Event | Pause | Gate
Play = Callable[[GenerateRequest], Iterable[ScriptItem]]
"""A script: what to answer to a request.

Raising an `MlxdError` before the first event refuses the request; later it ends the answer.
"""


class Filler:
    """Adds to a script's events what the script leaves out, and checks their order."""

    def __init__(self, model: str, usage: Usage) -> None:
        self.usage = usage
        self.unended = 0
        """Pieces of the open block; each counts as a token until the block is whole."""
        self.started = False
        self.ended = False
        self._model = model
        self._checker = OrderChecker()
        self._called_tools = False

    def fill(self, items: Iterable[ScriptItem]) -> Iterator[ScriptItem]:
        """The whole stream; raises `OrderError` where the script breaks the grammar."""
        for item in items:
            if isinstance(item, Pause | Gate):
                yield item
                continue
            if not self.started and not isinstance(item, Started):
                yield self._add(Started("", 0))
            yield self._add(item)
        if not self.started:
            yield self._add(Started("", 0))
        if not self.ended:
            yield self._add(Finished("tool_calls" if self._called_tools else "stop"))

    def failure(self, error: MlxdError, timings: Timings) -> list[Event]:
        """The end of a stream that `error` breaks off."""
        failed = Failed(error.report(), timings=timings)
        return [self._add(event) for event in (*self._checker.cut(), failed)]

    def _add(self, event: Event) -> Event:
        match event:
            case Started(model, prompt):
                self.started = True
                event = Started(model or self._model, prompt or self.usage.prompt)
            case BlockDelta():
                self.unended += 1
            case BlockEnd(part=part):
                self.unended = 0
                self._called_tools |= isinstance(part, ToolCall)
                self._count(output_tokens(part), reasoning=isinstance(part, Reasoning))
            case Finished():
                self._count(1)
                event = replace(event, usage=_chosen(event.usage, self.usage))
            case Failed():
                event = replace(event, usage=_chosen(event.usage, self.usage))
        self.ended = isinstance(event, TERMINAL)
        self._checker.add(event)
        return event

    def _count(self, tokens: int, *, reasoning: bool = False) -> None:
        self.usage = replace(
            self.usage,
            completion=self.usage.completion + tokens,
            reasoning=self.usage.reasoning + (tokens if reasoning else 0),
        )


class Playback:
    """One answer being played: a `Generation`. It moves when it is read."""

    def __init__(
        self, request: GenerateRequest, script: Play, usage: Usage, watcher: Watcher
    ) -> None:
        self.request = request
        self.left_out: tuple[str, ...] = ()
        self.turn = asyncio.Event()
        """Set when the answer may begin: there are only so many slots."""
        self.on_end: Callable[[], None] = lambda: None
        """Called when the terminal event is given out."""
        self._filler = Filler(request.model, usage)
        self._items = self._filler.fill(_lazily(script, request))
        self._watcher = watcher
        self._times = PhaseTimes(time.monotonic)
        self._prefilled = usage.cached
        self._decoded = 0
        self._entered = False
        self._end_reported = False
        self._first: list[Event] = []
        self._wait: Pause | Gate | None = None
        self._pause_ends = 0.0
        self._halted = asyncio.Event()
        self._error: MlxdError | None = None
        self._abandoned = False

    @property
    def ended(self) -> bool:
        return self._filler.ended or self._abandoned

    async def enter(self) -> None:
        """Play up to the first event; raises the error of a script that refuses."""
        while not self._first:
            await self._rest()
            if self._error is not None:
                raise self._error
            self._first = self._gather(1)
        self._entered = True
        self._watcher.moved(self.request, self.status())
        if self.turn.is_set():
            self.begin()

    def begin(self) -> None:
        """There is a slot for the answer."""
        self.turn.set()
        if self._entered and not self.ended and self._times.prefilling():
            self._watcher.moved(self.request, self.status())

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        batch, self._first = self._first, []
        if batch and not self.turn.is_set():
            return [*batch, Progress("queued", total=self._filler.usage.prompt)]
        await self.turn.wait()
        batch += self._gather(LARGEST_BATCH)
        while not batch and not self.ended:
            await self._rest()
            batch = self._gather(LARGEST_BATCH)
        if not batch:
            raise StopAsyncIteration
        self._report(batch)
        if self._filler.ended:
            self.on_end()
        return batch

    def halt(self, error: MlxdError) -> None:
        """Fail the answer, wherever it is."""
        self._error = error
        self._halted.set()
        self.turn.set()

    def abandon(self) -> None:
        """The caller has left; whoever still reads gets no more."""
        self._report_end(None)
        self._abandoned = True
        self._halted.set()
        self.turn.set()

    def status(self) -> RequestStatus:
        usage = self._filler.usage
        figures = RowFigures(
            prompt_tokens=usage.prompt,
            cached_tokens=usage.cached,
            prefilled_tokens=self._prefilled,
            completion_tokens=usage.completion + self._filler.unended,
            # A prompt that still waits has looked for nothing yet.
            cache_note=usage.cache_note if self.turn.is_set() else None,
        )
        status = self._times.status(self.request, figures)
        return status if self.turn.is_set() else replace(status, wait_note=BATCH_FULL)

    def _report(self, batch: list[Event]) -> None:
        """Report to the watcher what the events of a batch come from."""
        computed = decoded = 0
        for event in batch:
            match event:
                case Progress(phase="prefill", done=done):
                    computed += self._read(done)
                case BlockStart() | Finished():
                    computed += self._read(self._filler.usage.prompt)
        if any(isinstance(event, BlockStart) for event in batch) and self._times.decoding():
            self._watcher.moved(self.request, self.status())
        if (tokens := self.status().figures.completion_tokens) > self._decoded:
            decoded, self._decoded = tokens - self._decoded, tokens
        self._watcher.computed(computed, decoded)
        if self._watcher.wants_text:
            text = "".join(event.text for event in batch if isinstance(event, BlockDelta))
            self._watcher.wrote(self.request, text)
        if isinstance(end := batch[-1], Finished | Failed):
            self._report_end(end)

    def _read(self, tokens: int) -> int:
        """The prompt is read up to there; how many tokens that is more than before."""
        more = max(0, tokens - self._prefilled)
        self._prefilled += more
        return more

    def _spent(self) -> Timings:
        return self._times.spent(time.monotonic())

    def _report_end(self, end: Finished | Failed | None) -> None:
        if self._entered and not self._end_reported:
            self._end_reported = True
            self._watcher.ended(self.request, self.status(), end)

    def _gather(self, limit: int) -> list[Event]:
        """The events up to the next wait, the end, or `limit`."""
        batch: list[Event] = []
        if self._error is not None and not self.ended:
            return self._filler.failure(self._error, self._spent())
        try:
            while self._wait is None and not self.ended and len(batch) < limit:
                item = next(self._items)
                if isinstance(item, Pause | Gate):
                    self._pause(item)
                else:
                    batch.append(item)
        except MlxdError as error:
            if not self._filler.started:
                raise
            batch += self._filler.failure(error, self._spent())
        return batch

    def _pause(self, item: Pause | Gate) -> None:
        self._wait = item
        if isinstance(item, Pause):
            self._pause_ends = time.monotonic() + item.seconds

    async def _rest(self) -> None:
        """Wait for what the script waits for, or for `halt`."""
        match self._wait:
            case None:
                return
            case Pause(seconds) if seconds <= 0:
                await asyncio.sleep(0)
            case Pause():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_ends - time.monotonic()):
                        await self._halted.wait()
            case Gate(opened):
                await _either(opened, self._halted)
            case _:
                assert_never(self._wait)
        self._wait = None


def _lazily(script: Play, request: GenerateRequest) -> Iterator[ScriptItem]:
    # A script may refuse as soon as it is called; that belongs to entering, not to making this.
    yield from script(request)


def _chosen(written: Usage, counted: Usage) -> Usage:
    return counted if written == Usage() else written


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    waiters = [asyncio.create_task(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
