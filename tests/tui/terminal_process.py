"""A terminal app as a process, seen from its terminal."""

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

LEAVES_THE_SCREEN = b"\x1b[?1049l"
SHOWS_THE_CURSOR = b"\x1b[?25h"


class Terminal:
    """`mlxd` with these arguments as a process, in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlxd", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        self.slave = slave
        self._open = [slave, self.master]
        self.output = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        """A thread may still read; it ends with the last who could write."""
        self.process.kill()
        self.process.wait()
        for descriptor in self._open:
            os.close(descriptor)

    async def read_until(self, words: bytes) -> None:
        async with asyncio.timeout(30):
            while words not in self.output:
                self.output += await asyncio.to_thread(os.read, self.master, 65536)

    def hang_up(self) -> None:
        """Close the terminal, as a window that is closed or a connection that breaks does."""
        os.close(self._open.pop())

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    @property
    def unread(self) -> int:
        """Bytes of what was typed that the app has not read yet."""
        count = fcntl.ioctl(self.slave, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(count, sys.byteorder)

    async def until_left(self) -> None:
        """Wait until the app has given the screen and the cursor back."""
        await self.read_until(LEAVES_THE_SCREEN)
        await self.read_until(SHOWS_THE_CURSOR)

    async def until_stopped(self) -> None:
        """Wait until the process is stopped, as a shell would."""
        async with asyncio.timeout(30):
            await self.until_left()
            _, status = await asyncio.to_thread(os.waitpid, self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert termios.tcgetattr(self.slave) == self.before

    async def end(self) -> int:
        async with asyncio.timeout(30):
            await self.until_left()
            code = await asyncio.to_thread(self.process.wait)
        assert termios.tcgetattr(self.slave) == self.before
        return code
