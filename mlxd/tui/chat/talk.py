"""The chat's screen: questions, answers as they grow, and where they are written."""

import os
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.notifications import SeverityLevel
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import Worker

from mlxd import __version__
from mlxd.tui.base_app import TerminalApp
from mlxd.tui.chat.answer import StreamedAnswer
from mlxd.tui.chat.input_history import InputHistory
from mlxd.tui.chat.local.attachments import (
    Attachment,
    AttachmentError,
    named_in,
    read,
    size_in_words,
    with_files,
)
from mlxd.tui.chat.local.kept_chats import TITLE, KeptChat, KeptChats
from mlxd.tui.chat.message_input import MessageInput
from mlxd.tui.chat.messages import AnswerEnded, SessionRemark
from mlxd.tui.chat.problems import advised, remedy
from mlxd.tui.chat.redraw_pace import RedrawPace
from mlxd.tui.chat.safe_text import count, one_line
from mlxd.tui.chat.session import Session
from mlxd.tui.chat.slash_commands import hint
from mlxd.tui.chat.status_line import figures
from mlxd.tui.chat.views import AnswerView, Note, NoteTone, Recent
from mlxd.tui.client import ServerClient
from mlxd.tui.format import count as tokens_in_words
from mlxd.tui.problems import ServerProblem
from mlxd.tui.terminal import Terminal, terminal_of

TOAST = 4.0
"""Seconds that a remark above the prompt stays."""
RECENT = 5
"""Conversations on the first screen."""
FIRST = """
  Write a message and press Enter; Ctrl-C stops an answer, twice it leaves.
  /file PATH or @PATH brings a text file, /set changes how answers are made.
  /help shows keys and commands."""
SECOND_PRESS = 2.0
"""Seconds in which a second Ctrl-C leaves."""
TICK = 0.1
PLACEHOLDER = "Message (Enter sends, Ctrl+J begins a line, /help)"
BUSY = "An answer is running; Ctrl-C stops it."
LOADING = "A conversation is being loaded; Ctrl-C stops that."


class TalkApp(TerminalApp):
    """A conversation with a prompt below it; its commands are for who makes an app of it."""

    TITLE = "mlxd chat"
    CSS_PATH = Path(__file__).with_name("chat.tcss")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "Stop", priority=True, show=False),
        Binding("ctrl+t", "thoughts", "Reasoning", priority=True, show=False),
        Binding("f2", "other_theme", "Light or dark", show=False),
        Binding("pageup", "scroll('up')", priority=True, show=False),
        Binding("pagedown", "scroll('down')", priority=True, show=False),
    ]

    def __init__(
        self,
        client: ServerClient,
        *,
        model: str = "",
        system: str = "",
        history: InputHistory | None = None,
        kept: KeptChats | None = None,
        begin_with: str | None = None,
        terminal: Terminal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(terminal or terminal_of(os.environ))
        self.client = client
        self.session = Session(client, model=model, system=system, notify=self._remark, clock=clock)
        self.models: list[str] = []
        self.windows: dict[str, int] = {}
        self.attachments: list[Attachment] = []
        """What goes below the next question."""
        self.kept = kept or KeptChats(None)
        self._begin_with = begin_with
        self._recent: list[KeptChat] = []
        self._marked = -1
        self.answer: StreamedAnswer | None = None
        self._clock = clock
        self._history = history or InputHistory(None)
        self._pace = RedrawPace(clock)
        self._work: Worker[None] | None = None
        self._loading = False
        self._view: AnswerView | None = None
        self._ticker: Timer | None = None
        self._leave_until = 0.0
        self._answering = ""
        """The model that answers, which need not have the name that was asked for."""
        # Held, not looked up: what is still on its way when the app ends finds no screen.
        self._figures_line = Static(id="figures", markup=False)
        self._model_line = Static(id="model", markup=False)
        self._toast = Static(id="toast", markup=False)
        self._toast_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield VerticalScroll(id="talk", can_focus=False)
        yield Static(id="choices", markup=False)
        yield self._toast
        yield MessageInput(self._history, placeholder=PLACEHOLDER)
        with Horizontal(id="bottom"):
            yield self._figures_line
            yield self._model_line

    async def on_mount(self) -> None:
        self.take_terminal()
        self.screen.set_class(not self.terminal.unicode, "-ascii")
        self._ticker = self.set_interval(TICK, self._tick, pause=True)
        self.prompt.focus()
        self.talk.anchor()
        await self._note(self._greeting())
        await self._list_recent()
        self.run_worker(self._fetch_state())

    async def on_unmount(self) -> None:
        await self.client.close()

    @property
    def prompt(self) -> MessageInput:
        return self.query_one("#prompt", MessageInput)

    @property
    def talk(self) -> VerticalScroll:
        return self.query_one("#talk", VerticalScroll)

    @property
    def busy(self) -> bool:
        """Whether an answer is running, or a conversation being loaded."""
        return self._work is not None

    def _refuse(self, written: str, why: str = "") -> None:
        """Give back what was sent, and say why; because something runs, if nothing else is said."""
        self.prompt.give_back(written)
        self.notify(why or (LOADING if self._loading else BUSY), severity="warning", timeout=3)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Say something on the line above the prompt, for a while."""
        self._toast.update(one_line(message))
        self._toast.set_class(severity != "information", "-warning")
        self._toast.display = True
        if self._toast_timer is not None:
            self._toast_timer.stop()
        self._toast_timer = self.set_timer(timeout or TOAST, self._hide_toast)

    def _hide_toast(self) -> None:
        self._toast.display = False

    # What the person does

    async def on_message_input_pick(self, message: MessageInput.Pick) -> None:
        self._marked = max(-1, min(len(self._recent) - 1, self._marked + message.step))
        self.prompt.picking = self._marked >= 0
        self._show_recent()

    async def on_message_input_picked(self) -> None:
        if self._recent and not self.busy:
            await self.open_chat(self._recent[self._marked])

    async def open_chat(self, chat: KeptChat) -> None:
        """Go on with a conversation of earlier."""
        raise NotImplementedError

    async def begin_with(self, name: str) -> None:
        """Go on with what `--continue` names."""
        raise NotImplementedError

    async def _list_recent(self) -> None:
        """The last conversations, on the first screen."""
        self._recent = self.kept.all(self.client.url)[:RECENT]
        if self._recent:
            self.prompt.can_pick = True
            await self.talk.mount(Recent())
            self._show_recent()

    def _show_recent(self) -> None:
        for shown in self.query(Recent):
            shown.show(self._recent, self._marked, self.terminal.glyphs.cursor)

    async def _end_first_screen(self) -> None:
        self._recent, self._marked = [], -1
        self.prompt.picking = self.prompt.can_pick = False
        await self.query(Recent).remove()

    def on_message_input_completing(self, message: MessageInput.Completing) -> None:
        shown = hint(message.choices)
        choices = self.query_one("#choices", Static)
        if str(choices.content) != shown:
            choices.update(shown)
            choices.display = bool(shown)

    async def action_interrupt(self) -> None:
        """Stop the answer; else copy what is marked, empty the prompt, or leave."""
        if self._work is not None:
            self._work.cancel()
        elif marked := self.screen.get_selected_text() or self.prompt.selected_text:
            self.copy_to_clipboard(marked)
            self.screen.clear_selection()
            self.notify("Copied.", timeout=2)
        elif self.prompt.text:
            self.prompt.clear_text()
        elif self._clock() < self._leave_until:
            self.action_leave()
        else:
            self._leave_until = self._clock() + SECOND_PRESS
            self.notify("Ctrl-C again leaves.", timeout=SECOND_PRESS)

    def action_leave(self) -> None:
        self.exit(0)

    def action_thoughts(self) -> None:
        for view in list(self.query(AnswerView))[-1:]:
            view.toggle_thoughts()

    def action_scroll(self, way: str) -> None:
        if way == "up":
            self.talk.scroll_page_up(animate=False)
        else:
            self.talk.scroll_page_down(animate=False)

    # Asking

    async def _send(self, text: str) -> None:
        if self.busy:
            self._refuse(text)
            return
        await self._end_first_screen()
        try:
            files = [*self.attachments, *map(read, named_in(text))]
        except AttachmentError as error:
            self._refuse(text, str(error))
            return
        self.prompt.remember(text)
        if files:
            self._work = self.run_worker(self._send_with(files, text))
        else:
            await self._ask(text, text)

    async def _ask(self, text: str, prompt: str) -> None:
        view = AnswerView(text)
        await self.talk.mount(view)
        self._begin_answer(prompt, view)

    async def _send_with(self, files: list[Attachment], text: str) -> None:
        """Say how long a prompt with files is, and send it if the model has room for that."""
        prompt = with_files(text, files)
        try:
            tokens = await self._tokens(prompt)
        finally:
            self._work = None
        window = self.windows.get(self._usual_model, 0)
        sizes = ", ".join(f"{file.name} {size_in_words(file.size)}" for file in files)
        if tokens and 0 < window <= tokens:
            room = f"{count(tokens, 'token')}, and the window has {window:,}"
            self._refuse(text, f"Too long: {sizes} make it {room}.")
            return
        self.attachments = []
        length = f": {count(tokens, 'token')}" if tokens else ""
        await self._note(f"With {sizes}{length}.")
        await self._ask(text, prompt)

    async def _tokens(self, text: str) -> int:
        """Tokens of the whole prompt that `text` makes; 0 where the server can't say."""
        with suppress(ServerProblem):
            return await self.session.count(text)
        return 0

    def _begin_answer(self, question: str, view: AnswerView) -> None:
        self._view = view
        self.answer = StreamedAnswer(sent_at=self._clock())
        self.talk.anchor()
        self._pace.begin()
        self._work = self.run_worker(self._follow_answer(question, view))
        if self._ticker is not None:
            self._ticker.resume()

    async def _follow_answer(self, question: str, view: AnswerView) -> None:
        """Follow the answer; what is seen of it is up to the ticker."""
        try:
            async with aclosing(self.session.ask(question)) as steps:
                async for answer in steps:
                    self.answer, self._answering = answer, answer.answering
        finally:
            if self.answer is not None:
                self.post_message(AnswerEnded(self.answer, view))

    async def _tick(self) -> None:
        if self.answer is None or self._view is None or not self.busy:
            return
        self._show_figures()
        if self._pace.due():
            await self._view.show(self.answer, self._clock())
            self._pace.shown()

    async def on_answer_ended(self, message: AnswerEnded) -> None:
        self._work = None
        if self._ticker is not None:
            self._ticker.pause()
        answer, view = message.answer, message.view
        if not answer.ended:
            # It was stopped before it was asked for.
            answer.stop(self._clock())
        await view.show(answer, self._clock())
        await view.end(answer)
        self._show_figures()
        self._keep_chat()
        if answer.problem:
            note = advised(answer.problem, remedy(answer.code, models=self.models))
            await view.mount(Note(note, "error"))

    def _keep_chat(self) -> None:
        """Put the conversation into the list, so that another chat finds it."""
        session = self.session
        if session.stored and session.conversation and session.turns:
            title = one_line(session.turns[0].question, TITLE) or "(no question)"
            self.kept.keep(
                KeptChat(
                    *(session.conversation, title, self.client.url),
                    model=session.model,
                    turns=len(session.turns),
                )
            )

    def _show_figures(self) -> None:
        line = figures(self.answer, self._clock()) if self.answer else ""
        # Laying everything out many times a second is too much for a line of fixed size.
        self._figures_line.update(line, layout=False)
        name = one_line(self._answering or self._usual_model, 60)
        name = f"{name}, {set_}" if (set_ := str(self.session.settings)) else name
        if str(self._model_line.content) != name:
            self._model_line.update(name)

    # The server

    async def _fetch_state(self) -> None:
        """What models there are, and whether the usual one is ready."""
        with suppress(ServerProblem):
            await self._fetch_models()
        self.query(Note).first().update(self._greeting())
        if self._begin_with is not None:
            await self.begin_with(self._begin_with)
        try:
            health = await self.client.get("/health", dict[str, object])
        except ServerProblem:
            return
        if health.get("status") == "loading":
            await self._note("The model is loading; the first answer waits for it.")

    @property
    def _usual_model(self) -> str:
        return self.session.model or (self.models[0] if self.models else "")

    async def _fetch_models(self) -> None:
        listed = await self.session.models()
        self.models = [model.id for model in listed]
        self.windows = {model.id: model.window for model in listed}
        self.prompt.models = self.models
        self._show_figures()

    async def on_session_remark(self, message: SessionRemark) -> None:
        await self._note(message.text, "warning")

    def _remark(self, text: str) -> None:
        self.post_message(SessionRemark(text))

    def _greeting(self) -> str:
        name = self._usual_model
        window = self.windows.get(name, 0)
        dot = f" {self.terminal.glyphs.separator} "
        known = [one_line(name, 60), f"window {tokens_in_words(window)}" if window else ""]
        return dot.join(filter(None, (f"mlxd {__version__}", *known, self.client.url))) + FIRST

    async def _note(self, text: str, tone: NoteTone = "info") -> None:
        await self.talk.mount(Note(text, tone))
