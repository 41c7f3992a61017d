"""What both terminal apps do when their terminal is closed."""

import asyncio
import signal

import pytest

from tests.tui.pictures import BUSY
from tests.tui.terminal_process import Terminal
from tests.tui.top.fake_admin import TOKEN, fake_admin

SOON = 10.0
"""Seconds; an app that does not notice lives, at full load, for ever."""


@pytest.mark.process
@pytest.mark.parametrize("signalled", [True, False])
@pytest.mark.parametrize(
    ("command", "key", "shown"),
    [("top", "--token", b"live"), ("chat", "--api-key", b"Write a message")],
)
async def test_an_app_ends_with_its_terminal(
    command: str, key: str, shown: bytes, signalled: bool
) -> None:
    async with fake_admin(BUSY) as server:
        with Terminal(command, "--url", server.url, key, TOKEN) as terminal:
            await terminal.read_until(shown)
            terminal.hang_up()
            if signalled:
                terminal.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(SOON):
                code = await asyncio.to_thread(terminal.process.wait)
            assert code == 128 + signal.SIGHUP
