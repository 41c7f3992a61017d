"""Where messages are written: Enter sends, other ways of Enter begin a line, Up brings back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from mlxd.tui.chat.input_history import InputHistory
from mlxd.tui.chat.slash_commands import common, completions

NEW_LINE = ("ctrl+j", "shift+enter", "alt+enter")
OWN_KEYS = ("enter", "tab", *NEW_LINE)


class MessageInput(TextArea):
    """The input; it posts what is sent, and what Tab could complete."""

    @dataclass
    class Sent(Message):
        """Enter was pressed on `text`, which is not in the input any more."""

        text: str

    @dataclass
    class Completing(Message):
        """`choices` are what the line could become; none means that it is no command's line."""

        choices: Sequence[str]

    @dataclass
    class Pick(Message):
        """An arrow key on an empty prompt: `step` is 1 down, -1 up."""

        step: int

    @dataclass
    class Picked(Message):
        """Enter on an empty prompt, while something is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+d", "leave_or_delete", "Quit", show=False),
    ]

    def __init__(self, history: InputHistory, *, placeholder: str) -> None:
        super().__init__(
            id="prompt",
            placeholder=placeholder,
            compact=True,
            highlight_cursor_line=False,
            tab_behavior="focus",
        )
        self._history = history
        self.models: Sequence[str] = ()
        self.can_pick = self.picking = False
        """Whether there is something to mark with the arrow keys, and something is marked."""

    def clear_text(self) -> None:
        """Empty it."""
        self.text = ""

    def give_back(self, text: str) -> None:
        """What was sent and can't be taken now, before what was written since."""
        self.write(text + self.text)

    def write(self, text: str) -> None:
        """Replace all of it, with the cursor at the end."""
        self.text = text
        self.move_cursor(self.document.end)

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        return key in OWN_KEYS or super().check_consume_key(key, character)

    async def _on_key(self, event: events.Key) -> None:
        match event.key:
            case "enter":
                if self.text.strip():
                    # Taken out at once: what is written from now on belongs to the next message.
                    self.post_message(self.Sent(self.text))
                    self.clear_text()
                elif self.picking:
                    self.post_message(self.Picked())
            case key if key in NEW_LINE:
                self.replace("\n", *self.selection, maintain_selection_offset=False)
            case "tab":
                # As much as all choices have in common.
                if choices := completions(self.text, self.models):
                    self.write(common(choices))
            case _:
                await super()._on_key(event)
                return
        event.stop()
        event.prevent_default()

    async def _on_paste(self, event: events.Paste) -> None:
        # Terminals send the ends of pasted lines as carriage returns.
        text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        event.stop()
        event.prevent_default()
        self.replace(text, *self.selection, maintain_selection_offset=False)

    def on_text_area_changed(self) -> None:
        """Tell what the line could become."""
        self.post_message(self.Completing(completions(self.text, self.models)))

    def action_cursor_up(self, select: bool = False) -> None:
        """Up, and from the first line to the message before."""
        if self.picking and not self.text:
            self.post_message(self.Pick(-1))
            return
        if select or not self.navigator.is_first_wrapped_line(self.cursor_location):
            super().action_cursor_up(select)
        elif (text := self._history.older(self.text)) is not None:
            self.write(text)

    def action_cursor_down(self, select: bool = False) -> None:
        """Down, and from the last line to the message after."""
        if self.can_pick and not self.text:
            self.post_message(self.Pick(1))
            return
        if select or not self.navigator.is_last_wrapped_line(self.cursor_location):
            super().action_cursor_down(select)
        elif (text := self._history.newer()) is not None:
            self.write(text)

    async def action_leave_or_delete(self) -> None:
        """The end of input leaves, as in a shell; with text it deletes to the right."""
        if self.text:
            self.action_delete_right()
        else:
            await self.app.run_action("leave")

    def remember(self, text: str) -> None:
        """Keep a message for Up."""
        self._history.add(text)
