"""Servers of an account of their own, as processes."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlxd.admin_token import Access, running
from tests.environment import ROOT
from tests.server.support import until

SCRIPT = [
    {"when": {"contains": "long"}, "events": [{"text": "Once"}, {"pause": 600}, {"text": "."}]},
    [{"text": "Hello."}],
]


def own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of other tests, and of whoever runs them, are not found."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MLXD_SERVER__PORT", "0")
    Path("script.json").write_text(json.dumps(SCRIPT), encoding="utf-8")


@contextmanager
def serving(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """`mlxd serve` with a script and these arguments."""
    command = [sys.executable, "-m", "mlxd", "serve", "--scripted", "script.json", *args]
    with Path("stderr.txt").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def access_to(process: subprocess.Popen[bytes]) -> Access:
    """What the server has left, once it has."""

    def found() -> list[Access]:
        assert process.poll() is None, Path("stderr.txt").read_text("utf-8")
        return [access for access in running() if access.pid == process.pid]

    await until(lambda: bool(found()))
    return found()[0]


def asked(access: Access, text: str, key: str = "") -> Any:
    """A chat completion, not read to its end."""
    body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{access.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", **({"x-api-key": key} if key else {})},
    )
    return urllib.request.urlopen(request, timeout=60)


def environment(**more: str) -> dict[str, str]:
    """For a process that shall find the same account."""
    return {**os.environ, **more}
