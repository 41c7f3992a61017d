"""`mlxd top` without a terminal: start it on a fake server, press keys, read the screen."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from textual.app import App
from textual.pilot import Pilot

from mlxd.status import Status, ThroughputHistory
from mlxd.tui.client import ServerClient
from mlxd.tui.terminal import Terminal
from mlxd.tui.top.app import TopApp
from tests.tui.top.fake_admin import TOKEN, FakeAdmin, fake_admin

SMALL, LARGE = (80, 24), (140, 44)
QUICK = (0.01, 0.02)
"""Seconds between attempts to connect."""
ROUNDS = 400
"""Times that a condition is looked at before a test gives up."""


def text_of(app: App[int]) -> str:
    """What the screen shows, without blanks at the ends of lines."""
    strips = app.screen._compositor.render_strips()
    lines = ("".join(segment.text for segment in strip) for strip in strips)
    return "\n".join(line.rstrip() for line in lines)


@dataclass
class Watch:
    """A running app, its server, and the keyboard. `now` is the app's clock."""

    app: TopApp
    server: FakeAdmin
    pilot: Pilot[int]
    now: list[float]

    @property
    def text(self) -> str:
        return text_of(self.app)

    async def press(self, *keys: str) -> None:
        """Press keys and wait until they have had their effect."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        for _ in range(ROUNDS):
            if holds():
                return
            await self.pilot.pause(0.005)
        raise AssertionError(f"it never came to hold; the screen:\n{self.text}")

    async def until_shown(self, *words: str) -> None:
        """Wait until the screen shows all of these."""
        await self.until(lambda: all(word in self.text for word in words))

    async def until_gone(self, *words: str) -> None:
        """Wait until the screen shows none of these."""
        await self.until(lambda: not any(word in self.text for word in words))

    async def tell(self, status: Status) -> None:
        """Let the server send a status, and wait until the app has it."""
        self.server.tell(status)
        await self.until(lambda: self.app.status == status)
        await self.pilot.pause()


@asynccontextmanager
async def watching(
    status: Status,
    size: tuple[int, int] = SMALL,
    terminal: Terminal | None = None,
    *,
    token: str = TOKEN,
    server: FakeAdmin | None = None,
    history: ThroughputHistory | None = None,
) -> AsyncIterator[Watch]:
    """The app on a server that tells `status`; `server` if it is not a running one."""
    async with fake_admin(status) as fake:
        used = server or fake
        fake.history = history or ThroughputHistory()
        now = [1000.0]
        app = TopApp(
            lambda: ServerClient(used.url, token), terminal, clock=lambda: now[0], backoff=QUICK
        )
        async with app.run_test(size=size) as pilot:
            yield Watch(app, used, pilot, now)


@asynccontextmanager
async def seeing(
    status: Status, size: tuple[int, int] = SMALL, terminal: Terminal | None = None
) -> AsyncIterator[Watch]:
    """The app once it shows `status`."""
    async with watching(status, size, terminal) as watch:
        await watch.until_shown("live")
        yield watch
