"""Leaving the terminal clean, however an app ends, and coming back to it."""

import asyncio
import signal
from typing import Any

from rich.text import Text
from textual.app import App

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


def end_by_signal(app: App[Any]) -> None:
    """Let a polite kill, or a terminal that goes away, end the app as its own key would."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(number, app.exit, 128 + number)


def repaint_on_return(app: App[Any]) -> None:
    """Draw everything again after Ctrl+Z and `fg`: the terminal has forgotten it."""
    app.app_resume_signal.subscribe(app, lambda _: app.refresh(layout=True))
