"""Rows with quantised KV caches: in a batch as alone, and kept, found and written as they are."""

import random
from pathlib import Path

import pytest

from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.batching.row_trial import RowAbility, try_rows
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.protocol import ModelSpec
from tests.engine.batching.test_batch import Bench, Got, Wanted, endless, some_rows
from tests.engine.batching.test_stored_prefixes import Run
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("heads-of-32"), heads=(2, 1))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(ModelSpec(id="m", source=str(folder), kv_bits=8))


def alone(loaded: LoadedModel, wanted: Wanted, prefixes: Prefixes | None = None) -> Got:
    bench = Bench(loaded, prefixes=prefixes)
    bench.submit(0, wanted)
    return bench.run()[0]


def test_batched_is_alone_bit_for_bit(loaded: LoadedModel) -> None:
    rng = random.Random(20261201)
    pool = some_rows(rng, 8)
    expected = [alone(loaded, item).output for item in pool]
    for schedule in range(4):
        prefixes = Prefixes(schedule % 2 * 10**9)
        bench = Bench(loaded, prefixes=prefixes, prefill_budget=rng.choice([0.25, 1e-9]))
        left = rng.sample(range(len(pool)), 6)
        numbers = list(left)
        while left or bench.scheduler.busy:
            while left and (rng.random() < 0.5 or not bench.scheduler.busy):
                bench.submit(left[0], pool[left[0]])
                left.pop(0)
            bench.step()
        for number in numbers:
            assert bench.got[number].output == expected[number], f"schedule {schedule}"


def test_the_trial_finds_nothing_that_they_can_not_do(loaded: LoadedModel) -> None:
    assert try_rows(loaded.model, loaded.vocab_size) == RowAbility()


def test_rows_served_one_at_a_time_answer_alike(loaded: LoadedModel) -> None:
    wanted = Wanted(tuple(range(3, 40)), sampling=endless(loaded))
    bench = Bench(loaded, ability=RowAbility(together=False))
    bench.submit(0, wanted)
    assert bench.run()[0].text == alone(loaded, wanted).text


def test_a_prefix_is_kept_as_packed_as_it_was_computed(loaded: LoadedModel, folder: Path) -> None:
    plain = load(ModelSpec(id="m", source=str(folder)))
    tokens = tuple(random.Random(1).choices(range(290), k=600))
    held = []
    for model in (plain, loaded):
        prefixes = Prefixes(10**9)
        first = Wanted(tokens, 4, endless(model))
        longer = Wanted(tokens + (5, 6, 7), 4, endless(model))
        alone(model, first, prefixes)
        held.append(prefixes.nbytes)
        again = alone(model, longer, prefixes)
        assert again.cached == 600
        assert again.output == alone(model, longer).output
    # float32: 8 bits a value, and two of 32 for each 32 values.
    assert held[0] / held[1] == pytest.approx(3.2, rel=0.02)


def test_the_disk_gives_it_back_as_packed(loaded: LoadedModel, tmp_path: Path) -> None:
    tokens = random.Random(2).choices(range(290), k=300)
    longer = Wanted((*tokens, 5, 6, 7), 4, endless(loaded))
    scope, empty = "m\n", loaded.model.make_cache()
    first = Run(tmp_path, empty)
    alone(loaded, Wanted(tuple(tokens), 4, endless(loaded)), first.prefixes)
    first.end()
    second = Run(tmp_path, empty)
    assert second.find(list(longer.tokens), scope) == 256, "whole blocks"
    again = alone(loaded, longer, second.prefixes)
    assert again.cached == 256
    assert again.output == alone(loaded, longer).output
    second.end()
