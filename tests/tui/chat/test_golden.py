"""The chat's main screens, as the text that they are, and one with its colours as SVG.

`--update-golden` writes them anew.
"""

import re
from pathlib import Path

import pytest

from mlxd.tui.chat.local.kept_chats import KeptChats
from mlxd.tui.chat.message_input import MessageInput
from mlxd.tui.terminal import FEW, Terminal
from tests.tui.chat.desk import chatting
from tests.tui.chat.server import Refusal, Reply
from tests.tui.goldens import compare
from tests.tui.top.watching import text_of

PLAIN = Terminal(unicode=False, colors=FEW)
ANSWER = Reply(
    (
        "# Tides\n\nThe **moon** pulls the water:\n\n- twice a day it rises\n",
        "- twice a day it falls\n\n```python\nprint('tide')\n```\n",
    ),
    reasoning=("The moon and the sun.",),
)
BROKEN = Refusal(
    503, "engine_failed", "The inference engine is restarting after a failure: it died."
)
Pictures = dict[str, tuple[str, ...]]
"""Names of screens, each with the keys that are pressed after the one before."""
SHOWN: list[tuple[Reply | Refusal, tuple[int, int], Terminal, Pictures]] = [
    (
        *(ANSWER, (80, 24), Terminal()),
        {
            "chat-answered-80x24": (),
            "chat-unfolded-80x24": ("ctrl+t",),
            "chat-choices-80x24": ("ctrl+t", "slash"),
            "chat-help-80x24": (*"help", "enter"),
        },
    ),
    (ANSWER, (80, 24), PLAIN, {"chat-answered-80x24-ascii": ()}),
    (ANSWER, (120, 40), Terminal(), {"chat-answered-120x40": ()}),
    (ANSWER, (30, 10), Terminal(), {"chat-tiny-30x10": ()}),
    (BROKEN, (80, 24), Terminal(), {"chat-restarting-80x24": ()}),
]

PICTURE = "chat-answered-80x24"


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: next(iter(shown[3])))
async def test_the_screens_are_as_they_were(
    shown: tuple[Reply | Refusal, tuple[int, int], Terminal, Pictures],
    request: pytest.FixtureRequest,
) -> None:
    reply, size, terminal, pictures = shown
    update = request.config.getoption("--update-golden")
    async with chatting(reply, size=size, terminal=terminal, clock=lambda: 100.0) as desk:
        # Else the picture would show it or not, as time goes.
        desk.app.query_one(MessageInput).cursor_blink = False
        await desk.ask("Why are there tides?")
        for name, keys in pictures.items():
            await desk.press(*keys)
            await desk.settled()
            compare(name, _elsewhere(text_of(desk.app)), update)
            if name == PICTURE:
                compare(name, _elsewhere(desk.app.export_screenshot()), update, kind="svg")


async def test_the_first_screen_is_as_it_was(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kept = KeptChats(tmp_path / "chats.jsonl")
    async with chatting(kept=kept, earlier=("Why are there tides?", "A word for rain")) as desk:
        desk.app.query_one(MessageInput).cursor_blink = False
        await desk.press("down")
        desk.app.notify("Said above the prompt.", timeout=600)
        await desk.settled()
        update = request.config.getoption("--update-golden")
        compare("chat-first-80x24", _elsewhere(text_of(desk.app)), update)


def _elsewhere(screen: str) -> str:
    """The screen without what differs from run to run: the port, and an id made of it."""
    return re.sub(r"terminal-\d+", "terminal-1", re.sub(r":\d{5}\b", ":84848", screen))
