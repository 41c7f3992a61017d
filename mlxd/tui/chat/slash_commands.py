"""The commands of a chat: `/name argument`, what they are called, and what Tab makes of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from mlxd.tui.chat.local.answer_settings import NAMES
from mlxd.tui.chat.safe_text import one_line

SHOWN_CHOICES = 8
"""Completions that are shown."""

CommandName = Literal[
    "model",
    "system",
    "set",
    "file",
    "retry",
    "edit",
    "copy",
    "fork",
    "open",
    "clear",
    "save",
    "load",
    "help",
    "quit",
]


@dataclass(frozen=True)
class SlashCommand:
    """What a line asks for; `force` is the `!` behind the name."""

    name: CommandName
    argument: str = ""
    force: bool = False


@dataclass(frozen=True)
class UnknownCommand:
    """A line that looks like a command and is none; `nearest` is empty if nothing is near."""

    name: str
    nearest: str


@dataclass(frozen=True)
class CommandUsage:
    """How a command is written and what it does."""

    argument: str
    does: str


COMMANDS: dict[CommandName, CommandUsage] = {
    "model": CommandUsage("[NAME]", "ask another model, /model! one not listed; alone: list them"),
    "system": CommandUsage("[TEXT]", "set the system prompt; - takes it away; alone: show it"),
    "set": CommandUsage("[NAME VALUE...]", f"of answers: {NAMES}; - gives one back; alone: show"),
    "file": CommandUsage("PATH...", "put text files into the next prompt; so does @PATH in it"),
    "retry": CommandUsage("[set ...]", "take the last answer back and ask again"),
    "edit": CommandUsage("", "take the last question back to write it anew"),
    "copy": CommandUsage("", "copy the last answer"),
    "fork": CommandUsage("", "go on in a copy of the conversation"),
    "open": CommandUsage("[N|ID]", "go on with an earlier conversation; alone: list them"),
    "clear": CommandUsage("", "begin a new conversation"),
    "save": CommandUsage("FILE", "write it as Markdown (.md) or JSON; /save! overwrites"),
    "load": CommandUsage("FILE", "go on from a saved conversation"),
    "help": CommandUsage("", "show keys and commands"),
    "quit": CommandUsage("", "leave; the server keeps the conversation for a while"),
}
OTHER_NAMES: dict[str, CommandName] = {"exit": "quit", "new": "clear", "q": "quit"}
_NEEDS_ARGUMENT: tuple[CommandName, ...] = ("save", "load", "file")
_COMMAND = re.compile(r"/([a-zA-Z][a-zA-Z_-]*|\?)(!?)(?:\s+(.*))?", re.DOTALL)


def parse(text: str) -> SlashCommand | UnknownCommand | None:
    """The command that `text` is; None if it is a message.

    A path such as `/etc/hosts` is a message, and so is everything that begins with a space.
    """
    found = _COMMAND.fullmatch(text.rstrip())
    if found is None:
        return None
    written, force, argument = found[1].lower(), bool(found[2]), (found[3] or "").strip()
    written = "help" if written == "?" else written
    name = next((name for name in COMMANDS if name == written), OTHER_NAMES.get(written))
    if name is None:
        near = get_close_matches(written, [*COMMANDS, *OTHER_NAMES], n=1)
        begun = [known for known in COMMANDS if known.startswith(written)]
        return UnknownCommand(written, (begun or near or [""])[0])
    return SlashCommand(name, argument, force)


def missing(command: SlashCommand) -> str:
    """What is wrong with a command as written, in a sentence; empty if nothing is."""
    if command.name in _NEEDS_ARGUMENT and not command.argument:
        return f"/{command.name} needs a file: /{command.name} FILE"
    if command.argument and not COMMANDS[command.name].argument:
        return f"/{command.name} takes nothing behind it."
    return ""


def completions(text: str, models: Sequence[str] = ()) -> list[str]:
    """What `text` can be completed to, as whole lines: names of commands, models, files."""
    if "\n" in text or not text.startswith("/"):
        return []
    name, space, argument = text.partition(" ")
    if not space:
        begun = [known for known in COMMANDS if known.startswith(name[1:].lower())]
        return [f"/{known}{' ' if COMMANDS[known].argument else ''}" for known in begun]
    match name.rstrip("!"):
        case "/model":
            return [f"{name} {model}" for model in models if model.startswith(argument)]
        case "/set":
            names = NAMES.split(", ")
            return [f"{name} {each} " for each in names if each.startswith(argument)]
        case "/save" | "/load" | "/file":
            return [f"{name} {path}" for path in _paths(argument)]
    return []


def hint(choices: Sequence[str]) -> str:
    """What to show for completions: how a single command is written, or the choices in lines."""
    for name, usage in COMMANDS.items():
        if [choice.strip() for choice in choices] == [f"/{name}"]:
            return f"/{name} {usage.argument}".rstrip() + f"  {usage.does}"
    shown = [one_line(choice, 70) for choice in choices[:SHOWN_CHOICES]]
    left = len(choices) - len(shown)
    return "\n".join([*shown, f"and {left} more"] if left else shown)


def common(lines: Sequence[str]) -> str:
    """What all of `lines` begin with."""
    return os.path.commonprefix(list(lines))


def _paths(begun: str) -> list[str]:
    """Files and folders whose path begins so, folders with a slash behind them."""
    folder, _, stem = begun.rpartition("/")
    shown = begun[: len(begun) - len(stem)]
    where = Path(shown or ".").expanduser()
    try:
        found = sorted(where.iterdir())
    except (OSError, RuntimeError):
        return []
    return [
        f"{shown}{path.name}{'/' if path.is_dir() else ''}"
        for path in found
        if path.name.startswith(stem) and (stem or not path.name.startswith("."))
    ]
