"""A conversation as a file, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxd.tui.chat.answer import AnswerPart
from mlxd.tui.chat.transcript import (
    QuestionAndAnswer,
    Transcript,
    TranscriptError,
    from_json,
    from_markdown,
    to_json,
    to_markdown,
)

CHAT = Transcript(
    turns=(
        QuestionAndAnswer(
            "Hello\nthere",
            (AnswerPart("reasoning", "A greeting."), AnswerPart("text", "Hi!\n\n- one")),
        ),
        QuestionAndAnswer(
            "Weather?", (AnswerPart("call", '{"city":"Paris"}', "get_weather", "call_1"),)
        ),
        QuestionAndAnswer("Never answered"),
    ),
    system="Be brief.",
    model="demo",
)
LINES = st.sampled_from(
    ["", "<!-- mlxd:user -->", "\\<!-- mlxd:assistant -->", "## You", "## Answer", "x", " y ", "é"]
)
TEXT = st.lists(LINES, min_size=1, max_size=6).map("\n".join)
SAID = TEXT.filter(bool)
TURNS = st.lists(
    st.builds(
        QuestionAndAnswer,
        TEXT,
        st.one_of(st.just(()), st.tuples(st.builds(AnswerPart, st.just("text"), SAID))),
    ),
    min_size=1,
    max_size=4,
)


def test_json_holds_everything() -> None:
    assert from_json(to_json(CHAT)) == CHAT


def test_json_is_what_other_tools_call_messages() -> None:
    assert '"role": "system"' in to_json(CHAT)
    asked = '{"role":"user","content":[{"type":"text","text":"Q"}]}'
    messages = '[{"role":"developer","content":"S"},' + asked + "]"
    assert from_json(messages) == Transcript((QuestionAndAnswer("Q"),), "S")


def test_markdown_holds_everything() -> None:
    assert from_markdown(to_markdown(CHAT)) == CHAT


def test_markdown_reads_well() -> None:
    told = to_markdown(
        Transcript((QuestionAndAnswer("Hello", (AnswerPart("text", "Hi!"),)),), model="demo")
    )
    assert told == (
        "# Chat with demo\n\n<!-- mlxd:user -->\n## You\nHello\n\n"
        "<!-- mlxd:assistant -->\n## Answer\nHi!\n"
    )


@given(TURNS, TEXT)
def test_text_that_looks_like_the_file_itself_survives(
    turns: list[QuestionAndAnswer], system: str
) -> None:
    transcript = Transcript(tuple(turns), system)
    assert from_markdown(to_markdown(transcript)) == transcript
    assert from_json(to_json(transcript)) == transcript


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[1]", '{"messages":[]}', "nothing", '{"messages":[{"role":7}]}', "[" * 9999],
)
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(TranscriptError):
        from_json(text)


@pytest.mark.parametrize("text", ["", "# Chat", "<!-- mlxd:call nonsense -->\n{}"])
def test_markdown_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(TranscriptError):
        from_markdown(text)
