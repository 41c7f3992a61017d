"""Responses answers: events to events of the wire, and the object as it is at any time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import msgspec
from msgspec.structs import replace

from mlxd.api.dialect import Frame, JsonObject
from mlxd.api.openai.responses.format.calls import FinalState
from mlxd.api.openai.responses.format.output_items import (
    Block,
    CallBlock,
    CustomCallBlock,
    ItemStatus,
    MessageBlock,
    ReasoningBlock,
    Step,
    Style,
)
from mlxd.api.openai.responses.format.response_object import error_event, response_error, usage_body
from mlxd.api.openai.responses.format.tools import Toolbox
from mlxd.errors import MlxdError, revive
from mlxd.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    Timings,
    Usage,
)
from mlxd.history import Item, ResponseState
from mlxd.messages import OutputPart, Reasoning, Text, ToolCall

DONE = Frame(b"[DONE]")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Wanted:
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
    box: Toolbox = field(default_factory=lambda: Toolbox((), frozenset(), {}))


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

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._state: ResponseState = "queued" if wanted.background else "in_progress"
        self._model = wanted.model
        self._sequence = 0
        self._output: list[JsonObject] = []
        self._open: Block | None = None
        """The last item, which is closed when it is known how it ended."""
        self._ending: Ending | None = None

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `StreamRenderer.frames`."""
        if isinstance(event, BlockDelta):
            return self._delta(event)
        frames = [self._frame(*step) for step in self._steps(event)]
        return [*frames, DONE] if isinstance(event, Failed) else frames

    def idle(self) -> Iterable[Frame]:
        """See `StreamRenderer.idle`."""
        return (self._frame(*self._told("in_progress")),)

    def end(self) -> Iterable[Frame]:
        """See `StreamRenderer.end`."""
        return (DONE,)

    def snapshot(self) -> JsonObject:
        """See `ObjectRenderer.snapshot`."""
        block = self._open
        output = [*self._output, *([block.item("in_progress")] if block else [])]
        return self._object(self._ending, output)

    def final(self, event: Finished | Failed) -> FinalState:
        """See `ObjectRenderer.final`."""
        ending = self._ended(event)
        block = self._last_block(ending)
        output = [*self._output, *([block.item(ending.item_status)] if block else [])]
        items = tuple(Item(item["id"], _encode(item)) for item in output)
        return FinalState(ending.state, self._object(ending, output), items)

    def cancel(self, usage: Usage) -> Iterable[Frame]:
        """See `ObjectRenderer.cancel`."""
        if self._ending is not None:
            return ()
        steps = self._finish(Ending("cancelled", usage))
        return [*(self._frame(*step) for step in steps), DONE]

    def _delta(self, event: BlockDelta) -> Iterable[Frame]:
        block = self._open
        if block is None or (piece := block.piece(event.text, event.logprobs)) is None:
            return ()
        kind, fields = piece
        number, self._sequence = self._sequence, self._sequence + 1
        head = b'{"type":"%b","sequence_number":%d,' % (kind.encode(), number)
        return (Frame(b"".join((head, fields, b"}")), kind),)

    def _steps(self, event: Event) -> Iterator[Step]:
        match event:
            case BlockStart(part=part):
                yield from self._close("completed")
                if (block := self._block(part)) is not None:
                    self._open = block
                    yield from block.opening()
            case BlockDelta() | BlockEnd() | Progress():
                pass
            case Started(model=model):
                yield from self._start(model)
            case Finished() | Failed():
                yield from self._finish(self._ended(event))
            case _:
                assert_never(event)

    def _start(self, model: str) -> Iterator[Step]:
        self._model = self._wanted.model or model
        yield self._told("created")
        if self._wanted.background:
            yield self._told("queued")
        self._state = "in_progress"
        yield self._told("in_progress")

    def _finish(self, ending: Ending) -> Iterator[Step]:
        block = self._last_block(ending)
        if block is not None and block is not self._open:
            yield from block.opening()
        self._open = block
        yield from self._close(ending.item_status)
        self._ending, self._state = ending, ending.state
        if ending.error is not None:
            yield ("error", error_event(ending.error))
        yield self._told(_last_kind(ending.state))

    def _close(self, status: ItemStatus) -> Iterator[Step]:
        if self._open is not None:
            yield from self._open.closing(status)
            self._output.append(self._open.item(status))
            self._open = None

    def _last_block(self, ending: Ending) -> Block | None:
        """The item that the end closes: the open one, or an empty message if there is no other.

        A call that was cut short is left out where nobody should act on it.
        """
        well = ending.state in ("completed", "incomplete")
        if self._open is None and not self._output and well:
            return self._block(Text(""))
        return self._open if well or isinstance(self._open, SAFE) else None

    def _block(self, part: OutputPart) -> Block | None:
        """The item that `part` begins, None for what is not shown."""
        wanted, index = self._wanted, len(self._output)
        if wanted.silent:
            return None
        match part:
            case Text():
                return MessageBlock(self._id("msg"), index, told=wanted.logprobs)
            case Reasoning():
                if wanted.style == "none" and not wanted.sealed:
                    return None
                style, sealed = wanted.style, wanted.sealed
                return ReasoningBlock(self._id("rs"), index, style=style, sealed=sealed)
            case ToolCall(name=name):
                names = wanted.box.names(name)
                if name in wanted.box.custom:
                    return CustomCallBlock(self._id("ctc"), index, call=part, names=names)
                return CallBlock(self._id("fc"), index, call=part, names=names)
            case _:
                assert_never(part)

    def _ended(self, event: Finished | Failed) -> Ending:
        if self._wanted.silent and isinstance(event, Finished):
            # However much it was to say, all of it is left out.
            usage = replace(event.usage, completion=0, reasoning=0)
            event = replace(event, reason="stop", usage=usage)
        return _ending(event)

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._wanted.token}{len(self._output):04x}"

    def _frame(self, kind: str, fields: JsonObject) -> Frame:
        number, self._sequence = self._sequence, self._sequence + 1
        return Frame(_encode({"type": kind, "sequence_number": number, **fields}), kind)

    def _told(self, kind: str) -> Step:
        """An event that carries the whole response."""
        return (f"response.{kind}", {"response": self.snapshot()})

    def _object(self, ending: Ending | None, output: Sequence[JsonObject]) -> JsonObject:
        state = ending.state if ending else self._state
        completed = ending if state == "completed" else None
        error = ending.error if ending else None
        return {
            **self._wanted.response,
            "model": self._model,
            "status": state,
            "completed_at": completed and self._wanted.created + round(completed.seconds),
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


SAFE = (MessageBlock, ReasoningBlock)
"""Items that do no harm when they are cut short."""


def _ending(event: Finished | Failed) -> Ending:
    if isinstance(event, Failed):
        return Ending("failed", event.usage, revive(event.error))
    seconds = _seconds(event.timings)
    match event.reason:
        case "length":
            return Ending("incomplete", event.usage, seconds=seconds)
        case "cancelled":
            return Ending("cancelled", event.usage, seconds=seconds)
        case _:
            return Ending("completed", event.usage, seconds=seconds)


def _seconds(timings: Timings) -> float:
    return timings.queue + timings.prefill + timings.decode
