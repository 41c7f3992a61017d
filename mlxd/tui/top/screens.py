"""What opens above the dashboard: help, a question, details."""

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.markup import escape
from textual.screen import ModalScreen
from textual.widgets import Static

from mlxd.tui.toned_text import Line
from mlxd.tui.toned_widgets import Lines

HELP = """\
1 2 3 4 5   a pane: running, queue, conversations, models, log
tab         the next pane (shift+tab: the one before)
arrows      move the cursor (also j k, page up, page down, home, end)
enter       details of the row: a request's way from queue to decode
z           the pane alone, and back

s           order by the next column (or click on a column's title)
r           the other way round
/           show the rows with some words alone; escape shows all
p           stop the picture, and let it go on

c           cancel the request under the cursor
l  u        load, unload the model under the cursor
R           restart the engine
t           light or dark
q           leave (ctrl+z: to the shell, fg comes back)

CACHED is the part of a prompt that the prefix cache answered. It stands
out where a prefix was missed; the request's details say why.
TTFT is the time to the first token, T/S decoded tokens a second."""


class Sheet(ModalScreen[bool]):
    """A box in the middle with a title; any of the leaving keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave", "Close", show=False),
    ]

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(False)


class HelpScreen(Sheet):
    """The keys and the words."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "leave", show=False)]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="sheet") as box:
            box.border_title = "Help"
            box.border_subtitle = "escape closes"
            yield Static(HELP, markup=False)


class ConfirmScreen(ModalScreen[bool]):
    """A question that is answered with y or n; anything that is not yes is no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        Binding("n,escape,q,enter", "answer(False)", show=False),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet question") as box:
            box.border_title = "Sure?"
            box.border_subtitle = "y: yes   n: no"
            yield Static(self._question, markup=False)

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class DetailScreen(Sheet):
    """Details that change while they are seen; `lines` makes them for a width."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "cancel", show=False)]

    def __init__(
        self, title: str, lines: Callable[[int], list[Line]], *, cancels: bool = False
    ) -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._cancels = cancels
        self._shown = Lines("detail")

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="sheet") as box:
            box.border_title = escape(self._title)
            box.border_subtitle = "c cancels, escape closes" if self._cancels else "escape closes"
            yield self._shown

    def end(self) -> None:
        """There is nothing to cancel any more."""
        self._cancels = False
        for box in self.query(VerticalScroll):
            box.border_subtitle = "escape closes"

    def update(self) -> None:
        """Show what is known now."""
        lines = self._lines(max(1, self._shown.size.width))
        if len(lines) != len(self._shown.lines):
            self._shown.styles.height = len(lines)
        self._shown.show(lines)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self.update)

    def action_cancel(self) -> None:
        """Cancel the request that is shown, if it is one."""
        if self._cancels:
            self.dismiss(True)
