"""Quantised KV caches: as mlx-lm's own do, with the values that a few bits can tell."""

from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models import base
from mlx_lm.models.cache import BatchKVCache, KVCache, make_prompt_cache

from mlxd.engine.models.cache_cost import cache_cost
from mlxd.engine.models.loading import load
from mlxd.engine.models.quantised_cache import (
    ATTENTION,
    BatchQuantisedCache,
    NotQuantisable,
    QuantisedCache,
    attend,
    quantise_caches,
)
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import ModelUnusable
from tests.engine.batching.test_architectures import ARCHITECTURES, ONLY_HELD, made
from tests.engine.batching.test_architectures import ATTENTION as HEADS_OF_8
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

HEADS, SIZE, BITS = 2, 32, 8
HEADS_OF_32 = {**HEADS_OF_8, "head_dim": SIZE, "vocab_size": 64}


def some(rows: int, tokens: int) -> tuple[mx.array, mx.array]:
    return (
        mx.random.normal((rows, HEADS, tokens, SIZE)),
        mx.random.normal((rows, HEADS, tokens, SIZE)),
    )


def values_of(packed: Any) -> mx.array:
    bits, scales, biases = packed
    return mx.dequantize(bits, scales, biases, group_size=SIZE, bits=BITS)


def told(array: mx.array) -> mx.array:
    """The values that are left of an array."""
    packed = mx.quantize(array, group_size=SIZE, bits=BITS)
    return values_of(packed)


def plain(row: QuantisedCache) -> list[mx.array]:
    return [values_of(part)[..., : row.offset, :] for part in (row.keys, row.values)]


class Pair:
    """A batch of quantised rows, and mlx-lm's own of the values that these tell."""

    def __init__(self, lengths: list[int]) -> None:
        quantised, expected = [], []
        for length in lengths:
            row, same = QuantisedCache(SIZE, BITS), KVCache()
            if length:
                keys, values = some(1, length)
                row.update_and_fetch(keys, values)
                same.update_and_fetch(told(keys), told(values))
            quantised.append(row)
            expected.append(same)
        self.quantised: Any = BatchQuantisedCache.merge(quantised)
        self.expected: Any = BatchKVCache.merge(expected)
        self.rows = len(lengths)

    def both(self, change: Callable[[Any], object]) -> None:
        change(self.quantised)
        change(self.expected)

    def write(self, tokens: int, padding: list[int] | None = None) -> None:
        if padding:
            self.both(lambda cache: cache.prepare(lengths=None, right_padding=padding))
        keys, values = some(self.rows, tokens)
        self.quantised.update_and_fetch(keys, values)
        self.expected.update_and_fetch(told(keys), told(values))
        if padding:
            self.both(lambda cache: cache.finalize())

    def check(self) -> None:
        assert self.quantised.size() == self.expected.size()
        assert self.quantised.empty() == self.expected.empty()
        assert self.quantised.offset.tolist() == self.expected.offset.tolist()
        if self.expected.empty():
            return
        for tokens in (1, 3):
            assert mx.array_equal(
                self.quantised.make_mask(tokens), self.expected.make_mask(tokens)
            ).item()
        for index in range(self.rows):
            got, expected = self.quantised.extract(index), self.expected.extract(index)
            assert got.size() == expected.offset
            if not got.size():
                continue
            keys, values = plain(got)
            assert mx.array_equal(keys, expected.keys).item()
            assert mx.array_equal(values, expected.values).item()


LENGTHS = st.lists(st.sampled_from([0, 1, 5, 255, 256, 300]), min_size=1, max_size=3)
STEP = st.one_of(
    st.tuples(st.just("write"), st.sampled_from([1, 2, 40, 260])),
    st.tuples(st.just("pad"), st.integers(2, 40)),
    st.tuples(st.just("trim"), st.integers(1, 4)),
    st.tuples(st.just("keep"), st.integers(0, 7)),
    st.tuples(st.just("extend"), LENGTHS),
)


@settings(max_examples=25)
@given(lengths=LENGTHS, steps=st.lists(STEP, max_size=6))
def test_rows_join_leave_and_are_cut_as_in_mlx_lms_own_batch(
    lengths: list[int], steps: list[tuple[str, Any]]
) -> None:
    pair = Pair(lengths)
    for what, how in steps:
        match what:
            case "write":
                pair.write(how)
            case "pad":
                pair.write(how, [index % how for index in range(pair.rows)])
            case "trim":
                # No row is cut to less than nothing.
                count = min(how, *(max(offset, 0) for offset in pair.expected.offset.tolist()))
                pair.both(methodcaller("trim", count))
            case "keep":
                kept = [row for row in range(pair.rows) if how & 1 << row] or [0]
                pair.both(methodcaller("filter", kept))
                pair.rows = len(kept)
            case "extend":
                other = Pair(how)
                pair.quantised.extend(other.quantised)
                pair.expected.extend(other.expected)
                pair.rows += other.rows
        pair.check()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize(
    "mask",
    [
        None,
        mx.arange(40)[None, None, None] >= mx.array([0, 9, 39])[:, None, None, None],
        mx.sin(mx.arange(240.0)).reshape(1, 6, 1, 40),
        mx.sin(mx.arange(40.0))[None],
    ],
    ids=["none", "padding", "of each head", "of all"],
)
def test_attention_over_packed_values_is_that_over_the_values_they_tell(
    dtype: mx.Dtype, mask: mx.array | None
) -> None:
    mx.random.seed(7)
    keys, values = (told(array.astype(dtype)) for array in some(3, 40))
    packed = [mx.quantize(array, group_size=SIZE, bits=BITS) for array in (keys, values)]
    queries = mx.random.normal((3, 3 * HEADS, 1, SIZE)).astype(dtype)
    if mask is not None and mask.dtype != mx.bool_:
        mask = mask.astype(dtype)
    got = attend(queries, *packed, scale=0.2, mask=mask, group_size=SIZE, bits=BITS)
    keys, values = (values_of(part) for part in packed)
    expected = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.2, mask=mask)
    assert got.dtype == dtype
    assert mx.allclose(got, expected, atol=2e-6 if dtype == mx.float32 else 5e-2).item()


def test_mlx_lm_reads_quantised_caches_with_the_function_that_is_replaced() -> None:
    loaded: Any = made({"model_type": "llama", **HEADS_OF_32})
    quantise_caches(loaded, 8)
    assert vars(base)[ATTENTION] is attend


@pytest.mark.parametrize(
    ("size", "bits", "ratio"),
    [(128, 8, 1.93), (64, 8, 1.88), (32, 8, 1.77), (128, 4, 3.5), (64, 4, 3.5), (32, 4, 3.2)],
)
def test_a_token_takes_about_a_half_or_a_quarter_of_what_16_bits_take(
    size: int, bits: int, ratio: float
) -> None:
    model = made({"model_type": "llama", **HEADS_OF_32, "head_dim": size})
    model.set_dtype(mx.float16)
    before = cache_cost(model).token
    quantise_caches(model, bits)
    assert before / cache_cost(model).token >= ratio


def test_answers_are_nearly_those_of_the_values_as_computed() -> None:
    model = made({"model_type": "llama", **HEADS_OF_32})
    tokens = mx.arange(60)[None]

    def logits() -> mx.array:
        caches = make_prompt_cache(model)
        model(tokens[:, :40], cache=caches)
        parts = [model(tokens[:, at : at + 1], cache=caches) for at in range(40, 60)]
        return mx.concatenate(parts, axis=1)

    def largest(values: mx.array) -> float:
        return float(mx.max(mx.abs(values)))

    expected, apart = logits(), {}
    quantise_caches(model, 8)
    apart[8] = largest(logits() - expected)
    model = made({"model_type": "llama", **HEADS_OF_32})
    quantise_caches(model, 4)
    apart[4] = largest(logits() - expected)
    spread = largest(expected)
    assert 0 < apart[8] < 0.01 * spread
    assert apart[8] < apart[4] < 0.1 * spread


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpt_oss", "its attention can't read a quantised KV cache"),
        ("gemma2", "its attention can't read a quantised KV cache"),
        ("mamba2", "none of its KV caches grows with every token"),
        ("llama", "its heads have 8 values, which 32 does not divide"),
    ],
)
def test_a_model_whose_cache_can_not_be_quantised_says_why(name: str, reason: str) -> None:
    config = {**ARCHITECTURES, **ONLY_HELD}[name]
    if name in ("gpt_oss", "gemma2"):
        config = {**config, "head_dim": SIZE}
    with pytest.raises(NotQuantisable, match=reason):
        quantise_caches(made({"model_type": name, "vocab_size": 64, **config}), 8)


def test_compressed_attention_is_refused() -> None:
    """Keys of all heads in one vector: what the cache holds are no keys and values."""
    config = {
        **HEADS_OF_8,
        **{"kv_lora_rank": 32, "q_lora_rank": 16, "v_head_dim": 32},
        **{"qk_rope_head_dim": 32, "qk_nope_head_dim": 32, "num_key_value_heads": 4},
        **{"vocab_size": 64, "moe_intermediate_size": 16, "n_routed_experts": None},
    }
    with pytest.raises(NotQuantisable, match="its attention can't read"):
        quantise_caches(made({"model_type": "deepseek_v3", **config}), 8)


def test_layers_that_do_not_grow_keep_their_caches() -> None:
    config = {**ARCHITECTURES["gemma3_text"], "head_dim": SIZE, "vocab_size": 64}
    model = made({"model_type": "gemma3_text", **config})
    before = [type(layer) for layer in make_prompt_cache(model)]
    quantise_caches(model, 4)
    after = [type(layer) for layer in make_prompt_cache(model)]
    assert after == [QuantisedCache if kind is KVCache else kind for kind in before]
    assert len(set(after)) == 2


def test_a_configured_model_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    with pytest.raises(ModelUnusable, match="its heads have 16 values") as caught:
        load(ModelSpec(id="small-heads", source=str(folder), kv_bits=8))
    assert caught.value.model == "small-heads"
    assert "kv_bits = 8" in caught.value.reason
