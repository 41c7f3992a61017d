"""What a conversation looks like: questions, answers that grow, and remarks of the app."""

import time
from collections.abc import Sequence
from typing import Literal

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Collapsible, Markdown, Static

from mlxd.tui.chat.answer import AnswerPart, StreamedAnswer
from mlxd.tui.chat.local.kept_chats import KeptChat, row
from mlxd.tui.chat.markdown_segments import MarkdownPiece, MarkdownSplitter
from mlxd.tui.chat.safe_text import harmless, one_line, seconds
from mlxd.tui.chat.session import NO_TOOLS
from mlxd.tui.chat.transcript import QuestionAndAnswer

NoteTone = Literal["info", "warning", "error"]
LENGTH_LIMIT = "The answer was cut at its length limit."
STOPPED = "Stopped."


class Segment(Markdown):
    """A part of a long text."""

    DEFAULT_CSS = """
    Segment { height: auto; margin: 0; padding: 0; background: transparent; }
    Segment.-cut MarkdownFence { margin-bottom: 0; }
    Segment.-cut MarkdownFence > Label { padding-bottom: 0; }
    Segment.-inside MarkdownFence { margin-top: 0; }
    Segment.-inside MarkdownFence > Label { padding-top: 0; }
    """

    def __init__(self, *, inside: bool = False) -> None:
        # Opening a browser, which may be one in this terminal, is not for a model's links to do.
        super().__init__(open_links=False, classes="-inside" if inside else "")


class MarkdownView(Vertical):
    """Markdown of a model, which only ever gets longer."""

    DEFAULT_CSS = "MarkdownView { height: auto; margin: 0 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self.source = ""
        """All that is shown."""
        self._segments = MarkdownSplitter()

    async def grow(self, text: str) -> None:
        """Show what is new of `text`, all of the Markdown so far."""
        new = text[len(self.source) :]
        self.source += new
        for piece in self._segments.feed(harmless(new)):
            last = await self._segment(piece)
            if piece.text:
                await last.append(piece.text)

    async def _segment(self, piece: MarkdownPiece) -> Segment:
        """The segment that a piece goes to."""
        segments = [child for child in self.children if isinstance(child, Segment)]
        if segments and not piece.new:
            return segments[-1]
        if segments and piece.closing:
            await segments[-1].append(piece.closing)
            segments[-1].add_class("-cut")
        begun = Segment(inside=piece.inside)
        await self.mount(begun)
        return begun


class ThinkingView(Collapsible):
    """Reasoning, folded; what is not seen is not laid out."""

    def __init__(self, *, collapsed: bool = True) -> None:
        self._body = MarkdownView()
        self._text = ""
        super().__init__(self._body, title="Thinking", collapsed=collapsed)

    async def show(self, part: AnswerPart, now: float) -> None:
        """The reasoning so far, `now` on the clock of the answer."""
        self._text = part.text
        lasted = seconds((part.ended or now) - part.started)
        self._entitle(f"Thought for {lasted}" if part.ended else f"Thinking, {lasted}")
        if not self.collapsed:
            await self._body.grow(self._text)

    def show_old(self, text: str) -> None:
        """Reasoning whose duration nobody knows any more."""
        self._text = text
        self._entitle("Thought")

    def _entitle(self, title: str) -> None:
        if str(self.title) != title:
            self.title = title

    async def on_collapsible_expanded(self) -> None:
        """Lay out what has come while it was folded."""
        await self._body.grow(self._text)


class ToolCallView(Static):
    """A tool call, with its arguments as they are."""

    DEFAULT_CSS = "ToolCallView { color: $warning; margin: 0 2 1 2; }"

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, name: str, arguments: str) -> None:
        self.update(f"Tool call: {one_line(name)} {harmless(arguments)}\n{NO_TOOLS}")


class Note(Static):
    """A remark of the app itself, or what went wrong."""

    DEFAULT_CSS = """
    Note { color: $text-muted; margin: 0 2 1 2; }
    Note.-warning { color: $text-warning; }
    Note.-error { color: $text-error; }
    """

    def __init__(self, text: str, tone: NoteTone = "info") -> None:
        super().__init__(harmless(text), markup=False, classes=f"-{tone}")


class Recent(Static):
    """The last conversations, one of them marked."""

    DEFAULT_CSS = "Recent { margin: 0 2 1 2; }"

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, chats: Sequence[KeptChat], marked: int, cursor: str) -> None:
        """One line each; the arrow keys move the mark."""
        now = time.time()
        lines = ["Earlier conversations (Down marks one, Enter opens it):"]
        for at, chat in enumerate(chats):
            mark = cursor if at == marked else " "
            lines.append(f"{mark} {harmless(row(at + 1, chat, now))}")
        self.update("\n".join(lines))


class Question(Static):
    """What was asked."""

    DEFAULT_CSS = """
    Question {
        margin: 0 1 1 1; padding: 0 1;
        border-left: outer $primary; background: $surface; color: $foreground;
    }
    """

    def __init__(self, text: str) -> None:
        super().__init__(Content(harmless(text).expandtabs(4)), markup=False)


class AnswerView(Vertical):
    """A question and its answer as it grows."""

    DEFAULT_CSS = """
    AnswerView { height: auto; }
    AnswerView MarkdownHeader { content-align: left middle; margin: 0 0 1 0; }
    AnswerView Collapsible { margin: 0 1 1 1; border: none; background: transparent; padding: 0 1; }
    AnswerView Collapsible:ansi { border: none; background: transparent; }
    AnswerView Collapsible Contents { padding: 0; }
    AnswerView Collapsible MarkdownView { margin: 1 0 0 0; color: $text-muted; }
    AnswerView CollapsibleTitle { width: 1fr; padding: 0; color: $text-muted; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question
        self._parts: list[MarkdownView | ThinkingView | ToolCallView] = []

    def compose(self) -> ComposeResult:
        if self._question:
            yield Question(self._question)

    async def take_back(self) -> None:
        """Leave only the question."""
        self._parts.clear()
        await self.query("MarkdownView, ThinkingView, ToolCallView, Note").remove()

    async def show(self, answer: StreamedAnswer, now: float) -> None:
        """The answer as it is `now`."""
        for number, part in enumerate(answer.parts):
            if number == len(self._parts):
                await self._begin(part.kind)
            match self._parts[number]:
                case MarkdownView() as text:
                    await text.grow(part.text)
                case ThinkingView() as thought:
                    await thought.show(part, now)
                case ToolCallView() as called:
                    called.show(part.name, part.text)

    async def show_old(self, turn: QuestionAndAnswer) -> None:
        """An answer of an earlier time."""
        for part in turn.answer:
            match await self._begin(part.kind):
                case MarkdownView() as text:
                    await text.grow(part.text)
                case ThinkingView() as thought:
                    thought.show_old(part.text)
                case ToolCallView() as called:
                    called.show(part.name, part.text)

    async def end(self, answer: StreamedAnswer) -> None:
        """Say what is special about how the answer ended."""
        match answer.state:
            case "stopped":
                await self.mount(Note(STOPPED))
            case "incomplete":
                limited = answer.reason in ("", "max_output_tokens")
                note = LENGTH_LIMIT if limited else f"The answer was cut: {answer.reason}."
                await self.mount(Note(note, "warning"))

    def toggle_thoughts(self) -> None:
        """Unfold the reasoning, or fold it again."""
        for thought in self.query(ThinkingView):
            thought.collapsed = not thought.collapsed

    async def _begin(self, kind: str) -> MarkdownView | ThinkingView | ToolCallView:
        part: MarkdownView | ThinkingView | ToolCallView
        match kind:
            case "reasoning":
                part = ThinkingView()
            case "call":
                part = ToolCallView()
            case _:
                part = MarkdownView()
        self._parts.append(part)
        await self.mount(part)
        return part
