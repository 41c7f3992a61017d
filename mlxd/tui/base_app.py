"""What the terminal apps share: themes, and a terminal that is clean however they end."""

import asyncio
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, TextIO, cast

from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingType
from textual.drivers.linux_driver import LinuxDriver

from mlxd.tui.terminal import Terminal
from mlxd.tui.theme import OURS, theme_names

LOOK_FOR_TERMINAL = 0.5
"""Seconds between two looks whether the terminal is still there."""
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
        self.lost = False
        self._file = file

    def write(self, text: str) -> None:
        """Write, or notice that nobody can read it."""
        # An error would end Textual's writing thread, and whoever fills its queue waits for ever.
        with self._noticing_loss():
            self._file.write(text)

    def flush(self) -> None:
        """Send what was written."""
        with self._noticing_loss():
            self._file.flush()

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            # A slow terminal that another program made non-blocking: it is still there.
            pass
        except OSError:
            self.lost = True


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
        self._output = ForgivingOutput(self._file)
        # Textual's writing thread only writes and flushes.
        self._file = cast(Any, self._output)

    @property
    def terminal_lost(self) -> bool:
        """Whether the terminal was closed; not every program gets SIGHUP then."""
        # Textual's reading thread takes a closed terminal's empty reads for silence, and spins.
        poll = select.poll()
        poll.register(self.fileno, select.POLLHUP)
        return self._output.lost or any(event & select.POLLHUP for _, event in poll.poll(0))

    def run_input_thread(self) -> None:
        while not self.exit_event.is_set():
            with suppress(UnicodeDecodeError):
                super().run_input_thread()


class TerminalApp(App[int]):
    """An app on `terminal`; the exit code is its result."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+z", "suspend_process", priority=True, show=False),
    ]

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(driver_class=TolerantDriver)
        self.terminal = terminal
        self._themes = theme_names(terminal)

    def take_terminal(self) -> None:
        """Set the theme, and end as by a key when asked to; to be called when mounted."""
        for theme in OURS:
            self.register_theme(theme)
        self.theme = self._themes[0]
        # After Ctrl+Z and `fg` the terminal has forgotten the picture.
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        if not self.is_headless:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                loop.add_signal_handler(number, self.exit, 128 + number)
            self.set_interval(LOOK_FOR_TERMINAL, self._leave_lost_terminal)

    def _leave_lost_terminal(self) -> None:
        if isinstance(self._driver, TolerantDriver) and self._driver.terminal_lost:
            self.exit(128 + signal.SIGHUP)

    def action_other_theme(self) -> None:
        """Light or dark."""
        first, other = self._themes
        self.theme = other if self.theme == first else first

    def _handle_exception(self, error: Exception) -> None:
        # Textual would print a page of source code.
        super()._handle_exception(error if os.environ.get(DEBUG) else Crash(error))
