"""`mlxd chat` on the whole terminal."""

import shlex
import time
from contextlib import suppress
from typing import assert_never

from mlxd.tui.chat import files as chat_files
from mlxd.tui.chat.help import HELP
from mlxd.tui.chat.local import kept_chats
from mlxd.tui.chat.local.answer_settings import SettingError
from mlxd.tui.chat.local.attachments import AttachmentError, read, size_in_words
from mlxd.tui.chat.local.kept_chats import KeptChat
from mlxd.tui.chat.message_input import MessageInput
from mlxd.tui.chat.problems import advised, code_of, remedy, words
from mlxd.tui.chat.safe_text import count, one_line
from mlxd.tui.chat.slash_commands import SlashCommand, UnknownCommand, missing, parse
from mlxd.tui.chat.talk import TalkApp
from mlxd.tui.chat.transcript import Transcript, TranscriptError
from mlxd.tui.chat.views import AnswerView, Note, NoteTone
from mlxd.tui.problems import ServerProblem

ALWAYS = ("help", "quit", "save", "copy")
"""Commands that need not wait for an answer's end."""
NOT_KEPT = "No list of conversations is kept (chat.keep is off)."


class ChatApp(TalkApp):
    """A conversation, and what a person can do with it."""

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
            case "set":
                await self._set(command.argument)
            case "file":
                self._work = self.run_worker(self._read_files(command.argument, written))
            case "retry":
                await self._retry(command)
            case "edit":
                await self._edit()
            case "copy":
                self._copy()
            case "fork":
                await self._fork()
            case "open":
                await self._open(command.argument)
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
        self.answer, self.attachments = None, []
        await self._end_first_screen()
        await self.talk.remove_children()
        await self._note("A new conversation.")
        self._show_figures()

    async def _set(self, text: str) -> bool:
        """Set what is written of answers; whether it could be read."""
        try:
            if text:
                self.session.settings = self.session.settings.changed(text)
        except SettingError as error:
            await self._note(str(error), "warning")
            return False
        self._show_figures()
        await self._note(f"Answers: {self.session.settings or 'as the server makes them'}.")
        return True

    async def _read_files(self, text: str, written: str) -> None:
        """Read files for the next prompt, and say how long they are."""
        try:
            named = shlex.split(text)
            found = [read(name) for name in named]
        except (AttachmentError, ValueError) as error:
            self._work = None
            self._refuse(written, str(error))
            return
        try:
            tokens = [await self._tokens(file.text) for file in found]
        finally:
            self._work = None
        self.attachments += found
        for file, number in zip(found, tokens, strict=True):
            length = f", {count(number, 'token')}" if number else ""
            size = size_in_words(file.size)
            await self._note(f"{file.name}, {size}{length}, goes below the next question.")

    async def _edit(self) -> None:
        question = self.session.take_back()
        views = list(self.query(AnswerView))
        if not question or not views:
            await self._note("There is nothing to write anew.", "warning")
            return
        later = self.talk.children[self.talk.children.index(views[-1]) :]
        await self.talk.remove_children(later)
        self.prompt.write(question)

    def _copy(self) -> None:
        text = self.answer.text if self.answer else ""
        if not text and self.session.turns:
            text = self.session.turns[-1].text
        if text:
            self.copy_to_clipboard(text)
        self.notify(f"Copied {count(len(text), 'character')}." if text else "Nothing to copy yet.")

    async def _fork(self) -> None:
        if not self.session.turns:
            await self._note("There is nothing to copy yet.", "warning")
            return
        self.session.fork()
        await self._note("From here on this is a copy; /open finds the conversation it was.")

    async def _open(self, name: str) -> None:
        url = self.client.url
        if not self.kept.on and not name:
            await self._note(NOT_KEPT, "warning")
        elif not name:
            rows = [
                kept_chats.row(number, chat, time.time())
                for number, chat in enumerate(self.kept.all(url), start=1)
            ]
            listed = "\n".join(rows[:20]) or "  none"
            await self._note(f"/open N goes on with one of these:\n{listed}")
        elif (chat := self.kept.find(url, name)) is not None:
            await self.open_chat(chat)
        elif name.startswith("conv_"):
            await self.open_chat(KeptChat(name, name))
        else:
            await self._note(f"There is no conversation {one_line(name)}; /open lists them.")

    async def begin_with(self, name: str) -> None:
        """Go on with what `--continue` names."""
        chat = self.kept.find(self.client.url, name)
        if chat is None and not name:
            await self._note("There is no conversation to go on with.", "warning")
        else:
            await self.open_chat(chat or KeptChat(name, name))

    async def open_chat(self, chat: KeptChat) -> None:
        """Go on with a conversation that the server has."""
        await self._clear()
        self._loading = True
        self._work = self.run_worker(self._fetch_chat(chat))

    async def _fetch_chat(self, chat: KeptChat) -> None:
        tone: NoteTone = "info"
        try:
            await self.session.open(chat.id)
            for turn in self.session.turns:
                view = AnswerView(turn.question)
                await self.talk.mount(view)
                await view.show_old(turn)
        except ServerProblem as problem:
            tone = "error"
            gone = getattr(problem, "status", 0) == 404
            note = (
                f"The server no longer has {chat.title}."
                if gone
                else advised(words(problem), remedy(code_of(problem), models=self.models))
            )
        else:
            note = f"Going on with {chat.title}. {self._adopt_model(chat.model)}"
        finally:
            self._work, self._loading = None, False
        await self._note(note.rstrip(), tone)

    async def _retry(self, command: SlashCommand) -> None:
        how, _, settings = command.argument.partition(" ")
        if how not in ("", "set"):
            await self._note("/retry, or /retry set NAME VALUE...", "warning")
            return
        if settings and not await self._set(settings):
            return
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
