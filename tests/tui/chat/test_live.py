"""The chat against mlxd's own server: the scripted engine, the real store, the real listener."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from mlxd.config.settings import ConversationSettings, Settings
from mlxd.engine.scripted.engine import Gate, ScriptItem
from mlxd.errors import ContextTooLong, EngineCrashed
from mlxd.events import BlockDelta, BlockStart, Failed
from mlxd.messages import GenerateRequest, Text
from mlxd.store.conversations import ConversationStore
from mlxd.tui.chat.answer import AnswerPart, StreamedAnswer
from mlxd.tui.chat.session import Session
from mlxd.tui.chat.transcript import QuestionAndAnswer, Transcript
from mlxd.tui.client import ServerClient
from tests.api.support import Front, front, listening, settings_for
from tests.scripts import STARTED, call, finished, reasoning, text
from tests.server.support import until


@dataclass
class Live:
    front: Front
    session: Session
    remarks: list[str]

    async def ask(self, question: str) -> StreamedAnswer:
        async with aclosing(self.session.ask(question)) as steps:
            return [answer async for answer in steps][-1]

    @property
    def prompt(self) -> list[tuple[str, str]]:
        """What the engine was asked last: roles and texts."""
        return [
            (message.role, "".join(part.text for part in message.parts if isinstance(part, Text)))
            for message in self.front.engine.requests[-1].messages
        ]


def says(request: GenerateRequest) -> Iterator[ScriptItem]:
    """Answers with the number of messages so far; some questions have answers of their own."""
    question = "".join(part.text for part in request.messages[-1].parts if isinstance(part, Text))
    yield STARTED
    match question:
        case "think":
            yield from reasoning(0, "Hm", ".")
            yield from text(1, "Thought.")
            yield finished()
        case "hold":
            yield BlockStart(0, Text(""))
            yield BlockDelta(0, "Once upon")
            yield Gate(asyncio.Event())
        case "call":
            yield from call(0, "look", "{}")
            yield finished("tool_calls")
        case "crash":
            yield Failed(EngineCrashed("killed by signal 9").report())
        case "long":
            raise ContextTooLong(9000, 4096)
        case _:
            yield from text(0, f"Message {len(request.messages)}", ".")
            yield finished()


@asynccontextmanager
async def live(settings: Settings | None = None, key: str = "") -> AsyncIterator[Live]:
    store = ConversationStore(ConversationSettings(store="memory", archive=False))
    await store.open()
    remarks: list[str] = []
    try:
        there = front(play=says, store=store, settings=settings)
        async with (
            asyncio.timeout(60),
            listening(there.app) as url,
            ServerClient(url, key) as client,
        ):
            yield Live(there, Session(client, notify=remarks.append), remarks)
    finally:
        await store.close()


async def test_a_conversation_grows_on_the_server() -> None:
    async with live() as chat:
        chat.session.system = "Be brief."
        first, second = await chat.ask("One?"), await chat.ask("Two?")
        assert (first.text, second.text) == ("Message 2.", "Message 4.")
        assert chat.prompt == [
            ("system", "Be brief."),
            ("user", "One?"),
            ("assistant", "Message 2."),
            ("user", "Two?"),
        ]
        assert second.tokens > 0
        assert chat.remarks == []


async def test_a_stopped_answer_frees_its_slot_and_is_gone_on_from() -> None:
    async with live() as chat:
        async with aclosing(chat.session.ask("hold")) as steps:
            async for answer in steps:
                if answer.text:
                    break
        await until(lambda: chat.front.engine.cancelled == 1)
        name = chat.session.conversation
        assert (await chat.ask("And then?")).state == "completed"
        assert chat.session.conversation == name
        told = [("user", "hold"), ("assistant", "Once upon"), ("user", "And then?")]
        assert chat.prompt == told


async def test_a_second_answer_does_not_see_the_first() -> None:
    async with live() as chat:
        await chat.ask("think")
        await chat.ask("Two?")
        assert chat.session.take_back() == "Two?"
        await chat.ask("Two?")
        assert [said for said in chat.prompt if said[1]] == [
            ("user", "think"),
            ("assistant", "Thought."),
            ("user", "Two?"),
        ]


async def test_reasoning_and_calls_come_apart_from_the_text() -> None:
    async with live() as chat:
        thought, called = await chat.ask("think"), await chat.ask("call")
        after = await chat.ask("And?")
        assert [(block.kind, block.text) for block in thought.parts] == [
            ("reasoning", "Hm."),
            ("text", "Thought."),
        ]
        assert [(block.name, block.text) for block in called.calls] == [("look", "{}")]
        assert after.state == "completed"


async def test_failures_have_names_and_cost_one_question() -> None:
    async with live() as chat:
        await chat.ask("One?")
        crashed, too_long = await chat.ask("crash"), await chat.ask("long")
        assert (crashed.state, crashed.code) == ("failed", "server_error")
        assert crashed.problem.endswith("Please retry.")
        assert (too_long.state, too_long.code) == ("failed", "context_length_exceeded")
        await chat.ask("Two?")
        assert [said for _, said in chat.prompt] == ["One?", "Message 1.", "Two?"]


async def test_a_deleted_conversation_is_created_anew() -> None:
    async with live() as chat:
        await chat.ask("One?")
        await chat.session.client.delete(f"/v1/conversations/{chat.session.conversation}")
        assert (await chat.ask("Two?")).text == "Message 3."
        assert len(chat.remarks) == 1


async def test_a_transcript_is_restored_with_all_its_items() -> None:
    turns = [QuestionAndAnswer(f"Q{n}", (AnswerPart("text", f"A{n}"),)) for n in range(25)]
    turns[3] = QuestionAndAnswer(
        "Q3", (AnswerPart("reasoning", "Hm."), AnswerPart("call", "{}", "look", "call_3"))
    )
    async with live() as chat:
        await chat.session.load(Transcript(tuple(turns)))
        assert (await chat.ask("Last?")).state == "completed"
        assert len([said for role, said in chat.prompt if role == "user"]) == 26


async def test_a_wrong_key_and_an_unknown_model_have_names() -> None:
    settings = settings_for(api_keys=("right",), unknown_model="refuse")
    async with live(settings, "wrong") as chat:
        assert (await chat.ask("One?")).code == "not_allowed"
    async with live(settings, "right") as chat:
        chat.session.model = "nope"
        refused = await chat.ask("One?")
        assert refused.code == "model_not_found"
        assert "Available: demo" in refused.problem
