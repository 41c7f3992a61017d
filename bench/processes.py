"""The contenders as child processes: started one by one, asked for readiness, always ended."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.prompts import Chat, ask
from mlxd.engine.process.blas import SPIN

START_LIMIT = 180.0
"""Seconds a server may take until its model answers."""
IN_MEMORY = {"MLXD_CONVERSATIONS__STORE": "memory", "MLXD_CONVERSATIONS__ARCHIVE": "false"}
"""Nothing of a measurement gets among the user's own conversations."""
AS_IT_COMES = {SPIN: "26"}
"""For the others: OpenBLAS with the default of its own, where mlxd has another."""
STOP_LIMIT = 20.0
"""Seconds a process may take to end before it is killed."""

MLXD = [sys.executable, "-m", "mlxd"]
"""The program beside this file, whatever is installed."""
WITH_BLAS = [sys.executable, "-m", "bench.with_blas"]
LOG = Path(tempfile.gettempdir()) / "mlxd-bench.log"


@dataclass(frozen=True)
class Server:
    """A process that listens on `port`."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    started: float

    def answers(self, method: str, path: str, body: bytes | None = None) -> int | None:
        """The status of one request, None if nothing listens yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_LIMIT)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait(self, method: str, path: str, body: bytes | None = None) -> float:
        """Ask until the answer is 200; returns the seconds since the start of the process."""
        while self.answers(method, path, body) != 200:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}; see {LOG}")
            if time.perf_counter() - self.started > START_LIMIT:
                raise RuntimeError(f"{self.name} is not ready after {START_LIMIT} s; see {LOG}")
            time.sleep(0.005)
        return time.perf_counter() - self.started

    def wait_for_model(self) -> float:
        """Seconds from the start until the model has answered a request."""
        body = {"messages": [ask("a pond")], "max_tokens": 1}
        return self.wait("POST", "/v1/chat/completions", json.dumps(body).encode())

    def resident_bytes(self) -> int:
        """Memory of the server process alone, without its children."""
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(command, capture_output=True, check=True).stdout) * 1024

    def cpu_seconds(self) -> float:
        """Processor time of the server and of the processes below it, so far."""
        command = ["ps", "-A", "-o", "pid=,ppid=,time="]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        processes = [line.split() for line in done.stdout.splitlines()]
        family = {str(self.process.pid)}
        # A child comes after its parent, but for numbers that began anew.
        for pid, parent, _ in sorted(processes, key=lambda each: int(each[0])):
            if parent in family:
                family.add(pid)
        return sum(cpu_of(pid, shown) for pid, _, shown in processes if pid in family)


def cpu_of(pid: str, shown: str) -> float:
    """Processor time of a process; Linux's `ps`, which has `shown` it, knows whole seconds only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return seconds_of(shown)
    # A program's name, in parentheses, may hold spaces.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_of(shown: str) -> float:
    """A processor time as `ps` shows it: `1-02:03:04`, or `123:45.67` on macOS."""
    days, _, clock = shown.rpartition("-")
    seconds = 86400.0 * int(days or 0)
    for power, part in enumerate(reversed(clock.split(":"))):
        seconds += 60**power * float(part)
    return seconds


@contextlib.contextmanager
def serving(name: str, command: list[str], settings: dict[str, str]) -> Iterator[Server]:
    """Start a server on a free port, given to it as `--port`; end it at the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with LOG.open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, **IN_MEMORY, **settings},
        )
    try:
        yield Server(name=name, process=process, port=port, started=started)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for a process that does not go."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def mlxd(model: Path, settings: dict[str, str]) -> Iterator[Server]:
    """`mlxd serve` with `model` as its only model and `MLXD_…` settings on top of the defaults."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mlxd.toml"
        config.write_text(f"[models.bench]\nsource = {json.dumps(str(model))}\n", encoding="utf-8")
        command = [*MLXD, "serve", "--config", str(config), "--log-level", "warning"]
        with serving("mlxd", command, settings) as server:
            yield server


@contextlib.contextmanager
def mlx_lm_server(model: Path) -> Iterator[Server]:
    """`mlx_lm.server` with its defaults."""
    command = [*WITH_BLAS, "mlx_lm.server", "--model", str(model), "--log-level", "ERROR"]
    settings = {"HF_HUB_OFFLINE": "1"} | AS_IT_COMES
    with serving("mlx_lm.server", command, settings) as server:
        yield server


class LineProcess:
    """A process that answers each line of JSON with one; its first line says that it is ready."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._answer()

    def ask(self, question: dict[str, Any]) -> dict[str, float]:
        """Send a line and wait for its answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended; see {LOG}")
        answer: dict[str, float] = json.loads(line)
        return answer


@contextlib.contextmanager
def line_process(command: list[str]) -> Iterator[LineProcess]:
    """Start a `LineProcess`; end it at the end of the block."""
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **AS_IT_COMES},
        )
    try:
        yield LineProcess(process)
    finally:
        end(process)


class RawGenerator:
    """mlx-lm's `BatchGenerator` in a process of its own."""

    def __init__(self, process: LineProcess) -> None:
        self._process = process

    def run(self, chats: list[Chat], max_tokens: int) -> tuple[int, float]:
        """Generate all answers; tokens generated, and tokens per second."""
        answer = self._process.ask({"chats": chats, "max_tokens": max_tokens})
        return int(answer["tokens"]), answer["tokens"] / answer["seconds"]


@contextlib.contextmanager
def raw_generator(model: Path) -> Iterator[RawGenerator]:
    """The process of a `RawGenerator`, with its model loaded."""
    with line_process([*WITH_BLAS, "bench.raw_worker", str(model)]) as process:
        yield RawGenerator(process)
