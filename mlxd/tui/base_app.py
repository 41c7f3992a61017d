"""What the terminal apps share: themes, and a terminal that is clean however they end."""

import asyncio
import os
import select
import signal
import threading
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, ClassVar, TextIO, cast

from rich.text import Text
from textual import events
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.binding import Binding, BindingType
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, TextArea

from mlxd.tui.terminal import Terminal
from mlxd.tui.theme import OURS, theme_names

READ_BYTES = 4096
TICK = 0.1
"""Seconds after which an escape that nothing follows is the key of that name."""
GOODBYE = 0.5
"""Seconds that an app has for its end when its terminal is gone."""
HUNG_UP = 128 + signal.SIGHUP
Field = Input | TextArea
"""What letters are written into."""
DEBUG = "MLXD_DEBUG"
"""Environment variable; with any value, unexpected errors end in a traceback."""


class Crash(Exception):
    """An unexpected error, as a person gets to see it: in one line, after the screen is back."""

    def __init__(self, error: Exception) -> None:
        reason = " ".join(str(error).split())
        super().__init__(
            f"mlxd: unexpected {type(error).__name__}: {reason}. {DEBUG}=1 shows where."
        )
        self.__cause__ = error

    def __rich__(self) -> Text:
        return Text(str(self))


class ForgivingOutput:
    """A terminal's output; what can't be written because the terminal is gone is dropped."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    # An error would end Textual's writing thread, and whoever fills its queue waits for ever. A
    # slow terminal that another program made non-blocking has errors too.

    def write(self, text: str) -> None:
        """Write, if anyone can read it."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Send what was written."""
        with suppress(OSError):
            self._file.flush()


class TolerantDriver(LinuxDriver):
    """A driver for Linux and macOS that survives input which is not UTF-8, and its terminal."""

    def __init__(
        self,
        app: App[int],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        assert self._file is not None, "a terminal app has a stderr"
        # Textual's writing thread only writes and flushes.
        self._file = cast(Any, ForgivingOutput(self._file))
        self._on_lost = cast(TerminalApp, app).leave_lost_terminal

    def run_input_thread(self) -> None:
        # Textual's own takes the empty reads of a closed terminal for silence, and spins.
        parser, decoder = XTermParser(self._debug), getincrementaldecoder("utf-8")()
        while not self.exit_event.is_set():
            if select.select([self.fileno], [], [], TICK)[0]:
                data = self._read()
                if not data:
                    self._on_lost()
                    return
                # Feeding nothing at all would end the parser; half a character is nothing yet.
                if text := _decoded(data, decoder):
                    self._process(parser.feed(text))
            self._process(parser.tick())

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno, READ_BYTES)
        except OSError:
            return b""

    def _process(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)


def _decoded(data: bytes, decoder: IncrementalDecoder) -> str:
    """What was typed; nothing if that is not UTF-8, since a part of it could be any command."""
    try:
        return decoder.decode(data)
    except UnicodeDecodeError:
        decoder.reset()
        return ""


class TerminalApp(App[int]):
    """An app on `terminal`; the exit code is its result."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+z", "suspend_process", priority=True, show=False),
    ]

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(driver_class=TolerantDriver)
        self.terminal = terminal
        self._overdue: threading.Timer | None = None
        self._themes = theme_names(terminal)

    def run_to_end(self) -> int:
        """Run until the person leaves; the exit code."""
        try:
            result = self.run()
        finally:
            # Whoever has started the app may have more to do, and has as long as that takes.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            if self._overdue is not None:
                self._overdue.cancel()
            # Where giving the terminal back failed, Textual's reading thread would read on.
            if isinstance(self._driver, TolerantDriver):
                self._driver.exit_event.set()
        return self.return_code or 0 if result is None else result

    def take_terminal(self) -> None:
        """Set the theme, and end as by a key when asked to; to be called when mounted."""
        for theme in OURS:
            self.register_theme(theme)
        self.theme = self._themes[0]
        # After Ctrl+Z and `fg` the terminal has forgotten the picture.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.exit, 128 + number)
            # Not the loop's way: it may hang on what a lost terminal does not take any more.
            signal.signal(signal.SIGHUP, lambda *_: self.leave_lost_terminal())

    def leave_lost_terminal(self) -> None:
        """End soon, in order if that is possible; from any thread."""
        # Threads of Textual's that wait for the terminal would keep the process.
        if self._overdue is None:
            self._overdue = threading.Timer(GOODBYE, os._exit, (HUNG_UP,))
            self._overdue.daemon = True
            self._overdue.start()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.exit, HUNG_UP)

    async def on_event(self, event: events.Event) -> None:
        # A key has its whole effect before the next one is looked at. Textual queues it for the
        # widget that has the focus, so that keys typed right behind one that opens a field or a
        # question would still go where the focus was.
        match event:
            case events.Key() if not event.is_forwarded:
                await self._press(event)
            case events.Paste() if not event.is_forwarded and isinstance(self.focused, Field):
                await _deliver(event, self.focused)
            case _:
                await super().on_event(event)

    async def _press(self, key: events.Key) -> None:
        # Not every terminal that says that it lost the focus says that it has it again.
        self.app_focus = True
        focused = self.focused
        if await self._check_bindings(key.key, priority=True):
            return
        if isinstance(focused, Field) and focused.check_consume_key(key.key, key.character):
            await _deliver(key, focused)
        elif not await self._check_bindings(key.key):
            (focused or self.screen)._forward_event(key)

    def action_other_theme(self) -> None:
        """Light or dark."""
        first, other = self._themes
        self.theme = other if self.theme == first else first

    def _handle_exception(self, error: Exception) -> None:
        # Textual would print a page of source code.
        super()._handle_exception(error if os.environ.get(DEBUG) else Crash(error))


async def _deliver(event: events.Event, widget: Widget) -> None:
    """Let a widget handle an event now, instead of when it comes to it."""
    event._set_forwarded()
    await widget.on_event(event)
