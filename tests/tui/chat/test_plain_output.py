"""An answer outside of the full screen, and links in one: nothing happens that nobody asked for."""

import io
from typing import cast

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Markdown

from mlxd.tui.chat.answer import AnswerPart, AnswerState, StreamedAnswer
from mlxd.tui.chat.plain_output import Printer, report
from mlxd.tui.chat.views import Segment

PIECES = ("Hel", "Hello \x1b]0;title\x07", "Hello \x1b]0;title\x07 w\xf6rld")


@pytest.mark.parametrize("terminal", [False, True])
def test_an_answer_is_written_as_it_grows_each_part_once(terminal: bool) -> None:
    out = io.BytesIO()
    printer = Printer(out, terminal=terminal)
    for piece in (*PIECES, PIECES[-1]):
        printer.show(piece)
    written = out.getvalue().decode()
    assert (written.count("Hel"), written.count("w\xf6rld")) == (1, 1)
    # A pipe gets what the model wrote; a terminal would obey it.
    assert ("\x1b" in written) is not terminal
    assert terminal or written == PIECES[-1]


class Reader(App[None]):
    """An application that says what it was told to open."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def compose(self) -> ComposeResult:
        yield Segment()

    def open_url(self, url: str, *, new_tab: bool = True) -> None:
        self.opened.append(url)


async def test_a_link_in_an_answer_opens_no_browser() -> None:
    reader = Reader()
    async with reader.run_test() as pilot:
        segment = reader.query_one(Segment)
        segment.post_message(Markdown.LinkClicked(segment, "https://example.org/"))
        await pilot.pause()
        assert reader.opened == []


def test_an_answer_as_json_says_how_it_ended() -> None:
    parts = [AnswerPart("reasoning", "Hm."), AnswerPart("text", "Hi.")]
    answer = StreamedAnswer(parts=parts, model="m", tokens=3, prompt_tokens=9, last=1.23456)
    for state, reason, code, finish in (
        ("completed", "", "", "stop"),
        ("incomplete", "max_output_tokens", "", "length"),
        ("failed", "", "queue_full", "queue_full"),
    ):
        answer.state, answer.reason, answer.code = cast(AnswerState, state), reason, code
        assert report(answer) == {
            "text": "Hi.",
            "reasoning": "Hm.",
            "model": "m",
            "usage": {"input_tokens": 9, "output_tokens": 3},
            "finish": finish,
            "seconds": 1.235,
        }
