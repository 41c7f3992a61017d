"""One request in the server: from waiting for the engine to its terminal event."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from msgspec.structs import replace

from mlxd.engine.interface import Markup, Watcher
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.phase_times import PhaseTimes
from mlxd.engine.protocol import Accepted, DecodeRow, EndRow, PrefillRow, Submit, WaitReason
from mlxd.engine.supervision.call import Completion, Envelope
from mlxd.engine.supervision.event_buffer import EventBuffer, Unread
from mlxd.engine.supervision.process import BrokenProtocol
from mlxd.errors import InternalError, MlxdError
from mlxd.events import (
    BlockDelta,
    Event,
    Failed,
    Finished,
    FinishReason,
    OrderChecker,
    Progress,
    Started,
)
from mlxd.messages import GenerateRequest, ReasoningMode, Sampling
from mlxd.status import RequestStatus, RowFigures

logger = logging.getLogger(__name__)


class BlockFactory(Protocol):
    """What makes the builder of an answer's blocks; the class `BlockBuilder` is one."""

    def __call__(
        self,
        markup: Markup,
        request: GenerateRequest,
        *,
        opens_reasoning: bool,
        mode: ReasoningMode,
    ) -> BlockBuilder:
        """A builder for one answer."""


class PendingRequest:
    """A request on its way, and the `Generation` that its caller reads."""

    def __init__(
        self,
        number: int,
        request: GenerateRequest,
        *,
        unread: Unread,
        blocks: BlockFactory,
        watcher: Watcher,
    ) -> None:
        self.number = number
        self.request = request
        self.envelope = Envelope(Submit(number, request))
        self.accepted = False
        self.left_out: tuple[str, ...] = ()
        self.ended = False
        """Nothing more will come; there may still be events to read."""
        self.waits: WaitReason | None = None
        """Why the engine leaves it in its queue."""
        self._watcher = watcher
        self._terminal: Finished | Failed | None = None
        self._times = PhaseTimes(_now)
        self._figures = RowFigures()
        self._blocks = blocks
        self._builder: BlockBuilder | None = None
        self._checker = OrderChecker()
        self._usual_sampling = Sampling()
        self._completion = Completion()
        self._buffer = EventBuffer(unread)

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        if events := await self._buffer.take():
            return events
        raise StopAsyncIteration

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def queued(self) -> bool:
        """Whether nothing of it is computed yet."""
        return self._times.phase == "queued"

    async def wait_until_accepted(self) -> None:
        """Wait until the engine accepts the request; raises why it did not."""
        await self._completion.wait()

    def overdue(self) -> bool:
        """Whether the caller has stopped reading."""
        return self._buffer.overdue(_now())

    def status(self) -> RequestStatus:
        return self._times.status(self.request, self._figures)

    def accept(self, reply: Accepted, markup: Markup, *, sampling: Sampling) -> None:
        """The engine has the request in its queue; `markup` is how its model's text is read.

        It says so again when it had to prepare the prompt again because its model was away.
        """
        if self.accepted:
            return
        self.accepted = True
        self._usual_sampling = sampling
        self.left_out = reply.left_out
        self._guarded(lambda: self._start(reply, markup))
        if not self.ended:
            self._watcher.moved(self.request, self.status())
        self._completion.complete()

    def prefill(self, row: PrefillRow) -> int:
        """The engine has read more of the prompt; how many tokens it has computed for that."""
        self._known_builder()
        if self._times.phase == "decode":
            return 0
        before, now = self._figures, row.figures
        self._figures = now
        if self._times.prefilling():
            self._watcher.moved(self.request, self.status())
        progress = Progress("prefill", now.prefilled_tokens, now.prompt_tokens, now.cached_tokens)
        self._guarded(lambda: [progress])
        return max(0, now.prefilled_tokens - max(before.prefilled_tokens, now.cached_tokens))

    def decode(self, row: DecodeRow) -> None:
        """The engine has brought text, or the end."""
        builder = self._known_builder()
        self._figures = row.figures
        if self._times.decoding():
            self._watcher.moved(self.request, self.status())
        self._guarded(lambda: builder.text(row.text, tokens=row.tokens, logprobs=row.logprobs))
        if row.end is not None:
            self._finish(builder, row.end)
        elif builder.complete:
            # The answer is whole though the model writes on; the bridge cancels the rest.
            self._finish(
                builder, EndRow("stop", timings=self._times.timings(self.envelope.sent_at))
            )

    def fail(self, error: MlxdError) -> None:
        """End now; the caller gets `error` when entering, or as the last event."""
        if (builder := self._builder) is not None:
            spent = self._times.spent(_now())
            self._guarded(lambda: builder.fail(error, self._figures.usage, spent))
        self._close(error)

    def abandon(self) -> None:
        """The caller has left; whoever still reads gets no more."""
        self._close(InternalError(reason="the request was left"))

    def _start(self, reply: Accepted, markup: Markup) -> list[Event]:
        self._builder = self._blocks(
            markup,
            self.request,
            opens_reasoning=reply.opens_reasoning,
            mode=self.request.reasoning.mode or "separate",
        )
        self._figures = RowFigures(prompt_tokens=reply.prompt_tokens)
        return [
            Started(self.model, reply.prompt_tokens, self._usual_sampling),
            Progress("queued", total=reply.prompt_tokens),
        ]

    def _known_builder(self) -> BlockBuilder:
        if self._builder is None:
            raise BrokenProtocol("it answered a request that it had not accepted")
        return self._builder

    def _finish(self, builder: BlockBuilder, end: EndRow) -> None:
        reason = _finish_reason(end.reason)
        queue = self.envelope.sent_at - self._times.born + end.timings.queue

        def build() -> list[Event]:
            *events, finished = builder.finish(
                reason,
                stop_sequence=end.stop_sequence,
                repetition=end.reason == "repetition",
                usage=self._figures.usage,
                timings=replace(end.timings, queue=queue),
            )
            return [*events, replace(finished, window=end.window)]

        self._guarded(build)
        self._close()

    def _guarded(self, build: Callable[[], list[Event]]) -> None:
        """Add the events of `build`; a bug there ends this row and no other."""
        if self.ended:
            return
        try:
            for event in build():
                self._checker.add(event)
                self._put(event)
        except Exception:
            logger.exception("request %s: the model's text could not be read", self.request.id)
            self._break_off(InternalError(reason="the model's text could not be read"))

    def _break_off(self, error: MlxdError) -> None:
        """End without the builder, which may be in no state to end the blocks it opened."""
        if self._builder is not None:
            failed = Failed(error.report(), self._figures.usage, self._times.spent(_now()))
            for event in (*self._checker.cut(), failed):
                self._put(event)
        self._close(error)

    def _put(self, event: Event) -> None:
        self._buffer.put(event)
        if isinstance(event, Finished | Failed):
            self._terminal = event
        elif self._watcher.wants_text and isinstance(event, BlockDelta):
            self._watcher.wrote(self.request, event.text)

    def _close(self, refusal: MlxdError | None = None) -> None:
        if self.accepted and not self.ended:
            self._watcher.ended(self.request, self.status(), self._terminal)
        self.ended = True
        self._completion.complete(refusal)
        self._buffer.close()


def _finish_reason(reason: str) -> FinishReason:
    match reason:
        case "stop" | "stop_sequence" | "length":
            return reason
        case "repetition":
            return "length"
    raise BrokenProtocol("it ended a request for a reason that is none")


def _now() -> float:
    return asyncio.get_running_loop().time()
