"""One engine process: spawned with a socket of its own, read, killed and reaped."""

import asyncio
import logging
import os
import re
import signal
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import IO, Self

import msgspec

from mlxd.engine.protocol import FrameReader, Reply, decode_reply
from mlxd.engine.supervision.allocator import with_huge_pages

logger = logging.getLogger("mlxd.engine")

READ_BYTES = 256 * 1024
LINE_CHARS = 4096
"""Output of the process is cut into lines no longer than this."""
LAST_LINES = 60
EXIT_GRACE = 0.15
"""Seconds between the end of the socket and the exit status of a process that is dying."""
OUTPUT_GRACE = 0.05

_LEVELS = logging.getLevelNamesMapping()
_LOGGED = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+): (.*)")
# What may be told of the last lines of a dying process, the most telling first: fixed words and
# names of exception classes. The rest of a line can hold what a caller wrote.
_FATAL = (
    (re.compile(r"out of memory|insufficient memory|malloc\]|bad_alloc", re.I), "out of memory"),
    (re.compile(r"uncaught exception of type (\w+(?:::\w+)*)"), None),
    (re.compile(r"^Fatal Python error: ([A-Za-z-]{1,30}(?: [a-z]{1,30})?)$"), None),
    (re.compile(r"^((?:\w{1,30}\.){0,5}\w{0,60}(?:Error|Exception|Interrupt))\b"), None),
)


class BrokenProtocol(Exception):
    """The engine process sent what no engine process sends."""


class EngineProcess:
    """A running engine process. Its socket's end is its end; `reap` must follow."""

    def __init__(self, process: asyncio.subprocess.Process, streams: "_Streams") -> None:
        self.pid = process.pid
        self._process = process
        self._streams = streams
        self._frames = FrameReader()
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._output = asyncio.create_task(self._log_output(), name="mlxd engine output")
        self._exit = asyncio.create_task(self._watch_exit(), name="mlxd engine exit")

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> Self:
        """Run `command --fd N` in a session of its own; raises `OSError`."""
        # The child has copies of what is closed here; with ours left open its end would not show.
        ours, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        with closing(theirs), os.fdopen(write_end, "wb") as output:
            streams = await _Streams.open(ours, os.fdopen(read_end, "rb", buffering=0))
            try:
                process = await _execute([*command, "--fd", f"{theirs.fileno()}"], theirs, output)
            except BaseException:
                streams.close()
                raise
            return cls(process, streams)

    def send(self, frame: bytes) -> None:
        """Queue a frame; never waits, and drops it when the process is gone."""
        if not self._streams.writer.is_closing():
            self._streams.writer.write(frame)

    async def receive(self) -> list[Reply]:
        """The replies that arrived, at least one; empty at the end of the socket.

        Raises `BrokenProtocol` for anything that is not a reply.
        """
        while data := await self._read():
            if replies := self._decode(data):
                return replies
        return []

    async def _read(self) -> bytes:
        try:
            return await self._streams.reader.read(READ_BYTES)
        except ConnectionError:
            return b""

    def _decode(self, data: bytes) -> list[Reply]:
        try:
            return [decode_reply(body) for body in self._frames.feed(data)]
        except (ValueError, msgspec.MsgspecError) as error:
            raise BrokenProtocol("it sent a frame that can't be read") from error

    def kill(self) -> None:
        """End the process and its children now; does nothing when it is over."""
        if self._process.returncode is None:
            self._kill_session()

    def _kill_session(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def ending(self) -> str:
        """Why the process ended, once its socket has: in words, and without a caller's text.

        One that closed its socket and lives on is killed.
        """
        reason = "it closed its socket"
        with suppress(TimeoutError):
            async with asyncio.timeout(EXIT_GRACE):
                reason = exit_words(await self._process.wait())
        self.kill()
        await asyncio.wait({self._output}, timeout=OUTPUT_GRACE)
        category = fatal_category(self._last_lines)
        return f"{reason}: {category}" if category else reason

    async def reap(self) -> None:
        """Kill what is left, wait until the system has taken the process away, close all."""
        self.kill()
        try:
            await self._process.wait()
            await asyncio.wait({self._output}, timeout=OUTPUT_GRACE)
        finally:
            self._output.cancel()
            self._exit.cancel()
            self._streams.close()
            await asyncio.wait({self._output, self._exit})

    async def _watch_exit(self) -> None:
        """End its children with it; one of them may hold the other end of the socket."""
        await self._process.wait()
        self._kill_session()

    async def _log_output(self) -> None:
        line = ""
        while chunk := await self._streams.output.read(READ_BYTES):
            line += chunk.decode("utf-8", "replace")
            *lines, line = re.split(r"[\r\n]+", line)
            self._note([*lines, line[:LINE_CHARS]] if len(line) > LINE_CHARS else lines)
            line = line if len(line) <= LINE_CHARS else ""
        self._note([line])

    def _note(self, lines: list[str]) -> None:
        for line in filter(None, map(str.rstrip, lines)):
            # What its own loggers say has its level and logger in front; all else is output.
            level, name, text = "INFO", logger.name, line[:LINE_CHARS]
            if logged := _LOGGED.fullmatch(text):
                level, name, text = logged.groups()
            self._last_lines.append(text)
            logging.getLogger(name).log(_LEVELS[level], "%s", text)


@dataclass(frozen=True)
class _Streams:
    """The server's ends: the socket both ways, and the process's output."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    output: asyncio.StreamReader
    pipe: asyncio.ReadTransport

    @classmethod
    async def open(cls, ours: socket.socket, read_end: IO[bytes]) -> Self:
        """Take both ends over."""
        output = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), read_end
        )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2 * READ_BYTES)
        return cls(reader, writer, output, pipe)

    def close(self) -> None:
        self.writer.transport.abort()
        self.pipe.close()


async def _execute(
    command: Sequence[str], inherited: socket.socket, output: IO[bytes]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        pass_fds=(inherited.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=with_huge_pages(os.environ) | {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"},
        # Ctrl-C in the terminal is the server's to handle.
        start_new_session=True,
    )


def exit_words(code: int) -> str:
    """An exit status as people say it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def fatal_category(lines: Sequence[str]) -> str:
    """What the last lines of a dead process say, by kind only; empty when they say nothing."""
    for pattern, words in _FATAL:
        for line in reversed(lines):
            if found := pattern.search(line):
                return words or found[1]
    return ""
