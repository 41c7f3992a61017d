"""Background responses of `mlxd serve`: its end in order, and its end at once."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Served, serve

TOML = """[server]
drain_seconds = 0.2
[conversations]
path = "{path}"
"""
SCRIPT = [{"events": [{"text": "begun"}, {"pause": 60}]}]
LIMIT = 20.0


async def ask(served: Served, method: str, path: str, body: Any = None) -> dict[str, Any]:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    async with await served.connect() as client:
        client.send(f"{head}Content-Type: application/json\r\n\r\n".encode() + data)
        answer = await client.answer()
    assert answer.status == 200, answer
    told: dict[str, Any] = json.loads(answer.body)
    return told


async def begun(served: Served) -> str:
    """The path of a background response that has begun."""
    body = {"model": "demo", "input": "Hello", "background": True}
    made = await ask(served, "POST", "/v1/responses", body)
    path = f"/v1/responses/{made['id']}"
    async with asyncio.timeout(LIMIT):
        while (await ask(served, "GET", path))["status"] != "in_progress":
            pass
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_run_that_the_server_did_not_finish_is_failed_with_a_reason(
    tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps(SCRIPT))
    toml = TOML.format(path=tmp_path / "store.sqlite3")
    with serve(tmp_path, "--scripted", str(script), toml=toml) as served:
        path = await begun(served)
        served.terminate(number)
        code = await asyncio.to_thread(served.process.wait, LIMIT)
        assert code == (0 if number == signal.SIGTERM else -9)
    with serve(tmp_path, "--scripted", str(script), toml=toml) as again:
        body = await ask(again, "GET", path)
        assert body["status"] == "failed"
        assert body["error"]["message"]
