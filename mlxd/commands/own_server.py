"""A server that a command starts for itself: until it answers, and until nobody needs it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import Any

import click

from mlxd import called
from mlxd.admin_token import Access, find, folder
from mlxd.commands.output.meter import Meter
from mlxd.errors import ModelUnusable

POLL = 0.2
ANSWERS = 5.0
"""Seconds in which a server of this machine answers a look at it."""
ENDS = 45.0
"""Seconds in which a server ends that was asked to."""
LAST_LINES = 5


def fetched(url: str, path: str, token: str = "", *, method: str = "GET") -> dict[str, Any]:
    """The JSON object that a server of this machine has there; empty if it has none."""
    headers = {"authorization": f"Bearer {token}"}
    request = urllib.request.Request(url + path, headers=headers, method=method)
    # A proxy from the environment does not know this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWERS) as answer:
            found = json.load(answer)
    except urllib.request.HTTPError as error:
        # `/health` says with 503 what is wrong.
        with suppress(ValueError), error:
            return dict(json.load(error))
        return {}
    except (OSError, ValueError, HTTPException):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def own_server(
    options: Sequence[str], model: str, *, keep: bool, for_agent: bool = False
) -> Iterator[Access]:
    """A server started with `options` that serves `model`; stopped behind the body.

    It goes on with `keep`, and where others have begun to use it. Where it was started `for_agent`
    only what is being answered counts: what was asked before was probably the agent's. Raises
    `ModelUnusable` when it can't serve.
    """
    log = folder() / "run.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlxd", "serve", *options]
    with log.open("wb") as output:
        # In a session of its own: Ctrl-C and a closed terminal are the chat's.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # How it is found again, whatever the configuration says.
            env={**os.environ, "MLXD_ADMIN__ENABLED": "true", "MLXD_ADMIN__TOKEN_FILE": ""},
        )
    kept = False
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        access = _answering(process, model, log)
        yield access
        kept = keep or _used_by_others(access, by_running=for_agent)
        if kept:
            click.echo(f"The server goes on (log {log}); `{called()} stop` ends it.", err=True)
    finally:
        if not kept:
            _stop(process)


def _answering(process: subprocess.Popen[bytes], model: str, log: Path) -> Access:
    with Meter({"load": f"loading {model}"}) as meter:
        while process.poll() is None:
            meter.show("load", 0, 0)
            access = find()
            if access is not None and access.pid == process.pid:
                health = fetched(access.url, "/health")
                if health.get("status") == "ok":
                    return access
                if health.get("status") == "failed":
                    raise ModelUnusable(model, _reason(health))
            time.sleep(POLL)
    last = log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
    raise ModelUnusable(model, "the server ended: " + " | ".join(last))


def _leave(number: int, _frame: FrameType | None) -> None:
    """End in order, so that no server stays that nobody knows of."""
    raise SystemExit(128 + number)


def _reason(health: dict[str, Any]) -> str:
    reasons = [str(one["reason"]) for one in health.get("models", ()) if one.get("reason")]
    return "; ".join(reasons) or str(health.get("engine", {}).get("reason", "the engine failed"))


def _used_by_others(access: Access, *, by_running: bool) -> bool:
    """Whether something else than a chat of ours has asked it, or asks now."""
    status = fetched(access.url, "/admin/status", access.token)
    running = status.get("engine", {}).get("requests", ())
    agents = [str(one.get("agent", "")) for one in status.get("conversations", ())]
    asked = not by_running and any(not agent.startswith("mlxd") for agent in agents)
    return bool(running) or asked


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(ENDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
