"""`mlxd serve` as a process of its own, and clients for it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server.support import Answer, Client

LOG = "stderr.log"
CHAT = "/v1/chat/completions"
NEVER_SAID = ("Traceback", "ResourceWarning", "RuntimeWarning", " ERROR ", " was never ")
"""Words that no server may log, whatever its clients do."""


@dataclass
class Served:
    """A running `mlxd serve`."""

    process: subprocess.Popen[str]
    folder: Path
    announcement: str

    @property
    def port(self) -> int:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.announcement)
        assert found, f"{self.announcement}\n{self.log}"
        return int(found[1])

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return (self.folder / LOG).read_text(encoding="utf-8")

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    async def connect(self) -> Client:
        return await Client.open(self.port)

    async def get(self, path: str) -> Answer:
        async with await self.connect() as client:
            return await client.get(path)

    async def chat(self, text: str, **options: Any) -> Answer:
        """One chat completion that is not streamed, on a connection of its own."""
        async with await self.connect() as client:
            client.send(chat(text, **options))
            return await client.answer()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)


def children(parent: int) -> list[int]:
    """Process ids of the processes that `parent` started and that are not over."""
    return [pid for pid, ppid, state in _processes() if ppid == parent and state != "Z"]


def _processes() -> Iterator[tuple[int, int, str]]:
    """Process id, parent and state of every process."""
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state="], stdout=-1, check=True)
        for line in listed.stdout.decode().splitlines():
            pid, ppid, state = line.split()
            yield int(pid), int(ppid), state[0]
        return
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything.
            state, ppid = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            yield int(path.parent.name), int(ppid), state


def chat(text: str, **options: Any) -> bytes:
    """A request for a chat completion."""
    return post({"messages": [{"role": "user", "content": text}], **options})


def post(body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data


def content(answer: Answer) -> str:
    """The text of a chat completion."""
    assert answer.status == 200, answer
    text = json.loads(answer.body)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


@contextmanager
def serve(
    folder: Path,
    *args: str,
    toml: str = "",
    prefix: Sequence[str] = (),
    program: Sequence[str] = ("-m", "mlxd"),
    expected: str = "nothing",
) -> Iterator[Served]:
    """Run `mlxd serve` in `folder` with `toml` as its configuration, on a free port.

    However the test ends the server, it must have left nothing behind that its log complains of,
    but what is `expected`.
    """
    (folder / "mlxd.toml").write_text(toml, encoding="utf-8")
    python = [sys.executable, "-W", "default::ResourceWarning", "-W", "default::RuntimeWarning"]
    with (folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*prefix, *python, *program, "serve", "--port", "0", *args],
            cwd=folder,
            env=_bare_environment(folder),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    served = Served(process, folder, _read_announcement(process))
    try:
        yield served
        lines = [line for line in served.log.splitlines() if expected not in line]
        said = [line for line in lines if any(word in line for word in NEVER_SAID)]
        assert not said, "\n".join(said)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout
        process.stdout.close()


def _bare_environment(folder: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MLXD_")}
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    homes = dict.fromkeys(names, str(folder))
    return ours | homes | {"HF_HUB_OFFLINE": "1"}


def _read_announcement(process: subprocess.Popen[str]) -> str:
    """Standard output up to the empty line that ends the announcement, or up to its end."""
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        if not line.strip():
            break
        lines.append(line)
    return "".join(lines)
