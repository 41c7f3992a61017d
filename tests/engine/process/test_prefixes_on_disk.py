"""Prefixes outlive the engine process: its orderly end, `kill -9`, and damage."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mlxd.engine.batching.block_tree import BLOCK
from mlxd.engine.prefix_disk.folder import scan, summary
from mlxd.engine.protocol import EngineLimits, ModelSpec, PrefixDiskLimits
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.events import Answer
from mlxd.status import PrefixDiskFigures
from tests.engine.process.test_engine import answer_of, ask
from tests.engine.support import until
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

LONG = "of Paris and France " * 200


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
        (ModelSpec(id="tiny", source=str(source)),),
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
        pid = made.status().pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: made.status().pid not in (0, pid))
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
