"""Clients that leave before a background run is begun."""

import asyncio
import gc
import json

import pytest

from mlxd.engine.scripted.engine import Gate
from tests.api.stateful import RESPONSES, serving
from tests.api.support import LIMIT


async def test_clients_that_leave_before_they_are_answered_leave_no_task_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serving(Gate(asyncio.Event()))
    body = json.dumps({"model": "demo", "input": "Hi", "background": True, "stream": True}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    async with asyncio.timeout(LIMIT):
        for _ in range(20):
            connection = server.client.request(RESPONSES, method="POST", headers=headers)
            async with connection as leaving:
                await leaving.send(body)
                await leaving.send_complete()
                await server.engine.reaches(lambda engine: engine.running == 1)
                await leaving.disconnect()
            await server.engine.reaches(lambda engine: engine.running == 0)
    gc.collect()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
