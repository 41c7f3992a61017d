"""The same as a person would do it: lines for a shell, and what goes into which file."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from mlxd.launch.agent import KEY, Agent, Command, Endpoint, Places, shortened


def launch_by_hand(agent: Agent, to: Endpoint, at: Places) -> str:
    """How to start an agent; of one that is only configured, what to write where."""
    if agent.start is None or agent.starts_from_file:
        return addition_by_hand(agent, to, at)
    command = agent.start(to.shown, at)
    files = "".join(f"{_file(file, text, at)}\n" for file, text in command.files.items())
    return files + command_by_hand(command, at)


def addition_by_hand(agent: Agent, to: Endpoint, at: Places) -> str:
    """What to write into an agent's own file, and the command that uses it."""
    addition = agent.addition(to.shown, at)
    return f"{_file(addition.file, addition.block, at)}\n{command_by_hand(addition.use, at)}"


def command_by_hand(command: Command, at: Places) -> str:
    """Lines for a shell; the key is a variable in them."""
    return "".join(f"{line}\n" for line in _lines(command, at))


def _lines(command: Command, at: Places) -> Iterator[str]:
    if command.unset:
        yield f"unset {' '.join(command.unset)}"
    if f"${KEY}" in command.environment.values():
        yield f'export {KEY}="${{{KEY}:?is to be one of server.api_keys}}"'
    for name, value in command.environment.items():
        if value != f"${KEY}":
            yield f"export {name}={_quoted(value, at)}"
        elif name != KEY:
            yield f'export {name}="${KEY}"'
    yield " ".join(_quoted(word, at) for word in command.words)


def _file(file: Path, text: str, at: Places) -> str:
    return f"# {shortened(file, at.home)}\n{text}"


def _quoted(word: str, at: Places) -> str:
    """A word for a shell, which knows the home folder by its short name."""
    short = shortened(Path(word), at.home) if word.startswith(f"{at.home}/") else word
    return f"~/{shlex.quote(short[2:])}" if short.startswith("~/") else shlex.quote(short)
