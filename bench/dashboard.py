"""What `mlxd top` costs: its CPU time and the bytes it writes, while 64 requests change.

The dashboard runs in a terminal of its own, as a person would start it, on a stream of statuses
that is made up here. Its start is not counted: two runs of different length are compared.
"""

import asyncio
import contextlib
import fcntl
import os
import pty
import resource
import select
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import msgspec

from bench.plan import Plan
from bench.processes import MLXD
from bench.report import Figure
from mlxd.status import (
    EngineFigures,
    EngineStatus,
    ModelInfo,
    Rates,
    RequestStatus,
    RowFigures,
    ServerStatus,
    Status,
)

REQUESTS = 64
PER_SECOND = 4
SHORT, LONG = 4.0, 24.0
"""Seconds of the two runs that are compared."""
CPU_GOAL = 5.0
"""Percent of one core."""
LINES, COLUMNS = 80, 200
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of the process, and bytes that it wrote to its terminal."""

    cpu: float
    written: int


def dashboard(plan: Plan) -> Iterator[Figure]:
    """CPU of the whole process, reading and decoding the stream included."""
    cpu: list[tuple[float, float | None]] = []
    written: list[tuple[float, float | None]] = []
    for turn in range(plan.rounds):
        short, long = (asyncio.run(watch(seconds)) for seconds in (SHORT, LONG))
        share = (long.cpu - short.cpu) / (LONG - SHORT) * 100
        rate = (long.written - short.written) / (LONG - SHORT) / 1000
        cpu.append((share, None))
        written.append((rate, None))
        plan.say(f"top, round {turn + 1}: {share:.1f}% of a core, {rate:.1f} KB/s")
    yield Figure("mlxd top, CPU of one core", "%", CPU_GOAL, cpu, streams=REQUESTS)
    yield Figure("mlxd top, written to the terminal", "KB/s", None, written, streams=REQUESTS)


def status_at(step: int) -> Status:
    """64 requests, of which every one has changed since the step before."""
    now = step / PER_SECOND
    return Status(
        server=ServerStatus(
            version="bench", state="serving", health="ok", at=1.8e9 + now, uptime=now, url="bench"
        ),
        engine=EngineStatus(
            state="ready",
            device="cpu",
            memory_limit=19 * 10**9,
            figures=EngineFigures(memory_used=4 * 10**9 + step),
            models=(ModelInfo(id="demo", state="loaded", bytes=10**9, running=REQUESTS),),
            requests=tuple(request_at(step, number) for number in range(REQUESTS)),
        ),
        rates=dict.fromkeys(("1s", "10s", "60s"), Rates(decode=400 + step % 50, prefill=step % 90)),
    )


def request_at(step: int, number: int) -> RequestStatus:
    """A request that has decoded some tokens more at each step, at a rate of its own."""
    tokens = step * 3 + number
    return RequestStatus(
        id=f"req_{number:08x}",
        dialect="openai_chat",
        model="demo",
        client="127.0.0.1",
        agent="bench",
        phase="decode",
        age=step / PER_SECOND,
        decode=step / PER_SECOND,
        first_token=0.8,
        figures=RowFigures(
            prompt_tokens=1000 + number, cached_tokens=500, completion_tokens=tokens
        ),
        max_tokens=4096,
        rate=10 + (step + number) % 30 / 10,
    )


async def watch(seconds: float) -> Cost:
    """Run `mlxd top` for some seconds."""
    async with stream() as port:
        command = [*MLXD, "top", "--url", f"http://127.0.0.1:{port}", "--token", "bench"]
        return await asyncio.to_thread(run, command, seconds)


def run(command: list[str], seconds: float) -> Cost:
    """Run a command in a terminal of its own until it is told to end."""
    before = children_cpu()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    terminal = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **terminal}
    )
    os.close(slave)
    written, end, told = 0, time.monotonic() + seconds, False
    # On Linux reading fails when the last writer is gone.
    with contextlib.suppress(OSError):
        while True:
            if time.monotonic() > end and not told:
                told = True
                process.terminate()
            if select.select([master], [], [], 0.1)[0]:
                written += len(data := os.read(master, 1 << 16))
                if not data:
                    break
    process.wait()
    os.close(master)
    return Cost(children_cpu() - before, written)


def children_cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.asynccontextmanager
async def stream() -> AsyncIterator[int]:
    """An admin endpoint whose requests change; the port it listens on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b" /admin/events?" in head:
                    await tell(writer)
                body = b'{"seconds": []}'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.append(asyncio.create_task(answer(reader, writer)))

    answers: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        await server.wait_closed()


async def tell(writer: asyncio.StreamWriter) -> None:
    """Send statuses until the reader goes."""
    writer.write(EVENTS)
    step = 0
    while True:
        writer.write(b"event: status\ndata: %s\n\n" % msgspec.json.encode(status_at(step)))
        await writer.drain()
        await asyncio.sleep(1 / PER_SECOND)
        step += 1
