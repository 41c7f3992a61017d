"""The chat's main screens, as the text that they are, and one with its colours as SVG.

`--update-golden` writes them anew.
"""

import re

import pytest

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
SCREENS: dict[str, tuple[Reply | Refusal, tuple[int, int], Terminal, tuple[str, ...]]] = {
    "chat-answered-80x24": (ANSWER, (80, 24), Terminal(), ()),
    "chat-unfolded-80x24": (ANSWER, (80, 24), Terminal(), ("ctrl+t",)),
    "chat-answered-80x24-ascii": (ANSWER, (80, 24), PLAIN, ()),
    "chat-answered-120x40": (ANSWER, (120, 40), Terminal(), ()),
    "chat-tiny-30x10": (ANSWER, (30, 10), Terminal(), ()),
    "chat-choices-80x24": (ANSWER, (80, 24), Terminal(), ("slash",)),
    "chat-help-80x24": (ANSWER, (80, 24), Terminal(), ("slash", *"help", "enter")),
    "chat-restarting-80x24": (BROKEN, (80, 24), Terminal(), ()),
}

PICTURE = "chat-answered-80x24"


@pytest.mark.parametrize("name", SCREENS)
async def test_the_screen_is_as_it_was(name: str, request: pytest.FixtureRequest) -> None:
    reply, size, terminal, keys = SCREENS[name]
    async with chatting(reply, size=size, terminal=terminal, clock=lambda: 100.0) as desk:
        # Else the picture would show it or not, as time goes.
        desk.app.query_one(MessageInput).cursor_blink = False
        await desk.ask("Why are there tides?")
        await desk.press(*keys)
        await desk.settled()
        update = request.config.getoption("--update-golden")
        compare(name, _elsewhere(text_of(desk.app)), update)
        if name == PICTURE:
            compare(name, _elsewhere(desk.app.export_screenshot()), update, kind="svg")


def _elsewhere(screen: str) -> str:
    """The screen without what differs from run to run: the port, and an id made of it."""
    return re.sub(r"terminal-\d+", "terminal-1", re.sub(r":\d{5}(?=\.)", ":84848", screen))
