"""The log: one line a request, with counts and times, and nothing of what was said."""

import asyncio
import logging
import re
from typing import Any

import pytest

from mlxd.api.http.framework import Tuning
from mlxd.engine.scripted.engine import Gate
from mlxd.errors import EngineStopped
from mlxd.events import Failed, Finished, Timings, Usage
from tests.api.support import CHAT, DEMO, HELLO, OTHER, front, settings_for
from tests.scripts import FAILING, SCRIPTS, STARTED, call, text

SECRET = "canary-7f3a"


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mlxd")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mlxd.request"]


FINISHED = Finished(
    "stop",
    usage=Usage(prompt=12, cached=8, completion=7),
    timings=Timings(queue=0.5, prefill=0.25, decode=2.0),
    notes=("prefix: 8 of 12", "seeded"),
)


@pytest.mark.parametrize("live", [False, True])
async def test_one_line_says_what_a_request_cost(
    live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = front(STARTED, *text(0, "Hello"), FINISHED)
    await (await server.ask(model="gpt-4o", stream=live)).get_data()
    (line,) = lines(caplog)
    assert [re.sub(r" ms=\d+ ", " ", line)] == [
        "id=req_0123456789abcdef0123456789abcdef status=200 dialect=openai_chat "
        f"model=gpt-4o->demo stream={'true' if live else 'false'} prompt=12 cached=8 completion=7 "
        'queue_ms=500 prefill_ms=250 decode_ms=2000 finish=stop notes="prefix: 8 of 12; seeded"'
    ]


async def test_several_answers_are_one_request_with_one_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await front(STARTED, *text(0, "Hello"), FINISHED).ask(n=3)
    (line,) = lines(caplog)
    assert "prompt=12 cached=8 completion=21" in line


async def test_a_refusal_is_logged_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    server = front(models=(DEMO, OTHER), settings=settings_for(api_keys=("k",)))
    await server.ask()
    await server.post({"messages": []}, x_api_key="k")
    await server.post({"messages": HELLO, "model": "a b\\r\\nc"}, x_api_key="k")
    await server.get("/v1/models", x_api_key="k")
    first, second, third, fourth = lines(caplog)
    assert "status=401 " in first
    assert "status=400 dialect=openai_chat " in second
    assert "status=404 dialect=openai_chat" in third
    assert "finish=ModelNotFound" in third
    assert third.isprintable()
    assert re.search(r"status=200 ms=\d+$", fourth)
    assert first.endswith("finish=Unauthorized")
    assert second.endswith("finish=InvalidField")
    levels = [record.levelname for record in caplog.records if record.name == "mlxd.request"]
    assert levels == ["INFO", "INFO", "INFO", "DEBUG"]


async def test_a_failure_and_a_client_that_left_are_told_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing = front(*FAILING["failure_inside_a_block"])
    await (await failing.ask(stream=True)).get_data()
    await failing.ask()
    slow = Timings(queue=0.25, prefill=3.0, decode=600.0)
    ended = Failed(EngineStopped().report(), timings=slow)
    await front(STARTED, *text(0, "One"), ended).ask()
    server = front(STARTED, *text(0, "One"), Gate(asyncio.Event()))
    async with server.connection(stream=True) as client:
        await client.receive()
        await client.disconnect()
    streamed, whole, stopped, left = lines(caplog)
    assert "queue_ms=250 prefill_ms=3000 decode_ms=600000" in stopped
    assert "status=200" in streamed
    assert streamed.endswith("finish=EngineCrashed")
    assert "status=503" in whole
    assert whole.endswith("finish=EngineCrashed")
    assert re.search(r" ms=\d+ finish=disconnected$", left)
    assert "status=200" in left
    assert left.endswith("finish=disconnected")


async def test_nothing_that_was_said_gets_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    script = (
        STARTED,
        *text(0, f"{SECRET} text"),
        *call(1, f"{SECRET}_tool", f'{{"{SECRET}":1}}'),
        FINISHED,
    )
    server = front(*script, settings=settings_for(api_keys=("right", f"{SECRET}-key")))
    for body in secret_bodies():
        for key in ("right", f"{SECRET}-wrong", f"{SECRET}-key"):
            await server.post(body, x_api_key=key, x_other=SECRET, cookie=SECRET)
    for data in (f'{{"{SECRET}', f'{{"{SECRET}":1,"{SECRET}":2}}', f'"{SECRET}"'):
        await server.send(data.encode(), x_api_key="right")
    await server.get(f"/v1/models?{SECRET}=1", x_api_key="right")
    await server.post({}, f"/v1/{SECRET}", x_api_key="right")
    assert len(lines(caplog)) > 20
    assert SECRET not in caplog.text


def secret_bodies() -> list[dict[str, Any]]:
    said = [{"role": "user", "content": SECRET}]
    return [
        {"messages": said},
        {"messages": said, "stream": True},
        {"messages": [{"role": SECRET, "content": SECRET}]},
        {"messages": said, "temperature": SECRET},
        {"messages": said, SECRET: SECRET},
        {"messages": said, "tools": [{"type": SECRET}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": SECRET}]}]},
        {"messages": said, "stop": SECRET, "user": SECRET, "logit_bias": {SECRET: 1}},
    ]


async def test_every_response_carries_an_id_of_ours() -> None:
    server = front(*SCRIPTS["text"], tuning=Tuning())
    names = set()
    for path in ("/", "/health", "/v1/models", "/no/such", CHAT):
        response = await server.get(path, x_request_id="mine")
        name = response.headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{32}", name)
        assert response.headers["request-id"] == name
        names.add(name)
    assert len(names) == 5
