"""What comes back, in no dialect: the neutral event stream.

One grammar, checked by `check_order`:

    Started Progress* (BlockStart BlockDelta* BlockEnd)* (Finished | Failed)

Blocks never interleave and are numbered 0, 1, 2, …; `BlockEnd` carries the finished part; on
failure the open block is closed first; there is exactly one terminal event. `Progress` comes before
the first block only. A whole answer is `collect` of the stream, never a second way of computing it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, assert_never

import msgspec
from msgspec.structs import replace

from mlxd.errors import ErrorReport, revive
from mlxd.messages import OutputPart, Reasoning, Sampling, Text, ToolCall

FinishReason = Literal["stop", "stop_sequence", "length", "tool_calls", "cancelled"]
Phase = Literal["queued", "prefill"]
MissReason = Literal[
    "first_prompt",
    "other_model",
    "differs",
    "not_cut",
    "too_long",
    "evicted",
    "unloaded",
    "never_reused",
    "changed_answer",
    "rewritten_answer",
    "on_disk",
]
"""Why something of a prompt was not in the prefix cache; callers and dashboards count by it."""


class CacheNote(msgspec.Struct, frozen=True):
    """Why no more of a prompt was cached: the `reason` for programs, `words` for people."""

    reason: MissReason
    words: str


class Usage(msgspec.Struct, frozen=True):
    """Token counts: `cached` is part of `prompt`, `reasoning` part of `completion`.

    `completion` counts every generated token, the end token too. `cache_note` says why no more was
    cached, where more could have been.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    cache_note: CacheNote | None = None


def total_usage(usages: Sequence[Usage]) -> Usage:
    """The usage of several answers to one prompt, which counts once."""
    if not usages:
        return Usage()
    return Usage(
        prompt=usages[0].prompt,
        cached=usages[0].cached,
        cache_note=usages[0].cache_note,
        completion=sum(usage.completion for usage in usages),
        reasoning=sum(usage.reasoning for usage in usages),
    )


class Timings(msgspec.Struct, frozen=True):
    """Seconds spent waiting, in prefill, and from the first token to the last."""

    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


class TopLogprob(msgspec.Struct, frozen=True):
    """One alternative: the token's text, bytes and natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: bytes


class TokenLogprob(msgspec.Struct, frozen=True):
    """The chosen token's logprob and its most likely alternatives, best first."""

    token: str
    logprob: float
    bytes: bytes
    top: tuple[TopLogprob, ...] = ()


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The request is accepted: validated, tokenised, queued.

    `sampling` is what its model does where the request does not say, as far as that is known.
    """

    model: str
    prompt_tokens: int
    sampling: Sampling = Sampling()


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Where a request stands before its first token; `done` of `total` prompt tokens."""

    phase: Phase
    done: int = 0
    total: int = 0
    cached: int = 0


class BlockStart(msgspec.Struct, frozen=True, tag="block_start"):
    """A block opens; `part` is the part with its text (or arguments) still empty."""

    index: int
    part: OutputPart


class BlockDelta(msgspec.Struct, frozen=True, tag="block_delta"):
    """More text of the open block: text, thinking, or argument JSON."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class BlockEnd(msgspec.Struct, frozen=True, tag="block_end"):
    """The block closes with the whole part; for text and reasoning the sum of its deltas."""

    index: int
    part: OutputPart


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The answer is over. `stop_sequence` is the one that matched; `notes` are for the log.

    With `window` the `length` that ended it was what the model's window had left, and not the limit
    of the request or the configuration. With `repetition` it was cut before its `length`, as the
    model only repeated itself.
    """

    reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()
    stop_sequence: str | None = None
    notes: tuple[str, ...] = ()
    window: bool = False
    repetition: bool = False

    @property
    def outcome(self) -> str:
        """The reason as the log and `mlxd top` have it."""
        return "repetition" if self.repetition else self.reason


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The answer will not become whole."""

    error: ErrorReport
    usage: Usage = Usage()
    timings: Timings = Timings()


Event = Started | Progress | BlockStart | BlockDelta | BlockEnd | Finished | Failed
TERMINAL = (Finished, Failed)


class OrderError(ValueError):
    """A stream that breaks the grammar of this module."""


class Answer(msgspec.Struct, frozen=True):
    """A finished stream, folded. `logprobs` are those of the text parts, in order."""

    started: Started
    parts: tuple[OutputPart, ...]
    finished: Finished
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def reasoning(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Reasoning))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


def part_text(part: OutputPart) -> str:
    """The text that a block's deltas add up to."""
    return part.arguments if isinstance(part, ToolCall) else part.text


class Collector:
    """Folds a stream into an `Answer` as it arrives."""

    def __init__(self) -> None:
        self._started = Started(model="", prompt_tokens=0)
        self._parts: list[OutputPart] = []
        self._logprobs: list[TokenLogprob] = []
        self.answer: Answer | None = None

    def add(self, event: Event) -> None:
        """Take one event; raises the error that a `Failed` carries."""
        match event:
            case Started():
                self._started = event
            case BlockDelta(logprobs=logprobs):
                self._logprobs.extend(logprobs)
            case BlockEnd(part=part):
                self._parts.append(part)
            case Finished():
                self.answer = Answer(
                    self._started, tuple(self._parts), event, tuple(self._logprobs)
                )
            case Failed(error=error):
                raise revive(error)
            case Progress() | BlockStart():
                pass
            case _:
                assert_never(event)


def collect(events: Iterable[Event]) -> Answer:
    """The whole answer of a finished stream; raises the error of a failed one."""
    collector = Collector()
    for event in events:
        collector.add(event)
    if collector.answer is None:
        raise OrderError("the stream ended without a terminal event")
    return collector.answer


def check_order(events: Iterable[Event]) -> Iterator[Event]:
    """Pass `events` through and raise `OrderError` at the first that breaks the grammar."""
    checker = OrderChecker()
    for event in events:
        checker.add(event)
        yield event
    checker.close()


class OrderChecker:
    """The grammar of a stream as a small automaton."""

    def __init__(self) -> None:
        self._started = False
        self._ended = False
        self._next_index = 0
        self._open: OutputPart | None = None
        self._text: list[str] = []

    def add(self, event: Event) -> None:
        """Take one event or raise `OrderError`."""
        self._require(not self._ended, event, "after the terminal event")
        self._require(
            self._started != isinstance(event, Started), event, "Started comes first, once"
        )
        match event:
            case Started():
                self._started = True
            case Progress():
                self._require(self._next_index == 0, event, "Progress after a block")
            case BlockStart():
                self._start(event)
            case BlockDelta():
                self._require(self._is_open(event.index), event, "its block is not open")
                self._text.append(event.text)
            case BlockEnd():
                self._end(event)
            case Finished() | Failed():
                self._require(self._open is None, event, "a block is still open")
                self._ended = True
            case _:
                assert_never(event)

    def close(self) -> None:
        """The stream is over; raises unless it had its terminal event."""
        if not self._ended:
            raise OrderError("the stream ended without a terminal event")

    def cut(self) -> list[Event]:
        """What has to come next so that the stream may fail: the end of the open block, if any."""
        match self._open:
            case None:
                return []
            case ToolCall():
                part: OutputPart = replace(self._open, arguments="".join(self._text))
            case _:
                part = replace(self._open, text="".join(self._text))
        return [BlockEnd(self._next_index - 1, part)]

    def _start(self, event: BlockStart) -> None:
        self._require(self._open is None, event, "the block before is still open")
        self._require(event.index == self._next_index, event, f"expected {self._next_index}")
        self._require(part_text(event.part) == "", event, "a block opens empty")
        self._open, self._text = event.part, []
        self._next_index += 1

    def _end(self, event: BlockEnd) -> None:
        self._require(self._is_open(event.index), event, "its block is not open")
        self._require(type(event.part) is type(self._open), event, "another kind of part")
        self._require(part_text(event.part) == "".join(self._text), event, "not what was streamed")
        self._open = None

    def _is_open(self, index: int) -> bool:
        return self._open is not None and index == self._next_index - 1

    def _require(self, holds: bool, event: Event, why: str) -> None:
        if not holds:
            raise OrderError(f"{type(event).__name__}: {why}")
