"""The grammar of streams is checked event by event, and a whole answer is a fold of the stream."""

from collections.abc import Sequence

import msgspec
import pytest

from mlxd.errors import OutOfMemory
from mlxd.events import (
    Answer,
    BlockDelta,
    BlockEnd,
    BlockStart,
    Collector,
    Event,
    Failed,
    Finished,
    OrderChecker,
    OrderError,
    Progress,
    Started,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
    check_order,
    collect,
    part_text,
    total_usage,
)
from mlxd.messages import OutputPart, Reasoning, Text, ToolCall

STARTED = Started("m", 3)
FINISHED = Finished("stop", Usage(3, 1, 2), Timings(0.1, 0.2, 0.3))
FAILED = Failed(OutOfMemory("full").report(), Usage(3))
LOGPROB = TokenLogprob("a", -0.5, b"a", (TopLogprob("b", -1.0, b"b"),))
CALL = ToolCall("c1", "ls", '{"path":"."}')


def text(index: int, *deltas: str) -> list[Event]:
    """A whole block of text."""
    return [
        BlockStart(index, Text("")),
        *(BlockDelta(index, delta) for delta in deltas),
        BlockEnd(index, Text("".join(deltas))),
    ]


def call(index: int) -> list[Event]:
    return [
        BlockStart(index, ToolCall("c1", "ls", "")),
        BlockDelta(index, '{"path"'),
        BlockDelta(index, ':"."}'),
        BlockEnd(index, CALL),
    ]


def thought(index: int, words: str) -> list[Event]:
    return [
        BlockStart(index, Reasoning("")),
        BlockDelta(index, words),
        BlockEnd(index, Reasoning(words, "signature")),
    ]


GOOD: dict[str, Sequence[Event]] = {
    "empty answer": [STARTED, FINISHED],
    "text": [STARTED, *text(0, "Hello", " there"), FINISHED],
    "empty block": [STARTED, *text(0), FINISHED],
    "progress, then text": [
        *(STARTED, Progress("queued"), Progress("prefill", 1, 3, 1)),
        *(*text(0, "a"), FINISHED),
    ],
    "every kind of block": [STARTED, *thought(0, "Hm"), *text(1, "a"), *call(2), FINISHED],
    "failure at once": [STARTED, FAILED],
    "failure after a block": [STARTED, *text(0, "a"), FAILED],
}
BAD: dict[str, tuple[Sequence[Event], str]] = {
    "nothing": ([], "without a terminal event"),
    "no start": ([FINISHED], "Finished: Started comes first"),
    "block before the start": (text(0, "a"), "BlockStart: Started comes first"),
    "two starts": ([STARTED, STARTED], "Started: Started comes first, once"),
    "no end": ([STARTED, *text(0, "a")], "without a terminal event"),
    "two ends": ([STARTED, FINISHED, FINISHED], "Finished: after the terminal event"),
    "failure after the end": ([STARTED, FINISHED, FAILED], "Failed: after the terminal"),
    "text after the end": ([STARTED, FINISHED, *text(0, "a")], "after the terminal event"),
    "progress after a block": ([STARTED, *text(0, "a"), Progress("prefill")], "after a block"),
    "progress in a block": (
        [STARTED, BlockStart(0, Text("")), Progress("prefill")],
        "Progress after a block",
    ),
    "first index not 0": ([STARTED, *text(1, "a")], "expected 0"),
    "index used twice": ([STARTED, *text(0, "a"), *text(0, "a")], "expected 1"),
    "index left out": ([STARTED, *text(0, "a"), *text(2, "a")], "expected 1"),
    "block in a block": (
        [STARTED, BlockStart(0, Text("")), BlockStart(1, Text(""))],
        "the block before is still open",
    ),
    "block that opens full": ([STARTED, BlockStart(0, Text("a"))], "a block opens empty"),
    "call that opens full": ([STARTED, BlockStart(0, CALL)], "a block opens empty"),
    "delta without a block": ([STARTED, BlockDelta(0, "a")], "its block is not open"),
    "delta of a closed block": ([STARTED, *text(0, "a"), BlockDelta(0, "b")], "is not open"),
    "delta of another block": (
        [STARTED, BlockStart(0, Text("")), BlockDelta(1, "a")],
        "its block is not open",
    ),
    "end without a block": ([STARTED, BlockEnd(0, Text(""))], "its block is not open"),
    "end of another block": (
        [STARTED, BlockStart(0, Text("")), BlockEnd(1, Text(""))],
        "its block is not open",
    ),
    "end with another kind": (
        [STARTED, BlockStart(0, Text("")), BlockEnd(0, Reasoning(""))],
        "another kind of part",
    ),
    "end with other text": (
        [STARTED, BlockStart(0, Text("")), BlockDelta(0, "a"), BlockEnd(0, Text("b"))],
        "not what was streamed",
    ),
    "end in a block": ([STARTED, BlockStart(0, Text("")), FINISHED], "a block is still open"),
    "failure in a block": ([STARTED, BlockStart(0, Text("")), FAILED], "a block is still open"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_stream_in_order_passes_unchanged(name: str) -> None:
    assert list(check_order(GOOD[name])) == GOOD[name]


@pytest.mark.parametrize("name", BAD)
def test_a_stream_out_of_order_is_named(name: str) -> None:
    events, why = BAD[name]
    with pytest.raises(OrderError, match=why):
        list(check_order(events))


def test_events_pass_before_the_stream_is_over() -> None:
    events: list[Event] = [STARTED, FINISHED, FINISHED]
    passing = check_order(iter(events))
    assert [next(passing), next(passing)] == [STARTED, FINISHED]
    with pytest.raises(OrderError):
        next(passing)


@pytest.mark.parametrize("part", [Text(""), Reasoning(""), ToolCall("c1", "ls", "")])
def test_a_stream_can_be_cut_inside_a_block(part: OutputPart) -> None:
    checker = OrderChecker()
    begun: list[Event] = [STARTED, BlockStart(0, part), BlockDelta(0, "a"), BlockDelta(0, "b")]
    for event in begun:
        checker.add(event)
    (end,) = checker.cut()
    assert isinstance(end, BlockEnd)
    assert part_text(end.part) == "ab"
    assert list(check_order([*begun, end, FAILED]))


def test_a_stream_between_blocks_needs_no_cut() -> None:
    checker = OrderChecker()
    for event in (STARTED, *text(0, "a")):
        checker.add(event)
    assert checker.cut() == []


def test_an_answer_is_the_fold_of_its_stream() -> None:
    answer = collect(GOOD["every kind of block"])
    assert answer == Answer(STARTED, (Reasoning("Hm", "signature"), Text("a"), CALL), FINISHED, ())
    assert (answer.text, answer.reasoning, answer.tool_calls) == ("a", "Hm", (CALL,))


def test_the_texts_of_several_blocks_are_one_text() -> None:
    events = [STARTED, *text(0, "a"), *thought(1, "x"), *text(2, "b"), *thought(3, "y"), FINISHED]
    answer = collect(events)
    assert (answer.text, answer.reasoning, answer.tool_calls) == ("ab", "xy", ())


def test_logprobs_are_gathered_in_order() -> None:
    second = msgspec.structs.replace(LOGPROB, token="b")
    events: list[Event] = [
        *(STARTED, BlockStart(0, Text("")), BlockDelta(0, "a", (LOGPROB,))),
        *(BlockDelta(0, "b", (second,)), BlockEnd(0, Text("ab")), FINISHED),
    ]
    assert collect(events).logprobs == (LOGPROB, second)


def test_progress_leaves_no_trace_in_the_answer() -> None:
    with_progress = collect(GOOD["progress, then text"])
    assert with_progress == collect([STARTED, *text(0, "a"), FINISHED])


@pytest.mark.parametrize("name", ["failure at once", "failure after a block"])
def test_the_fold_of_a_failed_stream_raises_its_error(name: str) -> None:
    with pytest.raises(OutOfMemory, match="full"):
        collect(GOOD[name])


def test_the_fold_of_half_a_stream_is_an_error() -> None:
    with pytest.raises(OrderError, match="without a terminal event"):
        collect([STARTED, *text(0, "a")])


def test_an_answer_can_be_collected_event_by_event() -> None:
    collector = Collector()
    for event in GOOD["text"]:
        assert collector.answer is None
        collector.add(event)
    assert collector.answer == collect(GOOD["text"])


def test_the_usage_of_several_answers_counts_their_prompt_once() -> None:
    one, other = Usage(10, 4, 5, 2), Usage(10, 9, 3, 1)
    assert total_usage([one, other]) == Usage(10, 4, 8, 3)
    assert total_usage([one]) == one
    assert total_usage([]) == Usage()


@pytest.mark.parametrize("name", GOOD)
def test_events_survive_being_data(name: str) -> None:
    events = list(GOOD[name])
    assert msgspec.json.decode(msgspec.json.encode(events), type=list[Event]) == events
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(events), type=list[Event]) == events
