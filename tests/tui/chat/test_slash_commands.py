"""The chat's commands, each as a person gives it."""

import json
from pathlib import Path

import pytest

from mlxd.tui.chat.local.kept_chats import KeptChats
from mlxd.tui.chat.message_input import MessageInput
from tests.server.support import until
from tests.tui.chat.desk import HELD, chatting
from tests.tui.chat.server import Reply
from tests.tui.top.watching import text_of


async def test_retry_replaces_the_last_answer() -> None:
    async with chatting(Reply(("Bad.",))) as desk:
        await desk.ask("Hello")
        await desk.ask("/retry")
        assert desk.questions == ["Hello"]
        assert desk.answers == ["Hello there."]
        assert desk.moody.texts() == [["Hello", "Hello there."]]


async def test_an_answer_that_is_tried_again_is_in_view_whatever_was_said_since() -> None:
    async with chatting(Reply(("word " * 900,))) as desk:
        await desk.ask("Hello")
        for command in ("/help", "/model", "/nosuch", "/help"):
            await desk.enter(command)
            desk.app.prompt.clear_text()
        await desk.ask("/retry")
        await desk.settled()
        assert desk.notes[1:] == []
        assert "Hello there." in text_of(desk.app)


async def test_retry_has_nothing_to_do_where_nothing_was_asked() -> None:
    async with chatting() as desk:
        await desk.enter("/retry")
        assert desk.notes[-1] == "There is nothing to answer again."
        await desk.ask("One?")
        await desk.enter("/clear")
        await desk.enter("/retry")
        assert desk.notes[-1] == "There is nothing to answer again."
        assert [len(body["input"]) for body in desk.moody.asked] == [1]
        await desk.ask("Two?")
        assert (desk.questions, desk.answers) == (["Two?"], ["Hello there."])


async def test_clear_begins_a_new_conversation() -> None:
    async with chatting() as desk:
        await desk.ask("One?")
        await desk.enter("/clear")
        assert (desk.questions, desk.answers) == ([], [])
        await desk.ask("Two?")
        assert len(desk.moody.conversations) == 2


async def test_model_and_system_count_from_the_next_question() -> None:
    async with chatting() as desk:
        await desk.enter("/model")
        assert desk.notes[-1] == "Asking the server's default. There are:\n  demo\n  other"
        await desk.enter("/model other")
        assert desk.notes[-1] == "other is asked from now on."
        assert desk.line("model") == "other"
        await desk.enter("/model nope")
        assert desk.notes[-1].startswith("The server has no nope; /model! nope asks for it all")
        assert desk.notes[-1].endswith("There are:\n  demo\n  other")
        assert (desk.app.session.model, desk.line("model")) == ("other", "other")
        await desk.enter("/model! nope")
        assert desk.notes[-1] == "nope is asked from now on."
        await desk.enter("/system")
        assert desk.notes[-1] == "There is no system prompt."
        await desk.enter("/system Be brief.\nVery.")
        assert desk.notes[-1] == "System prompt: Be brief.\nVery."
        await desk.ask("Hello")
        assert desk.moody.asked[0]["instructions"] == "Be brief.\nVery."
        assert desk.moody.asked[0]["model"] == "nope"
        assert desk.line("model") == "demo"
        await desk.enter("/system -")
        assert desk.notes[-1] == "There is no system prompt."


@pytest.mark.parametrize("name", ["chat.json", "chat.md"])
async def test_a_saved_conversation_can_be_gone_on_from(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    async with chatting(Reply(("Hi.",), reasoning=("Hm.",))) as desk:
        await desk.enter(f"/save {file}")
        assert desk.notes[-1] == "There is nothing to save yet."
        await desk.ask("One?")
        await desk.enter(f"/save {file}")
        assert desk.notes[-1] == f"Saved 1 answer in {file}."
        await desk.enter(f"/save {file}")
        assert desk.notes[-1] == f"{file} exists; /save! overwrites it."
        await desk.enter(f"/save! {file}")
        assert desk.notes[-1] == f"Saved 1 answer in {file}."
    async with chatting() as desk:
        await desk.enter(f"/load {file}")
        await until(lambda: f"Going on from {file}." in desk.notes)
        assert desk.questions == ["One?"]
        assert desk.answers == ["", "Hi."]
        await desk.ask("Two?")
        assert desk.moody.texts() == [["One?", "Hi.", "Two?", "Hello there."]]


async def test_nothing_is_asked_while_a_conversation_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    async with chatting() as desk:
        await desk.ask("One?")
        await desk.enter(f"/save {file}")
        await desk.enter("/clear")
        for written in (f"/load {file}", "Two?"):
            desk.app.prompt.post_message(MessageInput.Sent(written))
        await until(lambda: f"Going on from {file}." in desk.notes)
        assert desk.questions == ["One?"]
        await desk.ask("Three?")
        assert desk.moody.texts()[-1] == ["One?", "Hello there.", "Three?", "Hello there."]


async def test_a_file_tells_the_model_unless_the_person_or_the_server_says_otherwise(
    tmp_path: Path,
) -> None:
    file = tmp_path / "chat.json"
    said = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Hi."}]
    async with chatting() as desk:
        for named, chosen, asked, told in (
            ("other", "", "other", " other is asked, as in the file."),
            ("other", "demo", "demo", " The file's model is other; demo is asked."),
            ("gpt", "", "", " The file's model is gpt; the server's default is asked."),
            ("other", "other", "other", ""),
        ):
            file.write_text(json.dumps({"model": named, "messages": said}), encoding="utf-8")
            desk.app.session.model = chosen
            await desk.enter(f"/load {file}")
            await until(lambda: not desk.app.busy and "Going on" in desk.notes[-1])
            assert desk.notes[-1] == f"Going on from {file}.{told}"
            assert desk.app.session.model == asked


async def test_a_file_that_is_no_chat_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    async with chatting() as desk:
        await desk.ask("One?")
        await desk.enter(f"/load {tmp_path}/x.json")
        assert "can't be loaded: it is no chat" in desk.notes[-1]
        await desk.enter(f"/load {tmp_path}/nothing.md")
        assert desk.notes[-1].endswith("can't be read: No such file or directory.")
        await desk.enter(f"/save {tmp_path}/no/where.md")
        assert desk.notes[-1].endswith("can't be written: No such file or directory.")
        assert desk.answers == ["Hello there."]


async def test_help_names_every_command_and_quit_leaves() -> None:
    async with chatting() as desk:
        await desk.enter("/help")
        for name in ("/model", "/system", "/clear", "/save", "/load", "/retry", "/help", "/quit"):
            assert name in desk.notes[-1]
        await desk.enter("/quit")
        assert desk.app.return_value == 0


async def test_leaving_ends_the_answer_that_runs() -> None:
    async with chatting(HELD) as desk:
        await desk.enter("Story?")
        await desk.saying()
        await desk.enter("/quit")
        await until(lambda: desk.moody.open == 0)
        assert desk.app.return_value == 0


async def test_an_unknown_command_names_the_nearest() -> None:
    async with chatting() as desk:
        await desk.enter("/modle x")
        assert desk.notes[-1] == "There is no command /modle. Did you mean /model?"
        await desk.enter("/xyzzy")
        assert desk.notes[-1] == "There is no command /xyzzy. /help shows them."
        await desk.ask("/etc/hosts is what?")
        assert desk.questions == ["/etc/hosts is what?"]


async def test_tab_completes_and_choices_are_shown() -> None:
    async with chatting() as desk:
        await desk.press("slash", "s")
        assert desk.line("choices") == "/system\n/set\n/save"
        await desk.press("y", "tab")
        assert desk.app.prompt.text == "/system "
        desk.app.prompt.write("/model o")
        await desk.press("tab")
        assert desk.app.prompt.text == "/model other"
        await desk.press("ctrl+c")
        assert not desk.app.query_one("#choices").display


async def test_answers_are_set_and_the_bar_says_so() -> None:
    async with chatting() as desk:
        await desk.enter("/set temperature 0.2 max_tokens=9 seed 7 reasoning low")
        assert desk.notes[-1].startswith("Answers: temperature 0.2 max_tokens 9 seed 7")
        assert desk.line("model") == "demo, temperature 0.2 max_tokens 9 seed 7 reasoning low"
        for wrong, told in (("temperature 3", "a number from 0 to 2"), ("tempo 1", "no setting")):
            await desk.enter(f"/set {wrong}")
            assert told in desk.notes[-1]
        await desk.ask("One?")
        asked = desk.moody.asked[-1]
        assert (asked["temperature"], asked["max_output_tokens"], asked["seed"]) == (0.2, 9, 7)
        assert asked["reasoning"] == {"effort": "low"}
        await desk.ask("/retry set temperature - top_p 0.5")
        assert "temperature" not in desk.moody.asked[-1]
        assert desk.moody.asked[-1]["top_p"] == 0.5
        await desk.enter("/retry again")
        assert desk.notes[-1] == "/retry, or /retry set NAME VALUE..."
        await desk.enter("/copy")
        assert desk.app.clipboard == "Hello there."
        assert desk.line("toast") == "Copied 12 characters."
        await desk.enter("/edit")
        assert (desk.app.prompt.text, desk.questions) == ("One?", [])
        await desk.press("enter")
        await desk.quiet()
        await desk.enter("/fork")
        await desk.ask("Two?")
        assert [texts[0::2] for texts in desk.moody.texts()] == [["One?"], ["One?", "Two?"]]


async def test_files_go_below_the_question_where_there_is_room(tmp_path: Path) -> None:
    small, large, binary = (tmp_path / name for name in ("a b.txt", "large.txt", "x.bin"))
    small.write_text("one two ```three", encoding="utf-8")
    large.write_text("word " * 80, encoding="utf-8")
    binary.write_bytes(b"\xff\0")
    (tmp_path / "cat.png").write_bytes(b"")
    async with chatting() as desk:
        await desk.ask(f'What is in @"{small}"? Ask me@home or @nobody.')
        assert desk.notes[-1].startswith(f"With {small} 16 B: ")
        (sent,) = desk.moody.asked[-1]["input"]
        assert sent["content"][0]["text"].endswith(f"{small}:\n````\none two ```three\n````")
        assert desk.questions[0].startswith("What is in")
        for name, told in (
            (large, "Too long"),
            (tmp_path / "cat.png", "no model here sees pictures"),
            (binary, "no text in UTF-8"),
            (tmp_path / "none/x.txt", "No such file"),
            (tmp_path, "is a folder"),
        ):
            await desk.ask(f"Read @{name}")
            assert told in desk.line("toast")
            assert desk.app.prompt.text == f"Read @{name}"
            desk.app.prompt.clear_text()
        assert len(desk.moody.asked) == 1
        await desk.ask(f"/file '{small}'")
        assert desk.notes[-1] == f"{small}, 16 B, 3 tokens, goes below the next question."
        await desk.ask("And this?")
        assert "one two" in desk.moody.asked[-1]["input"][0]["content"][0]["text"]
        await desk.ask("And now?")
        assert "one two" not in desk.moody.asked[-1]["input"][0]["content"][0]["text"]


async def test_conversations_of_earlier_are_gone_on_with(tmp_path: Path) -> None:
    kept = KeptChats(tmp_path / "chats.jsonl")
    async with chatting(kept=kept, earlier=("Tides?", "Rain?"), begin_with="") as desk:
        await until(lambda: "Going on with Rain?." in desk.notes)
        assert desk.answers == ["About: Rain?"]
        await desk.ask("More?")
        assert desk.moody.texts()[1] == ["Rain?", "About: Rain?", "More?", "Hello there."]
        await desk.enter("/open")
        listed = desk.notes[-1].splitlines()[1:]
        assert [line.split()[-1] for line in listed] == ["Rain?", "Tides?"]
        assert "2 turns" in listed[0]
        await desk.ask("/open 2")
        assert desk.questions == ["Tides?"]
        await desk.ask("/open nothing")
        assert desk.notes[-1] == "There is no conversation nothing; /open lists them."
        desk.moody.conversations.clear()
        await desk.ask("/open 1")
        assert desk.notes[-1] == "The server no longer has Rain?."
    assert (tmp_path / "chats.jsonl").stat().st_mode & 0o077 == 0
    async with chatting(kept=kept, earlier=("Tides?",)) as desk:
        await desk.press("down", "enter")
        await until(lambda: desk.questions == ["Tides?"])
        await desk.enter("/clear")
        desk.app.kept = KeptChats(None)
        await desk.enter("/open")
        assert "chat.keep" in desk.notes[-1]
