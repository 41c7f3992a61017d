"""A server that is started to be killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STORE = "conversations.sqlite3"
LOG = "server.log"
SETTINGS = f"""
[server]
max_queue = 256
[conversations]
path = "{STORE}"
ttl = 1000000.0
archive = false
"""


@dataclass(frozen=True)
class Server:
    """A running `mlxd serve`, and the seconds it took until it could be asked."""

    process: subprocess.Popen[str]
    url: str
    seconds: float

    def kill(self) -> None:
        """`kill -9`, for it and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server with scripted answers and its store in `folder`; killed at the end of the block."""
    config = folder / "mlxd.toml"
    config.write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "mlxd", "serve", "--scripted", "agent", "--port", "0"]
    started = time.perf_counter()
    with (folder / LOG).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--config", str(config), "--log-level", "warning"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout
    server = None
    try:
        found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
        if not found:
            raise RuntimeError(f"the server did not start; see {folder / LOG}")
        server = Server(process, found[0], time.perf_counter() - started)
        yield server
    finally:
        (server or Server(process, "", 0.0)).kill()
        process.stdout.close()
