"""Responses answers: events to events of the wire, and the object as it is at any time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import msgspec
from msgspec.structs import replace

from mlxd.api.dialect import Frame, JsonObject
from mlxd.api.openai.responses.format.calls import FinalState
from mlxd.api.openai.responses.format.output_items import (
    ItemStatus,
    OutputCall,
    OutputCustomCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    Step,
    Style,
)
from mlxd.api.openai.responses.format.response_object import (
    echoed_sampling,
    error_event,
    response_error,
    usage_body,
)
from mlxd.api.openai.responses.format.tools import ResponsesToolbox
from mlxd.errors import MlxdError, revive
from mlxd.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    FinishReason,
    Progress,
    Started,
    Usage,
)
from mlxd.history import Item, ResponseState
from mlxd.messages import OutputPart, Reasoning, Sampling, Text, ToolCall

DONE = Frame(b"[DONE]")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class ResponseAnswerOptions:
    """What the request said about its answer.

    `response` are the fields that stay as they are; `token` makes the ids of items its own. With
    `sealed`, thinking can be sent back; with `background` the response is queued at first; with
    `silent` it has no output, whatever the model says.
    """

    response: JsonObject
    token: str
    created: int
    model: str = ""
    style: Style = "text"
    sealed: bool = False
    logprobs: bool = False
    background: bool = False
    silent: bool = False
    box: ResponsesToolbox = field(default_factory=lambda: ResponsesToolbox((), frozenset(), {}))


@dataclass(frozen=True)
class Ending:
    """How a response ended."""

    state: ResponseState
    usage: Usage = Usage()
    error: MlxdError | None = None
    seconds: float = 0.0

    @property
    def item_status(self) -> ItemStatus:
        """The status of the item that was open last."""
        return "completed" if self.state == "completed" else "incomplete"


class ResponsesRenderer:
    """See `ObjectRenderer`."""

    def __init__(self, options: ResponseAnswerOptions) -> None:
        self._options = options
        self._state: ResponseState = "queued" if options.background else "in_progress"
        self._model = options.model
        self._usual_sampling = Sampling()
        self._sequence = 0
        self._output: list[JsonObject] = []
        self._open: OutputItem | None = None
        """The last item, which is closed when it is known how it ended."""
        self._ending: Ending | None = None

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `StreamRenderer.frames`."""
        if isinstance(event, BlockDelta):
            item = self._open
            if item is None or (step := item.delta(event.text, event.logprobs)) is None:
                return ()
            kind, fields = step
            number, self._sequence = self._sequence, self._sequence + 1
            head = b'{"type":"%b","sequence_number":%d,' % (kind.encode(), number)
            return (Frame(b"".join((head, fields, b"}")), kind),)
        frames = [self._frame(*step) for step in self._steps(event)]
        return [*frames, DONE] if isinstance(event, Failed) else frames

    def idle(self) -> Iterable[Frame]:
        """See `StreamRenderer.idle`."""
        return (self._frame(*self._response_step("in_progress")),)

    def end(self) -> Iterable[Frame]:
        """See `StreamRenderer.end`."""
        return (DONE,)

    def snapshot(self) -> JsonObject:
        """See `ObjectRenderer.snapshot`."""
        last = self._open
        output = [*self._output, *([last.item("in_progress")] if last else [])]
        return self._object(self._ending, output)

    def final(self, event: Finished | Failed) -> FinalState:
        """See `ObjectRenderer.final`."""
        ending = self._ending_of(event)
        last = self._last_item(ending)
        output = [*self._output, *([last.item(ending.item_status)] if last else [])]
        items = tuple(Item(item["id"], _encode(item)) for item in output)
        return FinalState(ending.state, self._object(ending, output), items)

    def cancel(self, usage: Usage) -> Iterable[Frame]:
        """See `ObjectRenderer.cancel`."""
        # What has ended by itself meanwhile stays as it ended.
        if self._ending is not None:
            return ()
        steps = self._finish(Ending("cancelled", usage))
        return [*(self._frame(*step) for step in steps), DONE]

    def _steps(self, event: Event) -> Iterator[Step]:
        match event:
            case BlockStart(part=part):
                # Not at the end of its block: an item's last event says whether it is whole, and
                # only what comes next shows that the limit did not cut it short.
                yield from self._close("completed")
                self._open = self._new_item(part)
                if self._open is not None:
                    yield from self._open.opening()
            case BlockDelta() | BlockEnd() | Progress():
                pass
            case Started(model=model, sampling=sampling):
                self._model = self._options.model or model
                self._usual_sampling = sampling
                yield self._response_step("created")
                if self._options.background:
                    yield self._response_step("queued")
                self._state = "in_progress"
                yield self._response_step("in_progress")
            case Finished() | Failed():
                yield from self._finish(self._ending_of(event))
            case _:
                assert_never(event)

    def _finish(self, ending: Ending) -> Iterator[Step]:
        last = self._last_item(ending)
        if last is not None and last is not self._open:
            yield from last.opening()
        self._open = last
        yield from self._close(ending.item_status)
        self._ending, self._state = ending, ending.state
        if ending.error is not None:
            yield ("error", error_event(ending.error))
        yield self._response_step(_last_kind(ending.state))

    def _close(self, status: ItemStatus) -> Iterator[Step]:
        if self._open is not None:
            yield from self._open.closing(status)
            self._output.append(self._open.item(status))
            self._open = None

    def _last_item(self, ending: Ending) -> OutputItem | None:
        """The item that the end closes: the open one, or an empty message if there is no other.

        A call that was cut short by a failure or a cancellation is left out: clients act on calls.
        """
        well = ending.state in ("completed", "incomplete")
        if self._open is None and not self._output and well:
            return self._new_item(Text(""))
        return self._open if well or isinstance(self._open, SAFE) else None

    def _new_item(self, part: OutputPart) -> OutputItem | None:
        """The item that `part` begins, None for what is not shown."""
        options, index = self._options, len(self._output)
        if options.silent:
            return None
        match part:
            case Text():
                return OutputMessage(self._id("msg"), index, with_logprobs=options.logprobs)
            case Reasoning():
                style, sealed = options.style, options.sealed
                if style == "none" and not sealed:
                    return None
                return OutputReasoning(self._id("rs"), index, style=style, sealed=sealed)
            case ToolCall(name=name):
                names = options.box.names(name)
                if name in options.box.custom:
                    return OutputCustomCall(self._id("ctc"), index, call=part, names=names)
                return OutputCall(self._id("fc"), index, call=part, names=names)
            case _:
                assert_never(part)

    def _ending_of(self, event: Finished | Failed) -> Ending:
        if isinstance(event, Failed):
            return Ending("failed", event.usage, revive(event.error))
        usage, timings = event.usage, event.timings
        state = _STATES.get(event.reason, "completed")
        if self._options.silent:
            # However much the answer would have been, all of it is left out.
            usage, state = replace(usage, completion=0, reasoning=0), "completed"
        return Ending(state, usage, seconds=timings.queue + timings.prefill + timings.decode)

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._options.token}{len(self._output):04x}"

    def _frame(self, kind: str, fields: JsonObject) -> Frame:
        number, self._sequence = self._sequence, self._sequence + 1
        return Frame(_encode({"type": kind, "sequence_number": number, **fields}), kind)

    def _response_step(self, kind: str) -> Step:
        """An event that carries the whole response."""
        return (f"response.{kind}", {"response": self.snapshot()})

    def _object(self, ending: Ending | None, output: Sequence[JsonObject]) -> JsonObject:
        state = ending.state if ending else self._state
        completed = ending if state == "completed" else None
        error = ending.error if ending else None
        return {
            **self._options.response,
            **echoed_sampling(self._options.response, self._usual_sampling),
            "model": self._model,
            "status": state,
            # By the engine's times and not a clock: `final` and the last frame come at two moments
            # and must not differ.
            "completed_at": completed and self._options.created + round(completed.seconds),
            "error": error and response_error(error),
            "incomplete_details": {"reason": "max_output_tokens"}
            if state == "incomplete"
            else None,
            "output": list(output),
            "usage": usage_body(ending.usage) if ending else None,
        }


def last_frames(body: bytes, number: int) -> tuple[Frame, Frame]:
    """The last frames of the stream of an ended response, the first of them with that number."""
    response: JsonObject = msgspec.json.decode(body)
    kind = f"response.{_last_kind(response['status'])}"
    event = {"type": kind, "sequence_number": number, "response": response}
    return (Frame(_encode(event), kind), DONE)


def _last_kind(state: ResponseState) -> str:
    """The last event; there is none of its own for a cancelled response."""
    return "incomplete" if state == "cancelled" else state


SAFE = (OutputMessage, OutputReasoning)
"""Items that do no harm when they are cut short."""

_STATES: Mapping[FinishReason, ResponseState] = {"length": "incomplete", "cancelled": "cancelled"}
"""What a response is whose generation ended like that; otherwise it is completed."""
