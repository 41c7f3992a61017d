"""The one path from a call to its answer, streamed or whole.

Everything that can be known before the first byte is raised by `open_exchange`; after it, errors
are frames of the dialect. A whole answer is the fold of the same events that are streamed.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from mlxd.api.dialect import Call, Frame, Framing, Renderer
from mlxd.api.http.event_batches import Batch, merged
from mlxd.api.http.internal_errors import bugs_hidden
from mlxd.api.http.request_log import Record, printable
from mlxd.engine.interface import Engine, Generation, PartlyEnforced
from mlxd.errors import MlxdError
from mlxd.events import Collector, Event, Failed, Finished, Progress, Started
from mlxd.messages import GenerateRequest

BEFORE_TEXT = (Started, Progress)
"""Events of a generation that is still queued or in prefill."""

End = Finished | Failed
AnyCall = TypeVar("AnyCall", bound=Call)


async def unchanged(end: End) -> End:
    """Nothing has to be done about an end."""
    return end


@dataclass
class Exchange:
    """A call whose generations are running, until the stack they were entered on is left.

    `idle` is the silence in seconds after which a stream gets something that keeps it alive.
    """

    call: Call
    generations: Sequence[Generation]
    record: Record
    idle: float
    before_end: Callable[[End], Awaitable[End]] = unchanged
    """Called with each generation's end before anyone sees it; says what is shown instead."""
    begun: bool = False
    """A generation has left its prefill behind."""
    ended: int = 0
    """Generations that are over."""
    failed: bool = False

    @property
    def ignored(self) -> tuple[str, ...]:
        """What of the body is not honoured, as far as it is known before the answer."""
        return (*self.call.ignored, *left_out(self.call, self.generations))

    async def collect(self, renderer: Renderer) -> bytes:
        """The body of the whole answer; raises the error of a failed generation."""
        collectors = [Collector() for _ in self.generations]
        with bugs_hidden(self.record.id):
            async with aclosing(merged(self.generations, lambda: None)) as batches:
                async for ready in batches:
                    self._take_in(ready, collectors)
            answers = [each.answer for each in collectors if each.answer is not None]
            return renderer.body(answers)

    async def stream(self, framing: Framing) -> AsyncGenerator[bytes, None]:
        """The bytes of the stream, one piece for all that is ready at once; raises no error."""
        async with aclosing(self.frames()) as batches:
            async for frames in batches:
                if not frames and not framing.keep_alive:
                    frames = list(self.call.renderer.idle())
                if data := framing.encode(frames) or framing.keep_alive:
                    yield data

    async def frames(self) -> AsyncGenerator[list[Frame], None]:
        """The frames of the stream, those that are ready at once together; raises no error.

        There are none in an item after `idle` seconds of silence.
        """
        try:
            with bugs_hidden(self.record.id):
                async with aclosing(self.rendered()) as batches:
                    async for frames in batches:
                        yield frames
        except MlxdError as error:
            yield self._render(0, [Failed(error.report())])

    async def rendered(self) -> AsyncGenerator[list[Frame], None]:
        """The same, but bugs of ours are raised."""
        now = asyncio.get_running_loop().time
        written = now()

        def patience() -> float:
            return max(0.0, written + self.idle - now())

        async with aclosing(merged(self.generations, patience)) as batches:
            async for ready in batches:
                if ready:
                    frames = await self._answer(ready)
                else:
                    frames = [] if self.begun else list(self.call.renderer.idle())
                if frames or not ready:
                    yield frames
                    # Behind the yield: the time in which a slow reader takes it is no silence.
                    written = now()
                if self.failed:
                    return

    def _take_in(self, ready: Sequence[Batch], collectors: Sequence[Collector]) -> None:
        for number, batch in ready:
            self._notice(number, batch[-1])
            for event in batch:
                collectors[number].add(event)

    async def _answer(self, ready: Sequence[Batch]) -> list[Frame]:
        frames: list[Frame] = []
        for number, batch in ready:
            if isinstance(end := batch[-1], Finished | Failed):
                # All before the end first: what is stored is what the renderer has seen.
                frames += self._render(number, batch[:-1])
                batch = [await self.before_end(end)]
            frames += self._render(number, batch)
            if self.failed:
                # The frames of a failure end the stream, whatever other choices still do.
                return frames
        if self.ended == len(self.generations):
            frames += self.call.renderer.end()
        return frames

    def _render(self, number: int, batch: list[Event]) -> list[Frame]:
        render = self.call.renderer.frames
        frames = [frame for event in batch for frame in render(number, event)]
        if batch:
            self._notice(number, batch[-1])
        return frames

    def _notice(self, number: int, last: Event) -> None:
        """Take in how far a generation is by the last event of a batch."""
        self.begun = self.begun or not isinstance(last, BEFORE_TEXT)
        if isinstance(last, Finished | Failed):
            self.ended += 1
            self.failed = self.failed or isinstance(last, Failed)
            self.record.terminal(number, last)


async def open_exchange(
    engine: Engine, call: Call, stack: AsyncExitStack, *, record: Record, idle: float
) -> Exchange:
    """Start every generation of `call` on `stack`; raises what forbids even one of them."""
    # A stack of its own: when the second choice is refused, the first must not keep its slot.
    async with AsyncExitStack() as entering:
        with call.in_callers_words():
            generations = [
                await entering.enter_async_context(
                    engine.generate(with_source(request, call, record))
                )
                for request in call.requests
            ]
            refuse_unmet(call, generations)
        stack.push_async_exit(entering.pop_all())
    return Exchange(call, generations, record, idle)


def refuse_unmet(call: Call, generations: Sequence[Generation]) -> None:
    """Raises the refusal of what a call needs and its model can't do."""
    for each in generations:
        for field in each.left_out if isinstance(each, PartlyEnforced) else ():
            if field in call.needed:
                raise call.needed[field]


def left_out(call: Call, generations: Sequence[Generation]) -> tuple[str, ...]:
    """The paths in the body of what is left to the model."""
    partly = [each for each in generations if isinstance(each, PartlyEnforced)]
    fields = (field for each in partly for field in each.left_out)
    # What the caller did not write stands nowhere.
    return tuple(dict.fromkeys(filter(None, (call.as_sent(field) for field in fields))))


def with_source(request: GenerateRequest, call: Call, record: Record) -> GenerateRequest:
    """`request` with what is known of where it came from."""
    client = record.client
    source = msgspec.structs.replace(
        request.source,
        dialect=record.dialect,
        requested_model=printable(call.requested_model),
        stream=call.stream,
        client=client.address,
        agent=client.agent,
        session=client.session or request.source.session,
    )
    return msgspec.structs.replace(request, source=source)


def for_model(call: AnyCall, model: str) -> AnyCall:
    """`call` with the configured model that answers it."""
    requests = tuple(msgspec.structs.replace(each, model=model) for each in call.requests)
    return replace(call, requests=requests)
