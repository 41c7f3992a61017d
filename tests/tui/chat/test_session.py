"""A conversation that the server keeps, through everything that can happen to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from mlxd.tui.chat.answer import AnswerPart, StreamedAnswer
from mlxd.tui.chat.session import EXPIRED, NO_STORE, NOT_STORED, STORED_AGAIN, Session
from mlxd.tui.chat.transcript import QuestionAndAnswer, Transcript
from mlxd.tui.client import ServerClient
from tests.server.support import until
from tests.tui.chat.server import Moody, Refusal, Reply, serving

FULL_DISK = Refusal(503, "store_unavailable", "The disk is full.")


@dataclass
class Talk:
    """A session with a server, and what the session said about keeping."""

    moody: Moody
    session: Session
    remarks: list[str] = field(default_factory=list)

    async def ask(self, question: str) -> StreamedAnswer:
        async with aclosing(self.session.ask(question)) as steps:
            return [answer async for answer in steps][-1]

    @property
    def kept(self) -> list[str]:
        """The conversation on the server."""
        texts = self.moody.texts()
        assert len(texts) == 1
        return texts[0]


@asynccontextmanager
async def talking(*replies: Reply | Refusal, keep: bool = True) -> AsyncIterator[Talk]:
    moody = Moody()
    moody.replies.extend(replies)
    remarks: list[str] = []
    async with asyncio.timeout(60), serving(moody) as url, ServerClient(url) as client:
        yield Talk(moody, Session(client, keep=keep, notify=remarks.append), remarks)


async def test_a_conversation_is_kept_on_the_server() -> None:
    async with talking() as talk:
        first, second = await talk.ask("One?"), await talk.ask("Two?")
    assert (first.text, first.state) == ("Hello there.", "completed")
    assert talk.kept == ["One?", "Hello there.", "Two?", "Hello there."]
    assert second.tokens == 7
    assert [len(body["input"]) for body in talk.moody.asked] == [1, 1]


async def test_the_system_prompt_and_the_model_go_with_each_question() -> None:
    async with talking() as talk:
        talk.session.system, talk.session.model = "Be brief.", "other"
        await talk.ask("One?")
    assert talk.moody.asked[0]["instructions"] == "Be brief."
    assert talk.moody.asked[0]["model"] == "other"


async def test_a_stopped_answer_ends_on_the_server_and_what_it_said_stays() -> None:
    async with talking(Reply(("Once upon",), hold=True)) as talk:
        async with aclosing(talk.session.ask("Story?")) as steps:
            async for answer in steps:
                if answer.text:
                    break
        assert answer.state == "stopped"
        await until(lambda: talk.moody.open == 0)
        await talk.ask("Go on?")
    assert talk.session.turns[0] == QuestionAndAnswer("Story?", (AnswerPart("text", "Once upon"),))
    assert talk.kept == ["Story?", "Once upon", "Go on?", "Hello there."]


async def test_a_lost_connection_costs_the_rest_of_one_answer() -> None:
    async with talking(Reply(("Half",), lost=True)) as talk:
        lost = await talk.ask("One?")
        name = talk.session.conversation
        await talk.ask("Two?")
        assert talk.session.conversation == name
    assert (lost.state, lost.code) == ("failed", "connection_lost")
    assert talk.kept == ["One?", "Half", "Two?", "Hello there."]


async def test_what_was_not_answered_is_no_part_of_the_conversation() -> None:
    async with talking(Reply(), Refusal(503, "engine_failed", "Restarting.")) as talk:
        await talk.ask("One?")
        failed = await talk.ask("Two?")
        assert talk.session.unanswered == "Two?"
        await talk.ask("Three?")
    assert (failed.state, failed.code, failed.problem) == ("failed", "engine_failed", "Restarting.")
    assert talk.kept == ["One?", "Hello there.", "Three?", "Hello there."]


async def test_an_expired_conversation_is_created_anew() -> None:
    async with talking() as talk:
        await talk.ask("One?")
        talk.moody.conversations.clear()
        await talk.ask("Two?")
    assert talk.kept == ["One?", "Hello there.", "Two?", "Hello there."]
    assert talk.remarks == [EXPIRED]


async def test_the_second_try_after_an_expired_conversation_is_shown_as_it_comes() -> None:
    async with talking() as talk:
        await talk.ask("One?")
        talk.moody.conversations.clear()
        shown: list[str] = []
        async with aclosing(talk.session.ask("Two?")) as steps:
            async for answer in steps:
                shown.append(answer.text)
    assert list(dict.fromkeys(shown)) == ["", "Hello", "Hello there", "Hello there."]
    assert (answer.state, answer.tokens) == ("completed", 7)


async def test_an_expired_conversation_that_can_not_be_created_is_sent_whole() -> None:
    async with talking() as talk:
        await talk.ask("One?")
        talk.moody.conversations.clear()
        talk.moody.store = FULL_DISK
        second = await talk.ask("Two?")
    assert (second.state, second.text) == ("completed", "Hello there.")
    assert talk.moody.asked[-1]["store"] is False
    assert len(talk.moody.asked[-1]["input"]) == 3
    assert talk.remarks == [EXPIRED, NOT_STORED]


async def test_there_is_nothing_to_take_back_in_an_empty_conversation() -> None:
    async with talking() as talk:
        assert talk.session.take_back() == ""
        await talk.ask("One?")
        talk.session.clear()
        assert talk.session.take_back() == ""
        await talk.ask("Two?")
    assert talk.moody.texts() == [["One?", "Hello there."], ["Two?", "Hello there."]]


async def test_an_answer_that_is_taken_back_leaves_the_server_too() -> None:
    async with talking(Reply(reasoning=("Hm.",)), Reply(("Bad.",), reasoning=("Hmm.",))) as talk:
        await talk.ask("One?")
        await talk.ask("Two?")
        assert talk.session.take_back() == "Two?"
        await talk.ask("Two?")
    assert talk.kept == ["One?", "Hm.", "Hello there.", "Two?", "Hello there."]


async def test_an_unanswered_question_is_what_retry_asks() -> None:
    async with talking(Reply(), Refusal(503, "queue_full")) as talk:
        await talk.ask("One?")
        await talk.ask("Two?")
        assert talk.session.take_back() == "Two?"
        assert [turn.question for turn in talk.session.turns] == ["One?"]


async def test_without_a_store_the_whole_conversation_is_sent() -> None:
    async with talking() as talk:
        await talk.ask("One?")
        talk.moody.store = FULL_DISK
        second = await talk.ask("Two?")
        await talk.ask("Three?")
        assert second.state == "completed"
        assert talk.moody.asked[-1]["store"] is False
        assert len(talk.moody.asked[-1]["input"]) == 5
        assert talk.remarks == [NOT_STORED]
        talk.moody.store = None
        await talk.ask("Four?")
    assert len(talk.kept) == 8
    assert talk.remarks == [NOT_STORED, STORED_AGAIN]


async def test_an_answer_that_could_not_be_stored_at_its_end_is_not_lost() -> None:
    async with talking(Reply(ending="failed", code="store_unavailable")) as talk:
        failed = await talk.ask("One?")
        await talk.ask("Two?")
    assert (failed.state, failed.text) == ("failed", "Hello there.")
    assert talk.kept == ["One?", "Hello there.", "Two?", "Hello there."]
    assert talk.remarks == [NOT_STORED, STORED_AGAIN]


async def test_a_server_without_conversations_is_told_everything_each_time() -> None:
    async with talking() as talk:
        talk.moody.store = Refusal(404, "unknown_url")
        await talk.ask("One?")
        await talk.ask("Two?")
    assert [len(body["input"]) for body in talk.moody.asked] == [1, 3]
    assert talk.remarks == [NO_STORE]


async def test_a_session_that_is_not_to_be_kept_stores_nothing() -> None:
    async with talking(keep=False) as talk:
        await talk.ask("One?")
        await talk.ask("Two?")
    assert talk.moody.conversations == {}
    assert [body["store"] for body in talk.moody.asked] == [False, False]
    assert talk.remarks == []


async def test_a_tool_call_is_answered_with_there_being_none() -> None:
    async with talking(Reply((), call=("look", "{}"))) as talk:
        called = await talk.ask("One?")
        await talk.ask("Two?")
    assert [(call.name, call.text) for call in called.calls] == [("look", "{}")]
    assert talk.kept == ["One?", "{}", "output", "Two?", "Hello there."]


async def test_a_long_transcript_is_loaded_in_pieces() -> None:
    turns = tuple(QuestionAndAnswer(f"Q{n}", (AnswerPart("text", f"A{n}"),)) for n in range(120))
    async with talking(Reply(lost=True)) as talk:
        await talk.session.load(Transcript(turns, "Be brief."))
        assert len(talk.kept) == 240
        await talk.ask("Lost?")
        await talk.ask("Found?")
    assert talk.kept[-4:] == ["Lost?", "Hello there.", "Found?", "Hello there."]
    assert talk.session.system == "Be brief."


async def test_no_server_is_an_answer_that_failed() -> None:
    async with ServerClient("http://127.0.0.1:1") as client:
        talk = Talk(Moody(), Session(client))
        failed = await talk.ask("One?")
    assert (failed.state, failed.code) == ("failed", "not_running")
