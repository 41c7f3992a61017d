"""Several names of one model: one copy of the weights, one batch, one memory of prompts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from mlxd.engine.process.resident_model import weights_key
from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import ModelUnusable
from mlxd.messages import Sampling
from tests.engine.process.test_engine import NEVER, answer_of, ask
from tests.engine.support import until
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

LONG = "of Paris and France " * 60
ROOM_FOR_ONE = 700_000
COLD, HOT = Sampling(temperature=0.0), Sampling(temperature=1.0, seed=4)
OPEN = Sampling(logit_bias=NEVER)
"""How a model's own sampling is used."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervisor]:
    """Two names of one model and another model, of which one fits into memory."""
    folder = tmp_path_factory.mktemp("shared")
    shared = str(make_tiny_model(folder / "shared"))
    other = str(make_tiny_model(folder / "other", seed=1))
    running = Supervisor(
        (
            ModelSpec(id="plain", source=shared, sampling=COLD),
            ModelSpec(id="short", source=shared, sampling=HOT, context_length=300),
            ModelSpec(id="other", source=other, sampling=COLD),
        ),
        EngineLimits(memory_bytes=ROOM_FOR_ONE, swap_patience=0.1),
        preload=None,
        stall_timeout=30,
        load_timeout=60,
    )
    await running.start()
    try:
        yield running
    finally:
        await running.stop(0)


def states(engine: Supervisor) -> list[str]:
    return [model.state for model in engine.models()]


async def test_two_names_fit_where_one_model_fits(engine: Supervisor) -> None:
    await engine.load("plain")
    weights = engine.models()[0].bytes
    await answer_of(engine, ask(model="plain"))
    await until(lambda: engine.status().figures.memory_used >= weights)
    await engine.load("short")
    assert states(engine) == ["loaded", "loaded", "unloaded"]
    await answer_of(engine, ask(model="short"))
    await until(lambda: weights <= engine.status().figures.memory_used < 1.5 * weights)


async def test_each_name_keeps_its_settings_in_one_batch(engine: Supervisor) -> None:
    await engine.load("short")
    windows = [model.context_length for model in engine.models()[:2]]
    assert windows[1] == 300 < windows[0]
    alone = [
        (await answer_of(engine, ask(model=name, sampling=OPEN))).text
        for name in ("plain", "short")
    ]
    assert alone[0] != alone[1], "one is greedy, one is not"
    both = await asyncio.gather(
        *(answer_of(engine, ask(model=n, sampling=OPEN)) for n in ("plain", "short"))
    )
    assert [answer.text for answer in both] == alone


async def test_a_prompt_is_known_by_the_other_name(engine: Supervisor) -> None:
    await answer_of(engine, ask(LONG[:800], model="plain"))
    again = (await answer_of(engine, ask(LONG[:800], model="short"))).finished.usage
    assert again.cached >= again.prompt - 2


async def test_weights_leave_with_the_last_name(engine: Supervisor) -> None:
    await engine.load("plain")
    await engine.load("short")
    await engine.unload("plain")
    assert states(engine) == ["unloaded", "loaded", "unloaded"]
    used = (await answer_of(engine, ask(LONG[:800], model="short"))).finished.usage
    assert used.cached > 0, "what is known goes with the weights alone"
    await answer_of(engine, ask(model="other"))
    assert states(engine) == ["unloaded", "unloaded", "loaded"]


def test_what_is_computed_in_another_way_is_another_model(tmp_path: Path) -> None:
    plain = ModelSpec(id="plain", source=str(make_tiny_model(tmp_path)))
    assert weights_key(replace(plain, id="preset", max_tokens=5)) == weights_key(plain)
    half, eight, four = (
        replace(plain, dtype="float16"),
        replace(plain, kv_bits=8),
        replace(plain, kv_bits=4),
    )
    assert len({weights_key(each) for each in (plain, half, eight, four)}) == 4


async def test_idle_models_leave_and_pinned_ones_stay(tmp_path: Path) -> None:
    specs = (
        ModelSpec(id="idle", source=str(make_tiny_model(tmp_path / "a")), idle_seconds=0.2),
        ModelSpec(id="pinned", source=str(make_tiny_model(tmp_path / "b", seed=1)), pinned=True),
        ModelSpec(id="late", source=str(make_tiny_model(tmp_path / "c", seed=2))),
    )
    limits = EngineLimits(memory_bytes=ROOM_FOR_ONE, swap_patience=0.1)
    engine = Supervisor(specs, limits, preload=None, stall_timeout=30, load_timeout=60)
    await engine.start()
    try:
        await answer_of(engine, ask(model="idle"))
        await until(lambda: states(engine)[0] == "unloaded")
        assert (await answer_of(engine, ask(model="idle"))).finished.usage.completion == 8
        await engine.load("pinned")
        with pytest.raises(ModelUnusable, match="does not fit beside what is pinned: pinned"):
            await answer_of(engine, ask(model="late"))
        assert states(engine)[1] == "loaded"
    finally:
        await engine.stop(0)
