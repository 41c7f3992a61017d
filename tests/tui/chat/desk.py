"""A person at the chat, with a server that has moods."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from textual.pilot import Pilot
from textual.widgets import Static

from mlxd.tui.chat.app import ChatApp
from mlxd.tui.chat.input_history import InputHistory
from mlxd.tui.chat.local.kept_chats import KeptChat, KeptChats
from mlxd.tui.chat.views import MarkdownView, Note, Question, Segment
from mlxd.tui.client import ServerClient
from mlxd.tui.terminal import Terminal
from tests.server.support import until
from tests.tui.chat.server import Moody, Refusal, Reply, serving
from tests.tui.top.watching import text_of

HELD = Reply(("Once", " upon"), hold=True)


class Desk:
    """A person at the chat."""

    def __init__(self, app: ChatApp, pilot: Pilot[int], moody: Moody) -> None:
        self.app = app
        self.pilot = pilot
        self.moody = moody

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def enter(self, text: str) -> None:
        """Write a line and send it."""
        self.app.prompt.write(text)
        await self.press("enter")

    async def ask(self, text: str) -> None:
        """Ask, and wait for the answer's end."""
        await self.enter(text)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until no answer runs and everything is drawn."""
        await until(lambda: not self.app.busy)
        await self.pilot.pause()

    async def saying(self) -> None:
        """Wait until an answer has begun."""
        await until(lambda: bool(self.app.answer and self.app.answer.text and self.app.busy))
        await until(lambda: bool(self.answers and self.answers[-1]))

    async def settled(self) -> None:
        """Wait until what the screen shows stays the same for a while."""
        shown, times = "", 0
        while times < 10:
            await self.pilot.pause()
            now = text_of(self.app)
            shown, times = now, times + 1 if now == shown else 0

    @property
    def notes(self) -> list[str]:
        return [str(note.content) for note in self.app.query(Note)]

    @property
    def answers(self) -> list[str]:
        return [
            "".join(segment.source for segment in grown.query(Segment))
            for grown in self.app.query(MarkdownView)
        ]

    @property
    def questions(self) -> list[str]:
        return [str(question.content) for question in self.app.query(Question)]

    def line(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}", Static).content)


@asynccontextmanager
async def chatting(
    *replies: Reply | Refusal,
    size: tuple[int, int] = (80, 24),
    history: InputHistory | None = None,
    terminal: Terminal | None = None,
    models: tuple[str, ...] = ("demo", "other"),
    clock: Callable[[], float] = time.monotonic,
    kept: KeptChats | None = None,
    earlier: tuple[str, ...] = (),
    begin_with: str | None = None,
) -> AsyncIterator[Desk]:
    """A chat, with conversations of these `earlier` questions in its list, if it is kept."""
    moody = Moody(models=list(models))
    moody.replies.extend(replies)
    async with serving(moody) as url:
        assert kept is not None or not earlier, "earlier ones are in a list"
        for question in earlier:
            items = [{"role": "user", "content": [{"text": question}]}]
            items.append({"role": "assistant", "content": [{"text": f"About: {question}"}]})
            name = f"conv_{len(moody.conversations)}abc"
            moody.conversations[name] = [moody.item({"type": "message", **each}) for each in items]
            cast(KeptChats, kept).keep(KeptChat(name, question, url, turns=1))
        app = ChatApp(
            ServerClient(url),
            history=history,
            terminal=terminal or Terminal(),
            clock=clock,
            kept=kept,
            begin_with=begin_with,
        )
        async with app.run_test(size=size) as pilot:
            await until(lambda: bool(app.models))
            yield Desk(app, pilot, moody)
