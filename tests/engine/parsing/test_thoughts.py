"""Calls inside thinking: drafts stay thinking, and those that end it unclosed are meant."""

from typing import NamedTuple

import pytest

from mlxd.engine.notations.table import NOTATIONS
from mlxd.errors import EngineCrashed
from mlxd.events import BlockDelta, FinishReason, collect
from mlxd.messages import ReasoningMode
from tests.engine.notations.samples import SAMPLES
from tests.engine.texts import Given, cuts, outcome, read, request, stream, words

pytestmark = pytest.mark.thorough

JSON = Given("json_tools")
ATTIC, CELLAR = '{"city": "attic"}', '{"city": "cellar"}'


def draft(arguments: str) -> str:
    return f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}}}\n</tool_call>'


def called(arguments: str) -> tuple[str, ...]:
    return ("call", "get_weather", arguments)


class Dialogue(NamedTuple):
    """How one notation writes thinking, and calls with a city."""

    notation: str
    given: Given
    opening: str
    closing: str
    call: str

    def city(self, name: str) -> str:
        return self.call.replace("CITY", name)


def dialogue(name: str) -> Dialogue:
    notation = NOTATIONS[name]
    form = notation.form
    pattern = (form.region[0] + form.call[0]).replace("{{", "{").replace("}}", "}")
    opening, closing = pattern.replace("{name}", "get_weather"), form.call[1] + form.region[1]
    if form.json:
        inner = '{"city": "CITY"}'
    else:
        value = '"CITY"' if form.values == "json" else "CITY"
        inner = value.join(text.replace("{key}", "city") for text in form.member)
    text = opening + inner + closing.replace("}}", "}")
    if not text.startswith(tuple(notation.starts)):
        text = next(iter(notation.starts)) + text
    given = next(sample.given for sample in SAMPLES if sample.notation == name)
    tags = given.reasoning[0]
    if notation.headers is not None:
        tags = ("to=self<|message|>", "<|eom|><|start|>assistant<|message|>")
    return Dialogue(name, given, *tags, text)


DIALOGUES = [dialogue(name) for name, notation in NOTATIONS.items() if notation.starts]


def cities(text: str, given: Given) -> list[str]:
    """The first word that tells the calls of an answer apart."""
    return [
        "attic" if "attic" in call.arguments else "cellar" for call in read(text, given).tool_calls
    ]


@pytest.mark.parametrize("each", DIALOGUES, ids=lambda each: each.notation)
@pytest.mark.parametrize("inner", ["One way is X but no.", "X", "X\n", "`X`, X or X"])
def test_a_draft_is_thinking_where_text_or_a_call_follows(each: Dialogue, inner: str) -> None:
    thought = inner.replace("X", each.city("attic"))
    for behind in ("Good evening!", each.city("cellar"), "So: " + each.city("cellar")):
        text = each.opening + thought + each.closing + behind
        answer = read(text, each.given)
        assert answer.reasoning == thought
        assert cities(text, each.given) == (["cellar"] if "cellar" in behind else [])
        assert answer.finished.reason == ("tool_calls" if "cellar" in behind else "stop")
        assert answer.text == behind.partition(each.city("cellar"))[0].strip()


@pytest.mark.parametrize("each", DIALOGUES, ids=lambda each: each.notation)
def test_a_call_that_ends_the_thinking_is_meant(each: Dialogue) -> None:
    for behind in ("", "\n", each.closing, f"\n{each.closing}\n \n"):
        text = each.opening + "Need it. " + each.city("attic") + behind
        answer = read(text, each.given)
        assert answer.reasoning == "Need it. "
        assert cities(text, each.given) == ["attic"]
        assert (answer.text, answer.finished.reason) == ("", "tool_calls")


@pytest.mark.parametrize("each", DIALOGUES, ids=lambda each: each.notation)
def test_cutting_a_thought_anywhere_reads_the_same(each: Dialogue) -> None:
    for inner, behind in (("a X b", "Done."), ("X", ""), ("X", each.city("cellar"))):
        text = each.opening + inner.replace("X", each.city("attic")) + each.closing + behind
        whole = outcome(read(text, each.given))
        for pieces in cuts(text):
            assert outcome(collect(stream(pieces, each.given))) == whole


@pytest.mark.parametrize(
    ("inner", "behind"),
    [
        (draft(ATTIC)[:-25], "No."),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "at', "No."),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "at"oh', "No."),
        ("<tool_call>get_wea", "No."),
        ("I may use <tool_call> here. " + draft(ATTIC), "No."),
        (draft(ATTIC) + " or " + draft(CELLAR)[:-20], draft(ATTIC)),
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "', draft(CELLAR)),
    ],
)
def test_a_draft_that_breaks_off_ends_with_the_thinking(inner: str, behind: str) -> None:
    text = f"<think>{inner}</think>{behind}"
    expected: list[tuple[str, ...]] = [("reasoning", inner)]
    expected += [("text", "No.")] if behind == "No." else words(read(behind, JSON))
    for pieces in ([text], *cuts(text)):
        assert words(collect(stream(pieces, JSON))) == expected
    opened = JSON._replace(opens_reasoning=True)
    assert words(read(text.removeprefix("<think>"), opened)) == expected


def test_without_parallel_calls_a_draft_takes_no_place_and_ends_nothing() -> None:
    given = JSON._replace(asked=request(parallel_tools=False))
    text = f"<think>{draft(ATTIC)} or not</think>{draft(CELLAR)}"
    assert words(read(text, given))[1:] == [called(CELLAR)]
    builder = given.builder()
    builder.text(f"<think>{draft(ATTIC)} or", tokens=1)
    assert not builder.complete


def test_of_two_unclosed_calls_without_parallel_calls_the_first_is_meant() -> None:
    given = JSON._replace(asked=request(parallel_tools=False))
    assert words(read(f"<think>{draft(ATTIC)}{draft(CELLAR)}", given)) == [called(ATTIC)]
    assert words(read(f"<think>{draft(ATTIC)}{draft(CELLAR)}", JSON)) == [
        called(ATTIC),
        called(CELLAR),
    ]


@pytest.mark.parametrize("reason", ["length", "stop_sequence"])
def test_an_answer_cut_inside_its_thinking_makes_no_call(reason: FinishReason) -> None:
    for inner in (draft(ATTIC), draft(ATTIC) + " hm", draft(ATTIC)[:-20]):
        answer = read("<think>" + inner, JSON._replace(reason=reason))
        assert words(answer) == [("reasoning", inner)]
        assert answer.finished.reason == reason


def test_a_failure_makes_no_call_of_a_thought() -> None:
    builder = JSON.builder()
    builder.text(f"<think>{draft(ATTIC)}</think>", tokens=1)
    events = builder.fail(EngineCrashed("killed"), collect(stream("", JSON)).finished.usage)
    assert "".join(e.text for e in events if isinstance(e, BlockDelta)) == draft(ATTIC)


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        ("separate", [("reasoning", f"a {draft(ATTIC)} b"), ("text", "Done.")]),
        ("strip", [("text", "Done.")]),
        ("inline", [("text", f"<think>a {draft(ATTIC)} b</think>\nDone.")]),
    ],
)
def test_a_draft_is_treated_as_thinking_in_every_mode(
    mode: ReasoningMode, parts: list[tuple[str, ...]]
) -> None:
    text = f"<think>a {draft(ATTIC)} b</think>\nDone."
    assert words(read(text, JSON._replace(mode=mode))) == parts


def test_thinking_streams_up_to_a_call_in_it_and_past_a_mention() -> None:
    builder = JSON.builder()
    builder.text("<think>", tokens=1)
    for piece in ("long ", "<tool_call> is ", "how. "):
        assert [e.text for e in builder.text(piece, tokens=1) if isinstance(e, BlockDelta)] == [
            piece
        ]
    assert builder.text(draft(ATTIC) + " hm", tokens=1) == []
    assert builder.text("</think>\n", tokens=1) == []
    events = builder.text("No", tokens=1)
    shown = [event.text for event in events if isinstance(event, BlockDelta)]
    assert shown == [draft(ATTIC) + " hm", "No"]


def test_a_draft_leaves_no_note_and_takes_no_id() -> None:
    kimi = dialogue("kimi_k2")
    broken = kimi.city("attic").replace("attic", "a\tb")
    text = f"<think>{broken}</think>{kimi.city('cellar')}"
    answer = read(text, kimi.given)
    assert [call.id for call in answer.tool_calls] == ["functions.get_weather:0"]
    assert answer.finished.notes == ()


def test_thinking_behind_the_close_makes_a_draft_of_the_call_before() -> None:
    answer = read(f"<think>{draft(ATTIC)}</think>\n<think>better not</think>", JSON)
    assert words(answer) == [("reasoning", draft(ATTIC)), ("reasoning", "better not")]
