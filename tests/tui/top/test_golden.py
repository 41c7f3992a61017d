"""The main screens, as the text that they are, and two with their colours as SVG.

`--update-golden` writes them anew.
"""

import time
from collections.abc import Iterator

import pytest

from mlxd.status import Status
from mlxd.tui.terminal import FEW, Terminal
from mlxd.tui.top.text_snapshot import as_text
from tests.tui.goldens import compare
from tests.tui.pictures import BUSY, HISTORY, IDLE, crowded, event, restarting
from tests.tui.top.watching import LARGE, SMALL, watching

PLAIN = Terminal(unicode=False, colors=FEW)
SCREENS: dict[str, tuple[Status, tuple[int, int], Terminal, tuple[str, ...]]] = {
    "idle-80x24": (IDLE, SMALL, Terminal(), ()),
    "busy-80x24": (BUSY, SMALL, Terminal(), ()),
    "busy-80x24-ascii": (BUSY, SMALL, PLAIN, ()),
    "busy-140x44": (BUSY, LARGE, Terminal(), ()),
    "busy-100x50": (BUSY, (100, 50), Terminal(), ()),
    "64-requests-120x40": (crowded(64, 20), (120, 40), Terminal(), ()),
    "restarting-140x44": (restarting(), LARGE, Terminal(), ()),
    "tiny-50x12": (BUSY, (50, 12), Terminal(), ()),
    "queue-80x24": (BUSY, SMALL, Terminal(), ("2",)),
    "models-80x24": (BUSY, SMALL, Terminal(), ("4",)),
    "detail-80x24": (BUSY, SMALL, Terminal(), ("down", "enter")),
    "help-80x24": (BUSY, SMALL, Terminal(), ("question_mark",)),
    "confirm-80x24": (BUSY, SMALL, Terminal(), ("c",)),
    "sorted-filtered-140x44": (BUSY, LARGE, Terminal(), ("s", "r", "slash", *"claude", "enter")),
}


@pytest.fixture(autouse=True)
def _clock_of_nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the same wherever the tests run."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


PICTURES = ("busy-80x24", "restarting-140x44")


@pytest.mark.parametrize("name", SCREENS)
async def test_the_screen_is_as_it_was(name: str, request: pytest.FixtureRequest) -> None:
    status, size, terminal, keys = SCREENS[name]
    async with watching(status, size, terminal, history=HISTORY) as watch:
        await watch.until_shown("live")
        watch.server.happen(event("request.finished", "stop; 312 tokens in 3.2 s"))
        await watch.until(lambda: len(watch.app.dashboard.log_table.rows) == 1)
        await watch.press(*keys)
        await watch.pilot.pause()
        update = request.config.getoption("--update-golden")
        compare(name, watch.text, update)
        if name in PICTURES:
            compare(name, watch.app.export_screenshot(), update, kind="svg")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_printed_snapshot_is_as_it_was(width: int, request: pytest.FixtureRequest) -> None:
    text = as_text(BUSY, width, Terminal())
    assert max(map(len, text.splitlines())) <= width
    compare(f"once-{width}", text, request.config.getoption("--update-golden"))
