"""Values without escaping that hold the notation's own tags, and calls that they show."""

import json
import random
import time
from collections.abc import Iterable

import pytest

from mlxd.events import Answer, BlockDelta, collect
from mlxd.messages import Tool
from tests.engine.notations.plain_texts import (
    FILES,
    NAMES,
    PLAIN,
    SCHEMA,
    Member,
    file,
    given,
    marks_of,
    value,
    written,
)
from tests.engine.texts import cuts, outcome, read, stream, words

pytestmark = pytest.mark.thorough

COUNT = 30


def in_pieces(text: str, size: int) -> Iterable[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def arguments(answer: Answer) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]


def law(notation: str, seed: int) -> None:
    """Some calls with random values are read back, however their text is cut."""
    chance = random.Random(f"{notation} {seed}")
    calls: list[tuple[str, list[Member]]] = []
    kind = chance.choice(("one", "one", "before", "behind", "second"))
    text = value(chance, notation, openings=kind in ("one", "before"))
    path = [("path", "a/b")]
    members = [*(path if kind == "before" else ()), ("text", text)]
    calls = [("save", [*members, *(path if kind == "behind" else ())])]
    if kind == "second":
        calls.append(("lamp", [("room", value(chance, notation, openings=False))]))
    whole = written(notation, *calls)
    answer = read(whole, given(notation))
    assert words(answer)[len(calls) :] == [], (seed, whole)
    assert arguments(answer) == [(name, dict(members)) for name, members in calls], (seed, whole)
    assert answer.finished.reason == "tool_calls"
    assert answer.finished.notes == ()
    for size in (1, 3, 7):
        cut = collect(stream(in_pieces(whole, size), given(notation)))
        assert outcome(cut) == outcome(answer), (seed, size, whole)


@pytest.mark.parametrize("notation", NAMES)
def test_any_value_of_the_notations_own_tags_and_calls_is_read_back(notation: str) -> None:
    for seed in range(COUNT):
        law(notation, seed)


@pytest.mark.parametrize("notation", NAMES)
@pytest.mark.parametrize("pattern", FILES)
def test_a_file_with_closing_tags_is_read_whole(notation: str, pattern: str) -> None:
    text = file(notation, pattern)
    for members in ([("text", text)], [("path", "a"), ("text", text)]):
        whole = written(notation, ("save", members))
        answer = read(whole, given(notation))
        assert arguments(answer) == [("save", dict(members))]
        assert answer.text == ""
        assert answer.finished.notes == ()
        for size in (1, 3, 7):
            cut = collect(stream(in_pieces(whole, size), given(notation)))
            assert outcome(cut) == outcome(answer)


@pytest.mark.parametrize("pattern", FILES)
def test_a_file_is_read_the_same_wherever_its_text_is_cut(pattern: str) -> None:
    whole = written("minimax_m2", ("save", [("text", file("minimax_m2", pattern))])) + "Done."
    answer = read(whole, given("minimax_m2"))
    for pieces in cuts(whole):
        assert outcome(collect(stream(pieces, given("minimax_m2")))) == outcome(answer)


WORDS = ("C", "C C", "<job>U7C</job>", "E", "R", "P", "say P here", "F it", "C so", "U7C\nU8C")


@pytest.mark.parametrize("notation", NAMES)
@pytest.mark.parametrize("pattern", WORDS)
def test_what_follows_such_a_value_is_read_too(notation: str, pattern: str) -> None:
    text = file(notation, pattern)
    both = [("text", text), ("path", "a")]
    calls = [("save", both), ("lamp", [("room", text)]), ("save", [("path", text)])]
    answer = read(written(notation, *calls) + "\nDone.", given(notation))
    assert arguments(answer) == [(name, dict(members)) for name, members in calls]
    assert answer.text == "Done."


def test_only_a_closing_tag_and_what_decides_on_it_wait() -> None:
    builder = given("qwen3_coder").builder()
    opening = "<tool_call>\n<function=save>\n<parameter=text>\n"
    builder.text(opening + "a\n", tokens=1)
    assert builder.text("</parameter>", tokens=1) == []
    assert builder.text("\n  ", tokens=1) == []
    assert builder.text("b", tokens=1) == [BlockDelta(0, "\\n</parameter>\\n  b")]
    assert builder.text("<p", tokens=1) == []
    assert builder.text(">c</parameter>\n<parameter=x>", tokens=1) == [
        BlockDelta(0, "<p>c</parameter>\\n<parameter=x>")
    ]
    assert builder.text("</parameter>\n<parameter=path>\nd", tokens=1) == [
        BlockDelta(0, '", "path": "d')
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # An answer that was cut makes no call of what it shows.
        ("To call: F P\nhi\nC E R and", None),
        ("To call: F P\nhi\nC E R", None),
        ("say P here", "say P here"),
    ],
)
def test_an_answer_cut_in_a_value_that_shows_a_call_has_no_call_of_it(
    text: str, found: str | None
) -> None:
    for notation in NAMES:
        whole = file(notation, text)
        cut = written(notation, ("save", [("text", whole)]))
        if found is None:
            cut = cut.partition(whole)[0] + whole
        answer = read(cut, given(notation, reason="length"))
        assert answer.finished.reason == "length"
        (call,) = answer.tool_calls
        if found is None:
            with pytest.raises(json.JSONDecodeError):
                json.loads(call.arguments)
        else:
            assert json.loads(call.arguments) == {"text": whole}


@pytest.mark.parametrize("notation", NAMES)
def test_a_missing_closing_tag_does_not_swallow_what_the_tool_still_needs(notation: str) -> None:
    needed = Tool("save", "", json.dumps({**SCHEMA, "required": ["text", "path"]}))
    tool = Tool("save", "", needed.parameters.replace('"text":', '"x": {}, "text":'))
    form = PLAIN[notation]
    members = [("text", "Bergen"), ("path", "Vest"), ("x", "cold")]
    whole = written(notation, ("save", members))
    whole = whole.replace("Bergen" + form.member[1], "Bergen\n", 1)
    answer = read(whole, given(notation, tools=(tool,)))
    (call,) = answer.tool_calls
    assert {key: each.strip() for key, each in json.loads(call.arguments).items()} == dict(members)
    assert answer.finished.notes == ("tool call repaired: a missing closing tag",)


TORN = "<arg_key>{}\n<arg_value>"


@pytest.mark.parametrize(
    ("inner", "found"),
    [
        # Behind a value a key without its closing tag begins another argument.
        ("V1C" + TORN.format("zone") + "2C", {"text": "1"}),
        ("V1C\n" + TORN.format("zone") + "2C\nW3C", {"text": "1", "path": "3"}),
        ("V1C\n" + TORN.format("path") + "2C", {"text": "1", "path": "2"}),
        (TORN.format("path") + "2C\nV1C", {"path": "2", "text": "1"}),
        (TORN.format("zone") + "2C\nV1C", {"text": "1"}),
        # In a value it is text, and so is one that is no name.
        (
            "Vsee " + TORN.format("zone") + "2C hereC",
            {"text": "see " + TORN.format("zone") + "2C here"},
        ),
        ("V1C " + TORN.format("no name") + "2C", {"text": "1C " + TORN.format("no name") + "2"}),
        ("V1C <arg_key>zoneC", {"text": "1C <arg_key>zone"}),
    ],
)
def test_a_key_without_its_closing_tag_costs_no_other_argument(
    inner: str, found: dict[str, str]
) -> None:
    def tags(text: str) -> str:
        for letter, tag in (("V", "text"), ("W", "path")):
            text = text.replace(letter, f"<arg_key>{tag}</arg_key>\n<arg_value>")
        return text.replace("C", "</arg_value>")

    whole = f"<tool_call>save\n{tags(inner)}\n</tool_call>"
    answer = read(whole, given("glm47"))
    expected = {key: value.replace("C", "</arg_value>") for key, value in found.items()}
    assert arguments(answer) == [("save", expected)]
    for pieces in cuts(whole):
        assert outcome(collect(stream(pieces, given("glm47")))) == outcome(answer)


@pytest.mark.parametrize("notation", NAMES)
def test_calls_without_their_last_tags_are_calls(notation: str) -> None:
    marks, text = marks_of(notation), file(notation, "a C b")
    whole = written(notation, ("save", [("text", text)]))
    for ending in (marks.region_end, marks.call_end + "\n" + marks.region_end):
        answer = read(whole.removesuffix(ending.strip()), given(notation))
        assert arguments(answer) == [("save", {"text": text})]
    if marks.region_end:
        answer = read(whole.replace(marks.region_end, "") + "\nDone.", given(notation))
        assert arguments(answer) == [("save", {"text": text})]
        assert answer.text == "Done."


@pytest.mark.parametrize("notation", [*NAMES, "kimi_k3", "pythonic"])
def test_an_argument_that_comes_twice_is_there_once_and_noted(notation: str) -> None:
    if notation == "kimi_k3":
        one = '<|open|>argument key="{}" type="string"<|sep|>{}<|close|>argument<|sep|>'
        inner = one.format("text", "a") + one.format("text", "b") + one.format("path", "c")
        opening = '<|open|>tools<|sep|><|open|>call tool="save"<|sep|>'
        text = f"{opening}{inner}<|close|>call<|sep|><|close|>tools<|sep|>"
    elif notation == "pythonic":
        text = "<|tool_call_start|>[save(text='a', text='b', path='c')]<|tool_call_end|>"
    else:
        text = written(notation, ("save", [("text", "a"), ("text", "b"), ("path", "c")]))
    answer = read(text, given(notation))
    (call,) = answer.tool_calls
    assert call.arguments == '{"text": "a", "path": "c"}'
    assert answer.finished.notes == (
        "tool call repaired: an argument that comes twice; the first one counts",
    )
    for pieces in cuts(text):
        assert outcome(collect(stream(pieces, given(notation)))) == outcome(answer)


@pytest.mark.parametrize(
    ("notation", "written", "meant"),
    [
        ("seed_oss", "a.txt", "a.txt"),
        ("seed_oss", "\na.txt\n", "a.txt"),
        ("seed_oss", "def f():\n    pass\n", "def f():\n    pass\n"),
        ("seed_oss", "a\n\n", "a\n\n"),
        ("seed_oss", "\na\n\n", "a\n"),
        ("seed_oss", "\na", "a"),
        ("seed_oss", "\n", ""),
        ("seed_oss", "", ""),
        # Qwen's template has both line breaks always, so that one alone is its own too.
        ("qwen3_coder", "\na.txt\n", "a.txt"),
        ("qwen3_coder", "\n\na\n\n", "\na\n"),
        ("qwen3_coder", "a.txt\n", "a.txt"),
        ("minimax_m2", "\na\n", "\na\n"),
    ],
)
def test_line_breaks_around_a_value_are_its_own_where_the_family_writes_none(
    notation: str, written: str, meant: str
) -> None:
    opening, closing = (each.strip() for each in PLAIN[notation].member)
    before, after = (each.format(name="save") for each in PLAIN[notation].call)
    region = PLAIN[notation].region
    whole = region[0] + before + opening.format(key="text") + written + closing + after + region[1]
    answer = read(whole, given(notation))
    assert arguments(answer) == [("save", {"text": meant})]
    for pieces in cuts(whole):
        assert outcome(collect(stream(pieces, given(notation)))) == outcome(answer)


HOSTILE = (
    "C",
    "C ",
    "C\n",
    "C E",
    "C E R",
    "C E R ",
    "P",
    "F P",
    "F P a C",
    "C P",
    "C Q",
    "U",
    "F",
)


@pytest.mark.parametrize("notation", ["qwen3_coder", "glm47", "minicpm5"])
def test_a_value_of_tags_alone_takes_time_that_grows_with_its_length(notation: str) -> None:
    opening, _, _ = written(notation, ("save", [("text", "\0")])).partition("\0")

    def seconds(text: str, size: int) -> float:
        start = time.process_time()
        stream(in_pieces(text, size), given(notation))
        return time.process_time() - start

    for pattern in HOSTILE:
        tag = file(notation, pattern)
        for size in (400, 1_000_000):
            few, many = (opening + tag * (count // len(tag)) for count in (5_000, 20_000))
            assert seconds(many, size) < 0.2 + 10 * seconds(few, size), pattern
