"""Prefixes outlive the engine process: its orderly end, `kill -9`, and damage."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from mlxd.engine.batching.block_tree import BLOCK
from mlxd.engine.prefix_disk.folder import scan, summary
from mlxd.engine.protocol import EngineLimits, ModelSpec, PrefixDiskLimits
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.events import Answer
from mlxd.messages import (
    GenerateRequest,
    Message,
    RequiredTools,
    Sampling,
    Source,
    Tool,
    ToolCall,
)
from mlxd.status import PrefixDiskFigures
from tests.engine.process.test_engine import MARKUP_IDS, answer_of, ask
from tests.engine.support import then, tool_result, until
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

LONG = "of Paris and France " * 200
BESIDE = 16
"""The most tokens that a turn reads besides its new messages."""
RUN = Tool(
    "run",
    "",
    '{"type": "object", "properties": {"command": {"type": "string", "maxLength": 6},'
    ' "flags": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}},'
    ' "required": ["command", "flags"], "additionalProperties": false}',
)


@pytest.fixture(autouse=True)
def reference_blas() -> Iterator[None]:
    """With it an answer does not depend on where its prompt was cut."""
    os.environ["MLXD_BLAS"] = "reference"
    yield
    del os.environ["MLXD_BLAS"]


@asynccontextmanager
async def engine(
    folder: Path, *, idle: float = 3600, memory: int = 10**8
) -> AsyncIterator[Supervisor]:
    source = folder / "tiny"
    if not source.exists():
        make_tiny_model(source)
    disk = PrefixDiskLimits(str(folder / "prefixes"), 10**9, 10**9, idle, free_bytes=0)
    made = Supervisor(
        # What it would think could be anything, calls too.
        (ModelSpec(id="tiny", source=str(source), template_args={"enable_thinking": False}),),
        EngineLimits(prefix_disk=disk),
        preload="tiny",
        stall_timeout=20,
        load_timeout=60,
    )
    await made.start()
    try:
        async with asyncio.timeout(60):
            yield made
    finally:
        await made.stop(0)


def cached(answer: Answer) -> int:
    return answer.finished.usage.cached


def disk_of(made: Supervisor) -> PrefixDiskFigures:
    return made.status().figures.prefix_disk


async def test_prompts_go_on_after_a_restart_and_for_their_owner_alone(tmp_path: Path) -> None:
    async with engine(tmp_path) as made:
        first = await answer_of(made, ask(LONG, key="me"))
        assert cached(first) == 0
    async with engine(tmp_path) as made:
        assert cached(await answer_of(made, ask(LONG, key="you"))) == 0
        requests = [ask(LONG + "!" * number, key="me") for number in range(4)]
        answers = await asyncio.gather(*(answer_of(made, each) for each in requests))
        assert all(cached(answer) >= answer.finished.usage.prompt - BLOCK for answer in answers)
        assert answers[0].text == first.text
        await until(lambda: disk_of(made).hits > 0)
        assert disk_of(made).hits == 1, "all of them waited for one reading"


async def test_a_killed_process_loses_nothing_that_was_written_and_damage_is_a_miss(
    tmp_path: Path,
) -> None:
    prefixes = tmp_path / "prefixes"
    async with engine(tmp_path, idle=0.01) as made:
        first = await answer_of(made, ask(LONG))
        await until(
            lambda: (
                sum(each.entries for each in summary(prefixes))
                > first.finished.usage.prompt // BLOCK
            )
        )
        await killed(made)
        again = await answer_of(made, ask(LONG))
        assert cached(again) >= again.finished.usage.prompt - BLOCK
        assert again.text == first.text
    for found in scan(prefixes):
        path = prefixes / found.file.place
        path.write_bytes(path.read_bytes()[:-1])
    async with engine(tmp_path) as made:
        again = await answer_of(made, ask(LONG))
        assert (again.text, cached(again)) == (first.text, 0)
        await until(lambda: disk_of(made).damaged > 0)


async def one_turn(made: Supervisor, asked: GenerateRequest) -> tuple[Answer, GenerateRequest]:
    """An answer, and the request that comes back with it and with what its calls brought."""
    answer = await answer_of(made, asked)
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    assert calls
    # As programs do that keep arguments as objects.
    sent = [ToolCall(each.id, each.name, json.dumps(json.loads(each.arguments))) for each in calls]
    results = [tool_result("a.txt and b.txt", each.id) for each in calls]
    return answer, then(asked, Message("assistant", tuple(sent)), *results)


def has_answers(folder: Path, count: int) -> bool:
    """Whether so many answers are on the disk, each of which is written behind its prefix."""
    return len(list((folder / "prefixes").rglob("*.answer"))) == count


async def killed(made: Supervisor) -> None:
    """Kill the engine process, and wait for the next one."""
    pid = made.status().pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: made.status().pid not in (0, pid))


async def test_an_agent_goes_on_after_a_kill_in_the_very_tokens_that_it_said(
    tmp_path: Path,
) -> None:
    # Of the two tokens that end an answer, the one that its template ends it with.
    free = Sampling(temperature=1.0, logit_bias={MARKUP_IDS[0]: -100.0})
    asked = ask("Look around. " * 20, key="me", sampling=free, max_tokens=150)
    asked = replace(asked, tools=(RUN,), tool_choice=RequiredTools())
    known = 0
    async with engine(tmp_path, idle=0.01) as made:
        for turn in range(2):
            answer, asked = await one_turn(made, asked)
            usage = answer.finished.usage
            assert usage.cached >= known - BESIDE
            known = usage.prompt + usage.completion
            await until(partial(has_answers, tmp_path, turn + 1))
            await killed(made)
        mine = await made.count_tokens(asked)
        other = await made.count_tokens(replace(asked, source=Source(key="you")))
        seeded = await made.count_tokens(replace(asked, sampling=Sampling(seed=1)))
        assert other == seeded != mine
