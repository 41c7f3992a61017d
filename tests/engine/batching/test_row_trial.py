"""What is found out about a model's rows: models that are off in one way each."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache
from mlx_lm.models.llama import Model, ModelArgs

from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.batching.row_trial import RowAbility, try_rows
from mlxd.engine.models.cache_cost import cache_cost
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.protocol import ModelSpec
from tests.engine.batching.test_batch import Bench, Wanted, endless
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

DIFFERS = "answers differ from those alone"


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    folder = Path(tempfile.mkdtemp())
    return load(ModelSpec(id="tiny", source=str(make_tiny_model(folder))))


class Llama(Model):  # type: ignore[misc]  # mlx-lm has no types
    """A sound model; those below differ from it in one thing."""


class FailsWithTwo(Llama):
    def __call__(self, inputs: mx.array, cache: Any = None) -> Any:
        if len(inputs) > 1:
            raise ValueError("rows")
        return super().__call__(inputs, cache=cache)


class StrayWithTwo(Llama):
    """The logits of a row have a little of its neighbour's in them."""

    def __call__(self, inputs: mx.array, cache: Any = None) -> Any:
        logits = super().__call__(inputs, cache=cache)
        return logits + 0.05 * mx.mean(logits, axis=0, keepdims=True) if len(inputs) > 1 else logits


class BlindToLateRows(Llama):
    """Three rows are one too many, which is seen when the third one joins."""

    def __call__(self, inputs: mx.array, cache: Any = None) -> Any:
        logits = super().__call__(inputs, cache=cache)
        return logits[:, :, ::-1] if len(inputs) > 2 else logits


class ReadsPadding(Llama):
    """Prompts that are computed together change each other."""

    def __call__(self, inputs: mx.array, cache: Any = None) -> Any:
        logits = super().__call__(inputs, cache=cache)
        if inputs.shape[0] > 1 and inputs.shape[1] > 1:
            for layer in cache:
                layer.values = layer.values + 0.3
        return logits


class ExitsWithTwo(Llama):
    def __call__(self, inputs: mx.array, cache: Any = None) -> Any:
        if len(inputs) > 1:
            raise SystemExit(1)
        return super().__call__(inputs, cache=cache)


class Unmerged(KVCache):  # type: ignore[misc]  # mlx-lm has no types
    """Keeps its rows to itself."""

    merge = property()


class CanNotMerge(Llama):
    def make_cache(self) -> list[Any]:
        return [Unmerged() for _ in self.layers]


class Forgetful(Unmerged):
    """Loses its state on the way to another row."""

    @property
    def state(self) -> Any:
        return self.keys, self.values

    @state.setter
    def state(self, value: Any) -> None:
        self.keys, self.values = value
        self.keys = mx.zeros_like(self.keys)


class CanNotReuse(Llama):
    def make_cache(self) -> list[Any]:
        return [Forgetful() for _ in self.layers]


KINDS: dict[type[Any], RowAbility] = {
    Llama: RowAbility(),
    FailsWithTwo: RowAbility(
        together=False, padded=False, reason="ValueError when requests run together"
    ),
    StrayWithTwo: RowAbility(together=False, padded=False, reason=DIFFERS),
    BlindToLateRows: RowAbility(together=False, padded=False, reason=DIFFERS),
    ReadsPadding: RowAbility(padded=False),
    CanNotMerge: RowAbility(
        together=False, padded=False, reason="ValueError when requests run together"
    ),
    CanNotReuse: RowAbility(
        together=False, padded=False, reused=False, reason="ValueError when requests run together"
    ),
    ExitsWithTwo: RowAbility(
        together=False, padded=False, reason="SystemExit when requests run together"
    ),
}


def as_kind(tiny: LoadedModel, kind: Callable[[ModelArgs], Any]) -> LoadedModel:
    """The tiny model's weights in a model of another class."""
    model = kind(ModelArgs.from_dict(tiny.config))
    model.update(tiny.model.parameters())
    model.eval()
    return replace(tiny, model=model, cache_cost=cache_cost(model))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_a_models_rows_may_do_is_found_out(kind: type[Any], tiny: LoadedModel) -> None:
    assert try_rows(as_kind(tiny, kind).model, tiny.vocab_size) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_answers_are_those_of_the_sound_model_alone(kind: type[Any], tiny: LoadedModel) -> None:
    prompts = [tuple(range(40)), (*range(30), 77, 78), (5, 6, 7), (*range(40), 90, 91)]
    wanted = [Wanted(tokens, 6, endless(tiny), 0) for tokens in prompts]
    odd = Bench(as_kind(tiny, kind), prefixes=Prefixes(10**9), ability=KINDS[kind])
    for number, item in enumerate(wanted):
        odd.submit(number, item)
    got = odd.run()
    for number, item in enumerate(wanted):
        alone = Bench(tiny)
        alone.submit(0, item)
        expected = alone.run()[0]
        assert got[number].text == expected.text
        assert [entry.logprob for entry in got[number].logprobs] == pytest.approx(
            [entry.logprob for entry in expected.logprobs], abs=1e-3
        )
    cached = sum(row.cached for row in got.values())
    assert (cached > 0) == (KINDS[kind].reused and not KINDS[kind].together)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_the_rounding_of_half_precision_is_no_difference(dtype: Any, tiny: LoadedModel) -> None:
    loaded = as_kind(tiny, Llama)
    loaded.model.set_dtype(dtype)
    assert try_rows(loaded.model, tiny.vocab_size) == RowAbility()


def test_a_model_that_fails_alone_is_unusable(tiny: LoadedModel) -> None:
    class FailsLater(Llama):
        def __call__(self, inputs: mx.array, cache: Any = None) -> Any:
            if cache[0].offset:
                raise ValueError("a second step")
            return super().__call__(inputs, cache=cache)

    model = FailsLater(ModelArgs.from_dict(tiny.config))
    model.update(tiny.model.parameters())
    with pytest.raises(ValueError, match="a second step"):
        try_rows(model, tiny.vocab_size)
