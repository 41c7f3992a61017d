"""The chat on the whole terminal: every key and every state."""

from pathlib import Path

import pytest
from textual.events import Key, Paste

from mlxd.tui.chat.app import ChatApp
from mlxd.tui.chat.input_history import InputHistory
from mlxd.tui.chat.views import AnswerView, Segment, ThinkingView, ToolCallView
from mlxd.tui.client import ServerClient
from mlxd.tui.terminal import Terminal
from tests.server.support import until
from tests.tui.chat.desk import HELD, Desk, chatting
from tests.tui.chat.server import Moody, Refusal, Reply, serving


async def test_a_question_gets_its_answer_and_figures() -> None:
    async with chatting() as desk:
        await desk.ask("What is this?")
        assert desk.questions == ["What is this?"]
        assert desk.answers == ["Hello there."]
        assert desk.app.prompt.text == ""
        assert desk.line("figures").startswith("7 tokens, ")
        assert "first token 0." in desk.line("figures")
        assert desk.line("model") == "demo"


async def test_markdown_is_laid_out_as_it_comes() -> None:
    pieces = ("# Ti", "tle\n\n- on", "e\n- two\n\n```py", "thon\nprint()\n`", "``\n")
    async with chatting(Reply(pieces)) as desk:
        await desk.ask("Write.")
        names = [type(block).__name__ for block in desk.app.query_one(Segment).children]
        assert names == ["MarkdownH1", "MarkdownBulletList", "MarkdownFence"]


async def test_an_answer_is_seen_before_its_end() -> None:
    async with chatting(HELD) as desk:
        await desk.enter("Story?")
        await desk.saying()
        await until(lambda: desk.answers == ["Once upon"])
        assert desk.line("figures").startswith("answering, ")


async def test_ctrl_c_stops_the_answer_and_closes_its_stream() -> None:
    async with chatting(HELD) as desk:
        await desk.enter("Story?")
        await desk.saying()
        await desk.press("ctrl+c")
        await until(lambda: desk.moody.open == 0)
        await desk.quiet()
        assert desk.answers == ["Once upon"]
        assert desk.notes[-1] == "Stopped."
        await desk.ask("Go on?")
        assert desk.answers == ["Once upon", "Hello there."]


async def test_what_is_written_behind_enter_belongs_to_the_next_message() -> None:
    async with chatting(HELD) as desk:
        for written in "One?\rTwo":
            key = Key("enter", None) if written == "\r" else Key(written, written)
            desk.app.post_message(key)
        await desk.saying()
        assert desk.questions == ["One?"]
        assert desk.app.prompt.text == "Two"
        await desk.press("enter")
        assert desk.app.prompt.text == "Two"


async def test_an_answer_can_be_stopped_at_once() -> None:
    async with chatting() as desk:
        await desk.ask("One?")
        desk.app.prompt.write("Two?")
        await desk.pilot.press("enter", "ctrl+c")
        await desk.quiet()
        assert desk.questions == ["One?", "Two?"]
        await desk.ask("Three?")
        assert desk.answers[-1] == "Hello there."


async def test_ctrl_c_empties_the_prompt_and_leaves_when_pressed_twice() -> None:
    async with chatting() as desk:
        desk.app.prompt.write("never mind")
        await desk.press("ctrl+c")
        assert desk.app.prompt.text == ""
        await desk.press("ctrl+c")
        assert desk.app.is_running
        await desk.press("ctrl+c")
        assert desk.app.return_value == 0


async def test_ctrl_d_leaves_from_an_empty_prompt_only() -> None:
    async with chatting() as desk:
        desk.app.prompt.write("ab")
        await desk.press("home", "ctrl+d")
        assert desk.app.prompt.text == "b"
        await desk.press("ctrl+d", "ctrl+d")
        assert desk.app.return_value == 0


async def test_a_line_can_be_begun_without_sending() -> None:
    async with chatting() as desk:
        for key in ("ctrl+j", "shift+enter", "alt+enter"):
            await desk.press("a", key, "b", "enter")
            await desk.quiet()
            assert desk.questions.pop() == "a\nb"


async def test_pasted_lines_stay_lines() -> None:
    async with chatting() as desk:
        desk.app.prompt.post_message(Paste("one\r\ntwo\rthree\n"))
        await desk.pilot.pause()
        assert desk.app.prompt.text == "one\ntwo\nthree\n"
        assert desk.moody.asked == []


async def test_up_and_down_go_through_earlier_messages(tmp_path: Path) -> None:
    history = InputHistory(tmp_path / "history")
    async with chatting(history=history) as desk:
        await desk.ask("first")
        await desk.ask("second\nwith a line")
        desk.app.prompt.write("draft")
        await desk.press("up")
        assert desk.app.prompt.text == "second\nwith a line"
        await desk.press("up")
        assert desk.app.prompt.cursor_location[0] == 0
        await desk.press("up")
        assert desk.app.prompt.text == "first"
        await desk.press("up", "down", "down", "down")
        assert desk.app.prompt.text == "draft"


async def test_another_message_waits_for_the_answer() -> None:
    async with chatting(HELD) as desk:
        await desk.enter("Story?")
        await desk.saying()
        await desk.enter("Impatient")
        await desk.enter("/clear")
        assert desk.app.prompt.text == "/clear"
        assert len(desk.moody.asked) == 1


async def test_reasoning_is_folded_and_unfolds() -> None:
    async with chatting(Reply(("Hi.",), reasoning=("Let", " me see."))) as desk:
        await desk.ask("Hello")
        thought = desk.app.query_one(ThinkingView)
        assert thought.collapsed
        assert str(thought.title).startswith("Thought for ")
        assert desk.answers == ["", "Hi."]
        await desk.press("ctrl+t")
        assert desk.answers == ["Let me see.", "Hi."]
        await desk.press("ctrl+t")
        assert thought.collapsed


async def test_a_tool_call_is_shown_as_it_is() -> None:
    async with chatting(Reply((), call=("get_weather", '{"city":"[b]Paris"}'))) as desk:
        await desk.ask("Weather?")
        told = str(desk.app.query_one(ToolCallView).content)
        assert told.startswith('Tool call: get_weather {"city":"[b]Paris"}\n')


async def test_an_answer_cannot_command_the_terminal() -> None:
    evil = "a\x1b]0;title\x07\x1b[2J\x9b31m\x00b\u202ec"
    async with chatting(Reply((evil,), reasoning=(evil,), call=(evil, evil))) as desk:
        await desk.ask(evil)
        await desk.press("ctrl+t")
        shown = "".join([*desk.answers, *desk.notes, *desk.questions])
        drawn = "".join(strip.text for strip in desk.app.screen._compositor.render_strips())
        for text in (shown, drawn):
            assert "\u241b]0;title" in text
            assert not set(text) & set("\x1b\x07\x9b\x00\u202e")


async def test_an_answer_cut_at_its_limit_says_so() -> None:
    async with chatting(Reply(ending="incomplete")) as desk:
        await desk.ask("Long?")
        assert desk.notes[-1] == "The answer was cut at its length limit."


PROBLEMS: list[tuple[Reply | Refusal, str]] = [
    (Refusal(503, "engine_failed", "Restarting."), "Restarting. /retry asks again."),
    (Refusal(503, "queue_full", "Busy"), "Busy. /retry asks again."),
    (
        Refusal(404, "model_not_found", "No such model."),
        "No such model. /model NAME takes another one. There are: demo, other.",
    ),
    (
        Refusal(400, "context_length_exceeded", "Too long."),
        "Too long. /clear begins a new conversation; /save FILE keeps this one.",
    ),
    (Refusal(404, "unknown_url"), "The server has no Responses API: its `dialects` leave it"),
    (Reply(ending="failed", code="engine_crashed"), "It broke. /retry asks again."),
    (Reply(lost=True), "The connection was lost in the middle of the answer. /retry asks"),
    (Reply(ending="failed", code="invalid_logits"), "It broke."),
]


async def test_what_went_wrong_is_said_with_what_helps() -> None:
    async with chatting() as desk:
        for reply, told in PROBLEMS:
            desk.moody.replies.append(reply)
            await desk.ask("Hello")
            assert desk.notes[-1].startswith(told)
            await desk.ask("/retry")
            assert desk.answers[-1] == "Hello there."
            assert desk.notes[1:] == []
            await desk.enter("/clear")


async def test_a_wrong_key_is_told_from_no_server() -> None:
    async with chatting(Refusal(401, "invalid_api_key", "Incorrect API key.")) as desk:
        await desk.ask("Hello")
        assert "Incorrect API key." in desk.notes[-1]
        assert desk.notes[-1].endswith("Give one of its keys with --api-key, or in MLXD_API_KEY.")


async def test_a_server_that_ends_and_comes_back_is_no_end_of_the_chat() -> None:
    moody = Moody()
    async with serving(moody) as url:
        app = ChatApp(ServerClient(url), terminal=Terminal())
        async with app.run_test() as pilot:
            desk = Desk(app, pilot, moody)
            await desk.ask("One?")
            url, app.client.url = app.client.url, "http://127.0.0.1:1"
            await desk.ask("Two?")
            assert "Start one in another terminal: mlxd serve" in desk.notes[-1]
            app.client.url = url
            await desk.ask("/retry")
            assert moody.texts() == [["One?", "Hello there.", "Two?", "Hello there."]]


async def test_the_server_that_can_not_store_is_named() -> None:
    async with chatting() as desk:
        desk.moody.store = Refusal(503, "store_unavailable", "Disk full.")
        await desk.ask("One?")
        assert desk.answers == ["Hello there."]
        assert any("can't store the conversation now" in note for note in desk.notes)


async def test_a_loading_model_is_announced() -> None:
    moody = Moody(health="loading")
    async with serving(moody) as url:
        app = ChatApp(ServerClient(url), terminal=Terminal())
        async with app.run_test() as pilot:
            desk = Desk(app, pilot, moody)
            await until(lambda: "The model is loading" in desk.notes[-1])


async def test_light_and_dark_are_a_key_apart() -> None:
    async with chatting(terminal=Terminal(light=True)) as desk:
        assert desk.app.theme == "mlxd-light"
        await desk.press("f2")
        assert desk.app.theme == "mlxd-dark"


@pytest.mark.parametrize("size", [(80, 24), (20, 6), (200, 60)])
async def test_it_fits_any_terminal(size: tuple[int, int]) -> None:
    async with chatting(Reply(("word " * 4000,)), size=size) as desk:
        await desk.ask("Long?")
        assert desk.app.prompt.region.bottom <= size[1]
        assert desk.app.talk.size.height >= 1
        assert desk.app.talk.is_vertical_scroll_end
        await desk.press("pageup")
        assert not desk.app.talk.is_vertical_scroll_end
        await desk.pilot.resize_terminal(60, 20)
        await desk.press("pagedown", "pagedown")
        assert len(desk.app.query(AnswerView)) == 1
