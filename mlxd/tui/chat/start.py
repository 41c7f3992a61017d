"""Starting the chat on the whole terminal, and leaving it clean."""

import asyncio
import os
import sys
from typing import NamedTuple

from mlxd.tui.chat.app import ChatApp
from mlxd.tui.chat.input_history import InputHistory, default_file
from mlxd.tui.chat.local import kept_chats
from mlxd.tui.chat.local.answer_settings import AnswerSettings
from mlxd.tui.chat.local.kept_chats import KeptChats
from mlxd.tui.chat.problems import NOT_RUNNING, advised, code_of, remedy_in_shell, words
from mlxd.tui.client import ServerClient
from mlxd.tui.problems import ConnectionLost, ServerProblem
from mlxd.tui.terminal import terminal_of

FAILED = 1
PATIENCE = 10.0
"""Seconds in which a server lists its models."""
NO_SERVER = 3


class Beginning(NamedTuple):
    """How a chat begins: `conversation` is one to go on with, the last one if that is empty."""

    model: str = ""
    system: str = ""
    settings: AnswerSettings = AnswerSettings()
    keep: bool = True
    conversation: str | None = None


def run(url: str, key: str, beginning: Beginning) -> int:
    """Chat until the person leaves; the exit code.

    Without a server, or with a wrong key, there is a line on stderr and no screen.
    """
    problem = asyncio.run(_unfit(url, key))
    if problem is not None:
        code = code_of(problem)
        sys.stderr.write(f"mlxd: {advised(words(problem), remedy_in_shell(code))}\n")
        return NO_SERVER if code == NOT_RUNNING else FAILED
    app = ChatApp(
        ServerClient(url, key),
        model=beginning.model,
        system=beginning.system,
        history=InputHistory(default_file()),
        kept=KeptChats(kept_chats.default_file() if beginning.keep else None),
        begin_with=beginning.conversation,
        terminal=terminal_of(os.environ),
    )
    app.session.settings = beginning.settings
    return app.run_to_end()


async def _unfit(url: str, key: str) -> ServerProblem | None:
    """What keeps a chat with this server from beginning."""
    async with ServerClient(url, key) as client:
        try:
            async with asyncio.timeout(PATIENCE):
                await client.get("/v1/models", dict[str, object])
        except ServerProblem as problem:
            return problem
        except TimeoutError:
            return ConnectionLost(client.url, f"no answer in {PATIENCE:.0f} s")
    return None
