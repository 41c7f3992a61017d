"""What a request waits for, as the status tells it."""

import asyncio
from pathlib import Path

import pytest

from tests.engine.supervision.support import Lab, say, until_ready
from tests.engine.support import answer_of, until

pytestmark = pytest.mark.process


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.mark.parametrize(
    ("words", "model", "note"),
    [
        ("wait", "small", "its API key has as many requests running as it may"),
        ("postpone", "small", "its model waits for memory that other models use"),
        ("a", "slow", "its model is being loaded"),
    ],
)
async def test_status_tells_why_a_request_waits(
    lab: Lab, words: str, model: str, note: str
) -> None:
    async with lab.running(lab.make()) as supervisor:
        await until_ready(supervisor)
        asked = asyncio.create_task(answer_of(supervisor, say(words, model=model)))
        await until(lambda: [row.wait_note for row in supervisor.status().requests] == [note])
        lab.go()
        await asked


async def test_a_request_that_is_computed_waits_for_nothing_any_more(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await until_ready(supervisor)
        asked = asyncio.create_task(answer_of(supervisor, say("wait on")))
        await until(lambda: any(row.wait_note for row in supervisor.status().requests))
        lab.go()
        await until(lambda: [row.phase for row in supervisor.status().requests] == ["decode"])
        assert [row.wait_note for row in supervisor.status().requests] == [""]
        asked.cancel()
