"""Models that fit into memory one at a time take turns, whatever comes in between."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import load_file, save_file

from mlxd.engine.interface import Unwatched
from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import EngineStopped, ModelUnusable
from mlxd.status import ModelState
from tests.engine.process.test_engine import answer_of, ask
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

NAMES = ("one", "two", "three")
SPOILT = "spoilt"
ROOM_FOR_ONE = 700_000
PATIENCE = 0.1
LIMIT = 120.0


@pytest.fixture(scope="module", autouse=True)
def reference_blas() -> Iterator[None]:
    """With it an answer does not depend on what else is computed."""
    os.environ["MLXD_BLAS"] = "reference"
    yield
    del os.environ["MLXD_BLAS"]


@asynccontextmanager
async def started(folder: Path, *names: str) -> AsyncIterator[Supervisor]:
    """An engine with these models, of which one fits into memory."""
    specs = [
        ModelSpec(id=name, source=str(make_tiny_model(folder / name, seed=number)))
        for number, name in enumerate(names)
    ]
    engine = Supervisor(
        tuple(specs),
        EngineLimits(memory_bytes=ROOM_FOR_ONE, swap_patience=PATIENCE),
        preload=None,
        stall_timeout=30,
        load_timeout=60,
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(0)


@asynccontextmanager
async def engine_of(folder: Path, *names: str) -> AsyncIterator[Supervisor]:
    """One for a single test."""
    async with started(folder, *names) as engine, asyncio.timeout(LIMIT):
        yield engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(
    reference_blas: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Supervisor]:
    """One with three sound models and another, for tests that leave it idle."""
    folder = tmp_path_factory.mktemp("several")
    async with started(folder, *NAMES, SPOILT) as running:
        (weights,) = (folder / SPOILT).glob("*.safetensors")
        spoilt = {name: np.full_like(array, np.nan) for name, array in load_file(weights).items()}
        save_file(spoilt, weights, metadata={"format": "mlx"})
        yield running


async def test_three_models_take_turns_though_each_waits_longer_than_is_usual(
    engine: Supervisor,
) -> None:
    asked = [
        asyncio.create_task(answer_of(engine, ask(model=name, max_tokens=200)))
        for name in NAMES * 2
    ]
    async with asyncio.timeout(LIMIT):
        answers = await asyncio.gather(*asked)
    assert {answer.finished.usage.completion for answer in answers} == {200}
    assert engine.status().restarts == 0


async def test_a_steady_stream_of_requests_starves_no_other_model(engine: Supervisor) -> None:
    await engine.load("one")
    over = asyncio.Event()

    async def steadily() -> None:
        while not over.is_set():
            await answer_of(engine, ask(model="one", max_tokens=100))

    steady = [asyncio.create_task(steadily()) for _ in range(3)]
    async with asyncio.timeout(LIMIT):
        assert (await answer_of(engine, ask(model="two"))).finished.usage.completion == 8
        assert await engine.count_tokens(ask(model="two")) > 0
        over.set()
        await asyncio.gather(*steady)
    assert engine.status().restarts == 0


async def test_whatever_happens_meanwhile_each_answer_is_its_models_own(
    engine: Supervisor,
) -> None:
    """Requests, counts and callers that leave, while an administrator loads and unloads."""
    chance = random.Random(0)
    alone = {name: (await answer_of(engine, ask(model=name))).text for name in NAMES}
    assert len(set(alone.values())) == len(NAMES)

    async def ask_one() -> None:
        name = chance.choice(NAMES)
        assert (await answer_of(engine, ask(model=name))).text == alone[name]

    async def leave_one() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.random() / 2):
                await answer_of(engine, ask(model=chance.choice(NAMES), max_tokens=2000))

    async def count_one() -> None:
        assert await engine.count_tokens(ask(model=chance.choice(NAMES))) > 0

    async def load_one() -> None:
        with suppress(ModelUnusable):
            await engine.load(chance.choice(NAMES))

    async def unload_one() -> None:
        await engine.unload(chance.choice(NAMES))

    kinds = (ask_one, ask_one, leave_one, count_one, load_one, unload_one)

    async def one_after_another() -> None:
        for _ in range(6):
            await chance.choice(kinds)()

    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(one_after_another() for _ in range(6)))
    status = engine.status()
    assert (status.restarts, status.requests, status.idle_seconds) == (0, (), 0.0)


async def test_who_waits_for_memory_hears_of_the_end_of_the_server(tmp_path: Path) -> None:
    async with engine_of(tmp_path, *NAMES[:2]) as engine:
        await engine.load("one")
        async with engine.generate(ask(model="one", max_tokens=2000)) as generation:
            await anext(generation)
            waiting = asyncio.create_task(answer_of(engine, ask(model="two")))
            counting = asyncio.create_task(engine.count_tokens(ask(model="two")))
            while len(engine.status().requests) < 2:
                await engine.count_tokens(ask(model="one"))
            await engine.stop(0)
            for task in (waiting, counting):
                with pytest.raises(EngineStopped):
                    await task


class Loads(Unwatched):
    """Counts how often a model begins to load."""

    def __init__(self, engine: Supervisor, name: str) -> None:
        self.count = 0
        self._engine, self._name = engine, name
        self._before: ModelState = "unloaded"

    def changed(self) -> None:
        (model,) = (model for model in self._engine.models() if model.id == self._name)
        self.count += model.state == "loading" != self._before
        self._before = model.state


async def test_a_model_that_fails_is_loaded_once_for_all_who_wait_for_it(
    engine: Supervisor,
) -> None:
    loads = Loads(engine, SPOILT)
    engine.watch(loads)
    async with asyncio.timeout(LIMIT):
        asked = [answer_of(engine, ask(model=SPOILT)) for _ in range(16)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(failure) for failure in failures} == {str(failures[0])}
        assert isinstance(failures[0], ModelUnusable)
        assert loads.count == 1
        with pytest.raises(ModelUnusable):
            await engine.load(SPOILT)
        assert loads.count == 2
