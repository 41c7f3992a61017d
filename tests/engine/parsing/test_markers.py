"""Decoded text to spans: tags, control texts and message headers, wherever the text is cut."""

import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxd.engine.interface import Markup
from mlxd.engine.notations.reading.calls import Calls
from mlxd.engine.notations.reading.scanner import Scanner
from mlxd.engine.parsing.markers import Span, Splitter
from mlxd.events import collect
from tests.engine.texts import THINK, TOOLS, Given, cuts, stream, words

PLAIN = Markup(THINK)
STRUCTURED = Markup(
    (("<think>", "</think>"), ("<|channel>thought", "<channel|>")),
    structural=("<|eom|>", "<|eom|>more"),
)
HARMONY = Markup(tool_format="harmony")


def splitter(
    markup: Markup = PLAIN, *, opens_reasoning: bool = False, tools: bool = False
) -> Splitter:
    scan = Scanner()
    calls = Calls(TOOLS if tools else (), scan)
    return Splitter(markup, scan, calls, opens_reasoning=opens_reasoning)


def split(
    pieces: Iterable[str],
    markup: Markup = PLAIN,
    *,
    opens_reasoning: bool = False,
    tools: bool = False,
) -> list[tuple[str, str]]:
    """The spans as (channel, text); spans of one channel that follow each other are joined."""
    reader = splitter(markup, opens_reasoning=opens_reasoning, tools=tools)
    items = [item for piece in pieces for item in reader.feed(piece)]
    spans: list[tuple[str, str]] = []
    for item in [*items, *reader.finish(complete=True)]:
        if not isinstance(item, Span):
            continue
        if spans and spans[-1][0] == item.channel:
            spans[-1] = (item.channel, spans[-1][1] + item.text)
        else:
            spans.append((item.channel, item.text))
    return spans


def test_tags_part_reasoning_from_text() -> None:
    assert split(["a<think>b</think>c"]) == [
        ("text", "a"),
        ("tag", "<think>"),
        ("reasoning", "b"),
        ("tag", "</think>"),
        ("text", "c"),
    ]


def test_a_prompt_that_opened_the_tag_begins_in_reasoning() -> None:
    spans = split(["b</think>c"], opens_reasoning=True)
    assert spans == [("reasoning", "b"), ("tag", "</think>"), ("text", "c")]


def test_thinking_that_a_prompt_opened_ends_also_where_no_tags_are_known() -> None:
    spans = split(["b</think>c"], Markup(), opens_reasoning=True)
    assert spans == [("reasoning", "b"), ("tag", "</think>"), ("text", "c")]
    assert split(["b</think>c"], Markup()) == [("text", "b</think>c")]


def test_an_opening_tag_that_repeats_the_prompts_is_a_tag() -> None:
    spans = split(["\n<think>b <think> c"], opens_reasoning=True)
    assert spans == [
        ("reasoning", "\n"),
        ("tag", "<think>"),
        ("reasoning", "b <think> c"),
    ]


def test_a_second_closing_tag_is_a_tag_and_no_text() -> None:
    spans = split(["b</think>c</think>d"], opens_reasoning=True)
    assert [text for channel, text in spans if channel == "text"] == ["c", "d"]


def test_an_unclosed_tag_stays_reasoning_to_the_end() -> None:
    assert split(["<think>never closed</thi"])[-1] == ("reasoning", "never closed</thi")


def test_control_texts_are_dropped_wherever_they_stand() -> None:
    spans = split(["a<|eom|>b<think>c<|eom|>d</think>"], STRUCTURED)
    assert "<|eom|>" not in "".join(text for channel, text in spans if channel != "markup")
    assert [channel for channel, _ in spans].count("markup") == 2


def test_of_two_markers_at_one_place_the_longer_counts() -> None:
    assert split(["a<|eom|>more"], STRUCTURED) == [("text", "a"), ("markup", "<|eom|>more")]
    assert split(["a<|eom|>mo"], STRUCTURED)[-1] == ("text", "mo")


def test_a_beginning_of_a_marker_is_held_back_until_it_is_known() -> None:
    reader = splitter()
    assert reader.feed("a<thi") == [Span("text", "a", 1)]
    assert reader.feed("s is <") == [Span("text", "<this is ", 10)]
    assert reader.finish(complete=True) == [Span("text", "<", 11)]


def test_spans_say_where_they_end_in_the_text() -> None:
    text = "ab<think>c</think>d"
    for item in splitter().feed(text):
        assert isinstance(item, Span)
        assert text[item.end - len(item.text) : item.end] == item.text


def test_harmony_channels_are_reasoning_and_text() -> None:
    text = (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi."
        "<|return|>"
    )
    spans = split([text], HARMONY)
    assert ("reasoning", "hm") in spans
    assert ("text", "Hi.") in spans
    assert [text for channel, text in spans if channel == "text"] == ["Hi."]


def test_harmony_ignores_the_tags_that_its_headers_stand_for() -> None:
    markup = Markup(
        (("<|channel|>analysis<|message|>", "<|end|>"),),
        "harmony",
        ("<|start|>assistant", "<|end|>"),
    )
    text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=user<|message|>Hi."
    assert [span for span in split([text], markup) if span[0] in ("text", "reasoning")] == [
        ("reasoning", "hm"),
        ("text", "Hi."),
    ]


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=assistant<|message|>",
        "<|start|>functions.get_time to=assistant<|channel|>commentary<|message|>",
        "<|start|>assistant to=assistant <|constrain|>json<|message|>",
    ],
)
def test_what_a_tool_would_answer_is_not_shown(header: str) -> None:
    text = f'{header}{{"hour": 9}}<|end|><|start|>assistant<|channel|>final<|message|>Nine.'
    for pieces in cuts(text):
        spans = split(pieces, HARMONY)
        assert [span for span in spans if span[0] != "markup"] == [("text", "Nine.")]


def test_what_is_final_is_shown_whoever_it_is_for() -> None:
    text = "<|start|>assistant to=assistant<|channel|>final<|message|>Nine."
    assert split([text], HARMONY)[-1] == ("text", "Nine.")


@pytest.mark.parametrize(
    ("recipient", "called"), [("user", False), ("get_time", True), ("self", False)]
)
def test_muse_explains_a_call_to_its_user_and_makes_none(recipient: str, called: bool) -> None:
    shown = (
        '<atem:function_calls>\n<atem:invoke name="get_time">\n</atem:invoke>\n'
        "</atem:function_calls>"
    )
    text = f" to={recipient}<|message|>{shown}<|eom|><|start|>assistant to=user<|message|>Bye."
    for pieces in ([text], *cuts(text)):
        answer = collect(stream(pieces, Given("muse_spark", (), reason="length")))
        assert bool(answer.tool_calls) == called
        assert words(answer)[-1] == ("text", "Bye.")
        assert called or shown in words(answer)[0][1]


def test_a_header_without_an_end_is_text() -> None:
    for text in ("Hello there", "to=nobody", "<|channel|>analysis", "assistant, help " + "x" * 600):
        assert split([text], HARMONY) == [("text", text)]


def test_a_header_that_holds_something_else_is_text() -> None:
    text = "<|channel|>anal<b>ysis<|message|>hm"
    assert split([text], HARMONY) == [("text", text)]


def test_a_message_to_a_tool_that_is_not_offered_shows_its_name_and_no_markup() -> None:
    for header, name in (
        (
            "<|channel|>commentary to=functions.commentary <|constrain|>json<|message|>",
            "commentary ",
        ),
        ("<|channel|>commentary to=browser.open<|message|>", "browser.open"),
    ):
        text = f'{header}{{"id": 1}}<|call|>'
        shown = "".join(text for channel, text in split([text], HARMONY) if channel == "text")
        assert shown == f'{name}{{"id": 1}}'
        for pieces in cuts(text):
            assert split(pieces, HARMONY) == split([text], HARMONY)


def test_what_begins_the_visible_answer_ends_thinking_that_was_not_closed() -> None:
    think, answer = "<|open|>think<|sep|>", "<|open|>response<|sep|>"
    markup = Markup(((think, "<|close|>think<|sep|>"),), "kimi_k3", (answer,))
    spans = split([f"{think}hm{answer}Hi."], markup)
    assert ("reasoning", "hm") in spans
    assert spans[-1] == ("text", "Hi.")
    closed = split([f"{think}hm<|close|>think<|sep|>{answer}Hi."], markup)
    assert ("markup", answer) in closed


CASES = [
    (PLAIN, "x<think>\nab</think>\n\ny</think>z<think>"),
    (PLAIN, "<<think><think>a</</think></think><</think"),
    (STRUCTURED, "a<|eom|>mor<|eom|>more<|channel>thought b<channel|>c<|channel"),
    (HARMONY, "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|message|>b<|end|>c"),
    (HARMONY, "assist me to=<|start|><|channel|>final<|message|>x<|message|>y<|ret"),
    (Markup(THINK, "mistral"), '[TOOL [1] {"name": "x"} ```json\n{}``` [TOOL_CALLS]nothing'),
]


@pytest.mark.parametrize(("markup", "text"), CASES)
@pytest.mark.parametrize("tools", [False, True])
def test_cutting_the_text_anywhere_gives_the_same_spans(
    markup: Markup, text: str, tools: bool
) -> None:
    whole = split([text], markup, tools=tools)
    for pieces in cuts(text):
        assert split(pieces, markup, tools=tools) == whole


SCRAPS = st.sampled_from(
    [
        *("<think>", "</think>", "<thi", "nk>", "</", "<", ">", "\n", " ", "word", "\x00", "é😀"),
        *("<|eom|>", "<|eom|>more", "mo", "<|channel>thought", "<channel|>", "<|", "|>"),
        *("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "assistant", "analysis", "to=self"),
        *("<tool_call>", "</tool_call>", '{"name":', "```", "[", "{", "[TOOL_CALLS]"),
    ]
)
MARKUPS = st.sampled_from(
    [PLAIN, STRUCTURED, HARMONY, Markup(THINK, "json_tools"), Markup((), "muse_spark")]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SCRAPS, max_size=14), MARKUPS, st.booleans(), st.booleans())
def test_every_character_is_in_one_span_however_it_is_cut(
    scraps: list[str], markup: Markup, opens: bool, tools: bool
) -> None:
    text = "".join(scraps)
    whole = split([text], markup, opens_reasoning=opens, tools=tools)
    assert "".join(span for _, span in whole) == text
    assert split(scraps, markup, opens_reasoning=opens, tools=tools) == whole
    assert split(text, markup, opens_reasoning=opens, tools=tools) == whole


def test_a_megabyte_of_what_begins_a_marker_takes_no_time() -> None:
    start = time.process_time()
    assert split(["<" * 1_000_000], STRUCTURED) == [("text", "<" * 1_000_000)]
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "scrap", ["<", "<think>", "</think>", "<|", " ", "\n", "```", "{", "<thin"]
)
def test_a_long_text_of_scraps_is_split_in_time_that_grows_with_its_length(scrap: str) -> None:
    def seconds(size: int) -> float:
        text = scrap * (size // len(scrap))
        start = time.process_time()
        assert sum(len(span) for _, span in split([text], STRUCTURED)) == len(text)
        return time.process_time() - start

    small = min(seconds(6_000) for _ in range(3))
    assert min(seconds(60_000) for _ in range(2)) < 20 * small + 0.25
