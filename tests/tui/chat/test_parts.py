"""The chat's small parts: text, figures, events, commands, earlier messages, pace."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxd.tui.chat.answer import StreamedAnswer, WireEvent
from mlxd.tui.chat.input_history import MAX_LENGTH, MAX_LINES, InputHistory
from mlxd.tui.chat.problems import remedy, words
from mlxd.tui.chat.redraw_pace import LONGEST, SHORTEST, RedrawPace
from mlxd.tui.chat.safe_text import harmless, one_line, seconds
from mlxd.tui.chat.slash_commands import (
    SlashCommand,
    UnknownCommand,
    common,
    completions,
    hint,
    missing,
    parse,
)
from mlxd.tui.chat.status_line import figures
from mlxd.tui.problems import ServerRefused


@given(st.text(st.characters(codec=None)))
def test_harmless_text_is_printable_but_for_line_feeds_and_tabs(text: str) -> None:
    shown = harmless(text)
    assert not [each for each in shown if each < " " and each not in "\n\t"]
    assert not set(shown) & {chr(code) for code in (*range(0x7F, 0xA0), 0x202E, 0x2066)}
    shown.encode()


def test_harmless_text_is_otherwise_as_it_was() -> None:
    assert harmless("é 漢\t\U0001f44d\r\n") == "é 漢\t\U0001f44d\n"
    assert harmless("\x1b[2J\x7f") == "\u241b[2J\u2421"


def test_one_line_is_one_line() -> None:
    assert one_line("a\n b\x1b", 10) == "a b\u241b"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("duration", "told"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (185, "3 min 5 s")]
)
def test_durations_are_told_as_people_do(duration: float, told: str) -> None:
    assert seconds(duration) == told


def fold(*events: dict[str, object], step: float = 1.0) -> StreamedAnswer:
    answer = StreamedAnswer(sent_at=100.0)
    for number, event in enumerate(events):
        wire = msgspec.json.decode(json.dumps(event), type=WireEvent)
        answer.take(wire, 100.0 + step * (number + 1))
    return answer


def delta(text: str, index: int = 0, kind: str = "output_text") -> dict[str, object]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": text}


DONE: dict[str, object] = {
    "type": "response.completed",
    "response": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 9}},
}


def test_reasoning_ends_where_the_text_begins() -> None:
    answer = fold(delta("Hm", 0, "reasoning_summary_text"), delta("Hi", 1), DONE)
    told = [(block.kind, block.text, block.started, block.ended) for block in answer.parts]
    assert told == [("reasoning", "Hm", 101.0, 102.0), ("text", "Hi", 102.0, 103.0)]
    assert (answer.state, answer.model, answer.first) == ("completed", "m", 1.0)
    assert answer.rate == pytest.approx(8.0)


def test_an_answer_that_is_not_streamed_is_taken_from_its_end() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    whole: dict[str, object] = {"type": "response.completed", "response": {"output": [item]}}
    assert fold(whole).text == "Hi"


def test_what_is_not_known_changes_nothing() -> None:
    odd: dict[str, object] = {"type": "response.audio.delta", "delta": "x", "output_index": 3}
    item: dict[str, object] = {"type": "response.output_item.added", "item": {"type": "mcp_call"}}
    assert fold(odd, item, {"type": "ping"}) == StreamedAnswer(sent_at=100.0)


def test_figures_say_what_is_known() -> None:
    answer = fold(delta("a"))
    assert figures(StreamedAnswer(sent_at=100.0), 100.5) == "waiting, 0.5 s"
    assert figures(answer, 102.0) == "answering, 2.0 s, first token 1.0 s"
    assert figures(fold(delta("a", kind="reasoning_text")), 102.0).startswith("thinking, ")
    assert figures(fold(delta("a"), delta("b"), delta("c")), 103.0) == (
        "answering, 3.0 s, ~1.0 tok/s, first token 1.0 s"
    )
    assert figures(fold(delta("a"), delta("b"), DONE), 103.0) == (
        "9 tokens, 8.0 tok/s, first token 1.0 s, prompt 5 tokens"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hello", None),
        (" /help", None),
        ("/etc/hosts", None),
        ("/", None),
        ("/help", SlashCommand("help")),
        ("/?", SlashCommand("help")),
        ("/EXIT ", SlashCommand("quit")),
        ("/save! a b.md", SlashCommand("save", "a b.md", force=True)),
        ("/system two\nlines", SlashCommand("system", "two\nlines")),
        ("/sav x", UnknownCommand("sav", "save")),
        ("/zzz", UnknownCommand("zzz", "")),
    ],
)
def test_commands_are_told_from_messages(text: str, found: object) -> None:
    assert parse(text) == found


def test_a_command_with_too_little_or_too_much_says_so() -> None:
    assert missing(SlashCommand("save")) == "/save needs a file: /save FILE"
    assert missing(SlashCommand("clear", "x")) == "/clear takes nothing behind it."
    assert missing(SlashCommand("model")) == ""


def test_completions_are_commands_models_and_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.md").touch()
    (tmp_path / ".hidden").touch()
    assert completions("/cl") == ["/clear"]
    assert completions("/model o", ["demo", "other"]) == ["/model other"]
    assert completions(f"/load {tmp_path}/") == [
        f"/load {tmp_path}/file.md",
        f"/load {tmp_path}/folder/",
    ]
    assert completions(f"/save! {tmp_path}/fi") == [f"/save! {tmp_path}/file.md"]
    assert completions(f"/load {tmp_path}/nowhere/x") == []
    assert completions("hello") == completions("/a\nb") == []
    assert common(["/save ", "/system "]) == "/s"


def test_hints_are_short() -> None:
    assert hint([]) == ""
    assert hint(["/clear"]) == "/clear  begin a new conversation"
    assert hint([f"/model m{n}" for n in range(20)]).splitlines()[-1] == "and 12 more"


def test_earlier_messages_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    first = InputHistory(file)
    for text in ("one", "two\nlines", "two\nlines", " not kept", "x" * (MAX_LENGTH + 1), "\ud800"):
        first.add(text)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert InputHistory(file).lines[:2] == ("one", "two\nlines")


def test_the_file_of_earlier_messages_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "history"
    file.write_text("".join(f'"{n}"\n' for n in range(3 * MAX_LINES)) + "damaged\n7\n")
    assert InputHistory(file).lines[-1] == str(3 * MAX_LINES - 1)
    assert len(file.read_text().splitlines()) <= MAX_LINES
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    history = InputHistory(tmp_path)
    history.add("one")
    assert history.older("") == "one"
    assert history.older("") is None


def test_drawing_slows_down_with_its_cost() -> None:
    now, worked = [0.0], [0.0]
    pace = RedrawPace(lambda: now[0], lambda: worked[0])
    pace.begin()
    assert pace.due()
    for cost, wait in ((0.0, SHORTEST), (0.1, 0.4), (9.0, LONGEST)):
        worked[0] += cost
        pace.shown()
        now[0] += wait - 0.01
        assert not pace.due()
        now[0] += 0.02
        assert pace.due()


def test_a_server_cannot_write_lines_of_its_own_in_a_problem() -> None:
    assert words(ServerRefused("u", 500, "a\nb\x1b[2J")) == "a b\u241b[2J"
    assert remedy("invalid_value") == ""
