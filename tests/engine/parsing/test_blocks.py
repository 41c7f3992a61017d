"""Text to blocks: their order, their white space, what is counted, and which logprobs go where."""

import pytest

from mlxd.engine.interface import Markup
from mlxd.engine.parsing.blocks import writes_call
from mlxd.errors import EngineCrashed
from mlxd.events import (
    Answer,
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    FinishReason,
    Started,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
    check_order,
    collect,
)
from mlxd.messages import ReasoningMode, Text
from tests.engine.notations.samples import CITY, QWEN_JSON
from tests.engine.texts import Given, cuts, outcome, read, request, stream, token, words

PLAIN = Given(asked=request(()))
JSON = Given("json_tools")
CALL = f'<tool_call>{{"name": "get_weather", "arguments": {CITY}}}</tool_call>'
CALLED = ("call", "get_weather", CITY)
DROPPED = "the model went on after its call; parallel calls are off, so the rest was dropped"


def finish(events: list[Event], given: Given, tokens: list[TokenLogprob]) -> Answer:
    """The answer of `tokens` that arrive one by one, appended to `events` and checked."""
    builder = given.builder()
    events.append(Started("m", 1))
    for each in tokens:
        events += builder.text(each.token, tokens=1, logprobs=(each,))
    usage = Usage(completion=len(tokens) + 1)
    events += builder.finish("stop", stop_sequence=None, usage=usage, timings=Timings())
    return collect(check_order(events))


def test_text_is_one_block_however_many_pieces_it_comes_in() -> None:
    events = stream(["Hel", "lo", " you"], PLAIN)
    assert events[1:] == [
        BlockStart(0, Text("")),
        BlockDelta(0, "Hel"),
        BlockDelta(0, "lo"),
        BlockDelta(0, " you"),
        BlockEnd(0, Text("Hello you")),
        Finished("stop", Usage(completion=1_000_000)),
    ]


def test_an_answer_without_text_has_no_block() -> None:
    assert read("", PLAIN).parts == ()


@pytest.mark.parametrize("text", [" ", "\n\n", " a ", "\n\ta\n\n", "a\n\n b \n", "🙂\u200d😀\x00é"])
@pytest.mark.parametrize("given", [PLAIN, JSON])
def test_text_alone_is_passed_on_byte_for_byte(text: str, given: Given) -> None:
    for pieces in ([text], list(text)):
        assert words(collect(stream(pieces, given))) == [("text", text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>\n\nb", [("reasoning", "a"), ("text", "b")]),
        ("<think>\na\n</think> b", [("reasoning", "\na\n"), ("text", " b")]),
        ("<think>\n\n</think>\n\n  b\n", [("text", "  b\n")]),
        ("<think>a</think>\n \n\tb", [("reasoning", "a"), ("text", "\tb")]),
        ("<think>a</think>\n\n", [("reasoning", "a")]),
        ("\n<think>a</think>b", [("reasoning", "a"), ("text", "b")]),
        ("b\n<think>a</think>\nc", [("text", "b\n"), ("reasoning", "a"), ("text", "c")]),
        ("b <think> </think>c", [("text", "b c")]),
        (f"a \n\n{CALL}\n\n{CALL}\n", [("text", "a"), CALLED, CALLED]),
        (f"\n{CALL}\n  b", [CALLED, ("text", "  b")]),
        (f"{CALL} b\n{CALL}", [CALLED, ("text", " b"), CALLED]),
        (f"<think>a</think>\n{CALL}\n", [("reasoning", "a"), CALLED]),
        (
            f"<think>a</think>{CALL}<think>b</think>c",
            [("reasoning", "a"), CALLED, ("reasoning", "b"), ("text", "c")],
        ),
    ],
)
def test_white_space_next_to_reasoning_and_calls_is_dropped(
    text: str, parts: list[tuple[str, ...]]
) -> None:
    for pieces in ([text], *cuts(text)):
        assert words(collect(stream(pieces, JSON))) == parts


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        ("separate", [("text", "x "), ("reasoning", "a"), ("text", "b")]),
        ("strip", [("text", "x b")]),
        ("inline", [("text", "x <think>a</think>\n\nb")]),
    ],
)
def test_reasoning_is_shown_dropped_or_left_in_the_text(
    mode: ReasoningMode, parts: list[tuple[str, ...]]
) -> None:
    for given in (PLAIN, JSON):
        for pieces in cuts("x <think>a</think>\n\nb"):
            assert words(collect(stream(pieces, given._replace(mode=mode)))) == parts


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        ("separate", [("reasoning", "a"), ("text", "b")]),
        ("strip", [("text", "b")]),
        ("inline", [("text", "<think>a</think>\nb</think>")]),
    ],
)
def test_a_tag_that_the_prompt_opened_is_respected_in_every_mode(
    mode: ReasoningMode, parts: list[tuple[str, ...]]
) -> None:
    given = PLAIN._replace(mode=mode, opens_reasoning=True)
    assert words(read("a</think>\nb</think>", given)) == parts


@pytest.mark.parametrize(
    ("thought", "mode", "parts"),
    [
        ("", "separate", [("text", "Hi.")]),
        ("", "inline", [("text", "Hi.")]),
        ("a", "separate", [("reasoning", "a"), ("text", "Hi.")]),
        ("a", "strip", [("text", "Hi.")]),
        ("a", "inline", [("text", "<|open|>think<|sep|>a<|close|>think<|sep|>Hi.")]),
    ],
)
def test_an_answer_that_begins_inside_thinking_shows_no_tag_of_its_own(
    thought: str, mode: ReasoningMode, parts: list[tuple[str, ...]]
) -> None:
    think = ("<|open|>think<|sep|>", "<|close|>think<|sep|>")
    given = Given("kimi_k3", (think,), ("<|close|>response<|sep|>",), opens_reasoning=True)
    text = f"{thought}<|open|>response<|sep|>Hi.<|close|>response<|sep|>"
    for pieces in ([text], *cuts(text)):
        assert words(collect(stream(pieces, given._replace(mode=mode)))) == parts


@pytest.mark.parametrize("mode", ["separate", "strip", "inline"])
def test_calls_are_read_in_every_mode(mode: ReasoningMode) -> None:
    answer = read(QWEN_JSON, JSON._replace(mode=mode))
    assert [part.name for part in answer.tool_calls] == ["get_weather", "get_time"]


def test_reasoning_that_never_closes_is_reasoning() -> None:
    given = PLAIN._replace(opens_reasoning=True, reason="length")
    answer = read("on and on", given)
    assert words(answer) == [("reasoning", "on and on")]
    assert answer.finished.reason == "length"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "tool_calls"),
        ("length", "length"),
        ("stop_sequence", "stop_sequence"),
        ("cancelled", "cancelled"),
    ],
)
def test_only_a_call_and_a_stop_of_the_models_own_end_in_tool_calls(
    reason: FinishReason, expected: FinishReason
) -> None:
    given = JSON._replace(reason=reason)
    assert read(CALL, given).finished.reason == expected
    assert read("text", given).finished.reason == reason


def test_without_parallel_calls_the_rest_is_dropped_and_noted() -> None:
    given = JSON._replace(asked=request(parallel_tools=False))
    for reason in ("stop", "length"):
        answer = read(f"a{CALL}\n{CALL} and more", given._replace(reason=reason))
        assert words(answer) == [("text", "a"), CALLED]
        assert answer.finished.reason == "tool_calls"
        assert answer.finished.notes == (DROPPED,)
    alone = read(CALL + "\n", given)
    assert words(alone) == [CALLED]
    assert alone.finished.notes == ()


def test_a_builder_says_when_nothing_more_can_come() -> None:
    builder = JSON._replace(asked=request(parallel_tools=False)).builder()
    for piece, complete in (("a", False), (CALL[:-20], False), (CALL[-20:], True)):
        builder.text(piece, tokens=1)
        assert builder.complete is complete
    assert JSON.builder().complete is False


def test_a_call_that_the_limit_cut_ends_with_length_also_without_parallel_calls() -> None:
    given = JSON._replace(asked=request(parallel_tools=False), reason="length")
    assert read(CALL[:-20], given).finished.reason == "length"


def test_a_failure_closes_the_open_block_with_all_that_was_held_back() -> None:
    for text, whole in (("Hi <thi", "Hi <thi"), ("Hi \n", "Hi \n")):
        builder = JSON.builder()
        events = [Started("m", 1), *builder.text(text, tokens=2)]
        events += builder.fail(EngineCrashed("killed"), Usage(completion=2))
        assert list(check_order(events))[-2:] == [
            BlockEnd(0, Text(whole)),
            Failed(EngineCrashed("killed").report(), Usage(completion=2)),
        ]


def test_a_failure_before_any_text_is_the_terminal_event_alone() -> None:
    assert len(PLAIN.builder().fail(EngineCrashed("killed"), Usage())) == 1


@pytest.mark.parametrize("mode", ["separate", "strip", "inline"])
def test_reasoning_tokens_are_those_whose_text_is_reasoning(mode: ReasoningMode) -> None:
    events: list[Event] = []
    pieces = ["x", "<think>", "\n", "a", "", "b c", "</", "think", ">\n\n", "d", "e"]
    answer = finish(events, PLAIN._replace(mode=mode), [token(piece) for piece in pieces])
    assert answer.finished.usage == Usage(completion=12, reasoning=4)


def test_tokens_that_come_at_once_are_shared_out_by_their_text() -> None:
    builder = PLAIN._replace(opens_reasoning=True).builder()
    builder.text("abcdef</think>xy", tokens=16)
    assert builder.reasoning_tokens == 6


def test_logprobs_are_those_of_the_tokens_of_the_text() -> None:
    events: list[Event] = []
    pieces = ["<think>", "a", "</think>", "\n\n", "Hel", "lo", " \n", *CALL, "\n", "Bye", " ", "<"]
    answer = finish(events, JSON, [token(piece, -index) for index, piece in enumerate(pieces)])
    assert [entry.token for entry in answer.logprobs] == ["Hel", "lo", "Bye", " ", "<"]
    deltas = [event for event in events if isinstance(event, BlockDelta)]
    assert [(d.text, [e.token for e in d.logprobs]) for d in deltas if d.logprobs] == [
        ("Hel", ["Hel"]),
        ("lo", ["lo"]),
        ("Bye", ["Bye"]),
        (" <", [" ", "<"]),
    ]


def test_a_token_belongs_to_the_text_that_its_last_character_is_in() -> None:
    events: list[Event] = []
    pieces = ["a <", "b", "c<think", ">r</think>d", "e"]
    answer = finish(events, PLAIN, [token(piece) for piece in pieces])
    assert answer.text == "a <bcde"
    assert [entry.token for entry in answer.logprobs] == ["a <", "b", ">r</think>d", "e"]


def test_tokens_that_share_a_character_stay_with_it() -> None:
    builder = PLAIN.builder()
    smile = "🙂".encode()
    parts = [TokenLogprob("\ufffd", -1.0, smile[:2]), TokenLogprob("\ufffd", -2.0, smile[2:])]
    assert builder.text("", tokens=1) == []
    first = builder.text("🙂", tokens=1, logprobs=tuple(parts))
    second = builder.text("!", tokens=1, logprobs=(token("!"),))
    assert first[-1] == BlockDelta(0, "🙂", tuple(parts))
    assert second == [BlockDelta(0, "!", (token("!"),))]


def test_a_space_that_the_detokeniser_dropped_does_not_shift_logprobs() -> None:
    builder = PLAIN.builder()
    first = token(" Hello")
    top = TopLogprob(" you", -0.1, b" you")
    second = TokenLogprob(" you", -0.1, b" you", (top,))
    assert builder.text("Hello", tokens=1, logprobs=(first,))[-1] == BlockDelta(
        0, "Hello", (first,)
    )
    assert builder.text(" you", tokens=1, logprobs=(second,)) == [BlockDelta(0, " you", (second,))]


def test_text_that_arrives_before_its_logprobs_keeps_their_order() -> None:
    builder = PLAIN.builder()
    builder.text("Paris is", tokens=2, logprobs=(token("Paris"),))
    events = builder.text(" big", tokens=1, logprobs=(token(" is big"),))
    assert events == [BlockDelta(0, " big", (token(" is big"),))]


def test_an_answer_says_whether_it_is_in_the_middle_of_a_call() -> None:
    begun = CALL[:-20]
    markup = Markup(JSON.reasoning, "json_tools")
    for text, inside in (
        (begun, True),
        (CALL, False),
        ("text", False),
        (f"<think>{begun}", False),
        (f"<think>a</think>{begun}", True),
    ):
        assert writes_call(text, markup, request(), opens_reasoning=False) is inside
    assert not writes_call(begun, markup, request(()), opens_reasoning=False)


def test_a_repetition_ends_as_a_limit_and_says_so() -> None:
    builder = PLAIN.builder()
    builder.text("and so on, " * 50, tokens=512)
    last = builder.finish(
        "length", stop_sequence=None, usage=Usage(), timings=Timings(), repetition=True
    )[-1]
    assert isinstance(last, Finished)
    assert (last.reason, last.outcome) == ("length", "repetition")


def test_an_unknown_tool_format_is_noted_and_bare_calls_are_read() -> None:
    bare = '{"name": "get_weather", "arguments": ' + CITY + "}"
    answer = read(bare, Given("no_such_format"))
    assert words(answer) == [CALLED]
    assert answer.finished.notes == ("the model's tool format is not known",)


def test_notes_of_one_kind_are_counted() -> None:
    answer = read("<tool_call>x" * 3, JSON)
    (note,) = answer.finished.notes
    assert note.endswith("(3 times)")
    assert outcome(answer) == outcome(collect(stream("<tool_call>x" * 3, JSON)))
