"""An answer that is generated again after its stream broke off, continued as one stream."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import assert_never

from msgspec.structs import replace

from mlxd.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    OrderChecker,
    Progress,
    Started,
)
from mlxd.messages import OutputPart, ToolCall


class Differs(Exception):
    """The answer that was generated again is not the one that was shown."""


@dataclass
class _Shown:
    """A block as far as it was shown."""

    opening: OutputPart
    text: str = ""
    logprobs: int = 0
    ended: bool = False


@dataclass
class _Position:
    """Where in the open block the generation that is being read stands."""

    offset: int = 0
    logprobs: int = 0


@dataclass
class ResumedStream:
    """Lets through what was not shown yet; raises `Differs` where it does not go on from that.

    The result over all generations is one stream of `mlxd.events`. The end of a block that failed
    generations add is kept back: the block may go on.
    """

    _blocks: list[_Shown] = field(default_factory=list)
    _checker: OrderChecker = field(default_factory=OrderChecker)
    _started: bool = False
    _begun: int = 0
    _position: _Position = field(default_factory=_Position)

    def begin_again(self) -> None:
        """The next event is the first of another generation."""
        self._begun = 0

    def new(self, batch: list[Event]) -> Iterator[Event]:
        """The news in a batch; a `Failed` and the end of its block are none."""
        # The order of events demands that end; the block itself was only interrupted.
        if batch and isinstance(batch[-1], Failed):
            batch = batch[:-1]
            if batch and isinstance(batch[-1], BlockEnd):
                batch.pop()
        for event in batch:
            for news in self._news(event):
                self._checker.add(news)
                yield news

    def end(self, failed: Failed) -> list[Event]:
        """How the stream ends with `failed`: the open block is closed first."""
        begin = [] if self._started else [Started("", 0)]
        return [*begin, *self._checker.cut(), failed]

    def _news(self, event: Event) -> Iterator[Event]:
        match event:
            case Started():
                if not self._started:
                    self._started = True
                    yield event
            case Progress():
                # The second prefill is no progress of an answer whose text has begun.
                if not self._blocks:
                    yield event
            case BlockStart():
                yield from self._start(event)
            case BlockDelta():
                yield from self._delta(event)
            case BlockEnd(index=index, part=part):
                shown = self._blocks[index]
                if self._position.offset != len(shown.text):
                    raise Differs
                if not shown.ended:
                    shown.ended = True
                    yield BlockEnd(index, _as_opened(part, shown.opening))
            case Finished():
                # With fewer blocks than were shown this end would contradict them.
                if self._begun != len(self._blocks):
                    raise Differs
                yield event
            case Failed():
                pass
            case _:
                assert_never(event)

    def _start(self, event: BlockStart) -> Iterator[Event]:
        self._position = _Position()
        assert event.index == self._begun, "blocks are numbered in the order they begin"
        self._begun += 1
        if event.index == len(self._blocks):
            self._blocks.append(_Shown(event.part))
            yield event
            return
        opening = self._blocks[event.index].opening
        if _as_opened(event.part, opening) != opening:
            raise Differs

    def _delta(self, event: BlockDelta) -> Iterator[Event]:
        shown, position = self._blocks[event.index], self._position
        # Deltas are cut by time and not by text: one may begin in what was shown and end behind it.
        known = shown.text[position.offset : position.offset + len(event.text)]
        if not event.text.startswith(known) or (shown.ended and event.text != known):
            raise Differs
        news = event.text[len(known) :]
        logprobs = event.logprobs[max(0, shown.logprobs - position.logprobs) :]
        position.offset += len(event.text)
        position.logprobs += len(event.logprobs)
        shown.text += news
        shown.logprobs = max(shown.logprobs, position.logprobs)
        if news or logprobs:
            yield BlockDelta(event.index, news, logprobs)


def _as_opened(part: OutputPart, opening: OutputPart) -> OutputPart:
    """`part` with the id that its block was opened with: ids are made anew every time."""
    if isinstance(part, ToolCall) and isinstance(opening, ToolCall):
        return replace(part, id=opening.id)
    return part
