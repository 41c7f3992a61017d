"""`mlxd chat` on the whole terminal."""

import os
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import ClassVar, assert_never

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static
from textual.worker import Worker

from mlxd.tui.base_app import TerminalApp
from mlxd.tui.chat import files as chat_files
from mlxd.tui.chat.answer import StreamedAnswer
from mlxd.tui.chat.help import HELP
from mlxd.tui.chat.input_history import InputHistory
from mlxd.tui.chat.message_input import MessageInput
from mlxd.tui.chat.messages import AnswerEnded, SessionRemark
from mlxd.tui.chat.problems import advised, code_of, remedy, words
from mlxd.tui.chat.redraw_pace import RedrawPace
from mlxd.tui.chat.safe_text import count, one_line
from mlxd.tui.chat.session import Session
from mlxd.tui.chat.slash_commands import SlashCommand, UnknownCommand, hint, missing, parse
from mlxd.tui.chat.status_line import figures
from mlxd.tui.chat.transcript import Transcript, TranscriptError
from mlxd.tui.chat.views import AnswerView, Note, NoteTone
from mlxd.tui.client import ServerClient
from mlxd.tui.problems import ServerProblem
from mlxd.tui.terminal import Terminal, terminal_of

SECOND_PRESS = 2.0
"""Seconds in which a second Ctrl-C leaves."""
TICK = 0.1
PLACEHOLDER = "Message (Enter sends, Ctrl+J begins a line, /help)"
BUSY = "An answer is running; Ctrl-C stops it."
LOADING = "A conversation is being loaded; Ctrl-C stops that."
ALWAYS = ("help", "quit", "save")
"""Commands that need not wait for an answer's end."""


class ChatApp(TerminalApp):
    """A conversation with a prompt below it."""

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
        terminal: Terminal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(terminal or terminal_of(os.environ))
        self.client = client
        self.session = Session(client, model=model, system=system, notify=self._remark, clock=clock)
        self.models: list[str] = []
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

    def compose(self) -> ComposeResult:
        yield VerticalScroll(id="talk", can_focus=False)
        yield Static(id="choices", markup=False)
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

    # What the person does

    async def on_message_input_sent(self, message: MessageInput.Sent) -> None:
        match parse(message.text):
            case None:
                await self._send(message.text)
            case UnknownCommand(name, nearest):
                self.prompt.give_back(message.text)
                hint = f" Did you mean /{nearest}?" if nearest else " /help shows them."
                await self._note(f"There is no command /{one_line(name)}.{hint}", "warning")
            case SlashCommand() as command:
                await self._command(command, message.text)

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
        self.prompt.remember(text)
        view = AnswerView(text)
        await self.talk.mount(view)
        self._begin_answer(text, view)

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
        if answer.problem:
            note = advised(answer.problem, remedy(answer.code, models=self.models))
            await view.mount(Note(note, "error"))

    def _show_figures(self) -> None:
        line = figures(self.answer, self._clock()) if self.answer else ""
        # Laying everything out many times a second is too much for a line of fixed size.
        self._figures_line.update(line, layout=False)
        name = one_line(self._answering or self._usual_model, 60)
        if str(self._model_line.content) != name:
            self._model_line.update(name)

    # Commands

    async def _command(self, command: SlashCommand, written: str) -> None:
        if wrong := missing(command):
            self._refuse(written, wrong)
            return
        if self.busy and command.name not in ALWAYS:
            self._refuse(written)
            return
        self.prompt.remember(written)
        match command.name:
            case "model":
                await self._model(command)
            case "system":
                await self._system(command.argument)
            case "clear":
                await self._clear()
            case "retry":
                await self._retry()
            case "save":
                await self._save(command)
            case "load":
                await self._load(command.argument)
            case "help":
                await self._note(HELP)
            case "quit":
                self.action_leave()
            case _:
                assert_never(command.name)

    async def _model(self, command: SlashCommand) -> None:
        with suppress(ServerProblem):
            await self._fetch_models()
        name = command.argument
        listed = "".join(f"\n  {model}" for model in self.models) or " none"
        if not name:
            current = self.session.model or "the server's default"
            await self._note(f"Asking {current}. There are:{listed}")
        elif self.models and name not in self.models and not command.force:
            how = f"/model! {name} asks for it all the same."
            await self._note(f"The server has no {name}; {how} There are:{listed}", "warning")
        else:
            self._ask_model(name)
            await self._note(f"{name} is asked from now on.")

    def _ask_model(self, name: str) -> None:
        self.session.model = name
        self._answering = ""
        self._show_figures()

    async def _system(self, text: str) -> None:
        if text:
            self.session.system = "" if text == "-" else text
        current = self.session.system
        await self._note(f"System prompt: {current}" if current else "There is no system prompt.")

    async def _clear(self) -> None:
        self.session.clear()
        self.answer = None
        await self.talk.remove_children()
        await self._note("A new conversation.")
        self._show_figures()

    async def _retry(self) -> None:
        question = self.session.take_back()
        views = list(self.query(AnswerView))
        if not question or not views:
            await self._note("There is nothing to answer again.", "warning")
            return
        view = views[-1]
        await view.take_back()
        # Below them the answer would grow out of sight.
        later = self.talk.children[self.talk.children.index(view) + 1 :]
        await self.talk.remove_children([each for each in later if isinstance(each, Note)])
        self._begin_answer(question, view)

    async def _save(self, command: SlashCommand) -> None:
        if not self.session.turns:
            await self._note("There is nothing to save yet.", "warning")
            return
        try:
            path = chat_files.save(
                self.session.transcript, command.argument, overwrite=command.force
            )
        except TranscriptError as error:
            await self._note(str(error), "error")
        else:
            await self._note(f"Saved {count(len(self.session.turns), 'answer')} in {path}.")

    async def _load(self, name: str) -> None:
        try:
            transcript = chat_files.load(name)
        except TranscriptError as error:
            await self._note(str(error), "error")
            return
        await self._clear()
        self._loading = True
        self._work = self.run_worker(self._load_transcript(transcript, name))

    async def _load_transcript(self, transcript: Transcript, name: str) -> None:
        """Show a transcript and give it to the server; no question is sent meanwhile."""
        tone: NoteTone = "info"
        try:
            for turn in transcript.turns:
                view = AnswerView(turn.question)
                await self.talk.mount(view)
                await view.show_old(turn)
            await self.session.load(transcript)
        except ServerProblem as problem:
            tone = "error"
            note = advised(words(problem), remedy(code_of(problem), models=self.models))
        else:
            note = f"Going on from {name}. {self._adopt_model(transcript.model)}"
        finally:
            self._work, self._loading = None, False
        await self._note(note.rstrip(), tone)

    def _adopt_model(self, named: str) -> str:
        """Ask a file's model from now on, unless the person has chosen one; what to say of it."""
        if not named or named == self.session.model:
            return ""
        if self.session.model or named not in self.models:
            current = self.session.model or "the server's default"
            return f"The file's model is {one_line(named)}; {current} is asked."
        self._ask_model(named)
        return f"{named} is asked, as in the file."

    # The server

    async def _fetch_state(self) -> None:
        """What models there are, and whether the usual one is ready."""
        with suppress(ServerProblem):
            await self._fetch_models()
        self.query(Note).first().update(self._greeting())
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
        self.models = await self.session.models()
        self.prompt.models = self.models
        self._show_figures()

    async def on_session_remark(self, message: SessionRemark) -> None:
        await self._note(message.text, "warning")

    def _remark(self, text: str) -> None:
        self.post_message(SessionRemark(text))

    def _greeting(self) -> str:
        model = one_line(self._usual_model, 60)
        where = f"{model} at {self.client.url}" if model else self.client.url
        return f"Talking to {where}. /help shows keys and commands."

    async def _note(self, text: str, tone: NoteTone = "info") -> None:
        await self.talk.mount(Note(text, tone))
