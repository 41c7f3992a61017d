"""Models with sliding windows and recurrent layers: batches and prefixes must not change them."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from mlx_lm.models.cache import KVCache, make_prompt_cache

from mlxd.engine.batching.cache_layers import ComputedCache
from mlxd.engine.batching.checkpoints import CHECKPOINTS
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.batching.row_trial import RowAbility, try_rows
from mlxd.engine.models.cache_cost import cache_cost
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.protocol import ModelSpec
from mlxd.messages import Sampling
from tests.engine.batching.test_batch import Bench, Got, Wanted, endless
from tests.engine.batching.test_stored_prefixes import Run
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

VOCABULARY = 304
"""Tokens of the tiny model."""
ATTENTION: Mapping[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}
RECURRENT: Mapping[str, object] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "state_size": 16,
    "num_hidden_layers": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 4,
}
ARCHITECTURES: Mapping[str, Mapping[str, object]] = {
    "gemma3_text": {
        **ATTENTION,
        "sliding_window": 24,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 8,
    },
    "gpt_oss": {
        **ATTENTION,
        "sliding_window": 24,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "qwen3_next": {
        **ATTENTION,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "linear_conv_kernel_dim": 4,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 32,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
        "partial_rotary_factor": 0.5,
        "full_attention_interval": 3,
    },
    "falcon_h1": {
        **ATTENTION,
        "mamba_d_conv": 4,
        "mamba_d_state": 16,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_ssm": 32,
        "mamba_n_groups": 1,
    },
    "llama4": {
        "text_config": {
            **ATTENTION,
            "model_type": "llama4_text",
            "vocab_size": VOCABULARY,
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 48,
            "attention_bias": False,
            "attention_chunk_size": 32,
            "attn_scale": 0.1,
            "attn_temperature_tuning": 0,
            "floor_scale": 8192,
            "hidden_act": "silu",
            "interleave_moe_layer_step": 1,
            "num_experts_per_tok": 1,
            "num_local_experts": 2,
            "rope_scaling": None,
            "use_qk_norm": True,
        },
    },
    # Its mask fits two rows by chance, where there are two heads for keys.
    "gemma2": {**ATTENTION, "query_pre_attn_scalar": 8},
    "gpt_bigcode": {
        "n_embd": 32,
        "n_layer": 2,
        "n_inner": 48,
        "n_head": 4,
        "n_positions": 4096,
        "layer_norm_epsilon": 1e-5,
    },
    "mamba": RECURRENT,
    "mamba2": {
        **RECURRENT,
        "num_heads": 4,
        "head_dim": 16,
        "layer_norm_epsilon": 1e-5,
        "n_groups": 1,
        "tie_word_embeddings": True,
        "time_step_limit": (0.0, float("inf")),
    },
}

ONLY_HELD: Mapping[str, Mapping[str, object]] = {
    "llama": ATTENTION,
    "granitemoehybrid": {
        **ATTENTION,
        **dict.fromkeys(("embedding_multiplier", "attention_multiplier"), 1.0),
        **dict.fromkeys(("logits_scaling", "residual_multiplier"), 1.0),
        **dict.fromkeys(("attention_bias", "mamba_proj_bias", "mlp_bias"), False),
        "tie_word_embeddings": True,
        "layer_types": ["mamba", "attention", "mamba"],
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_n_groups": 1,
        "mamba_conv_bias": True,
        "position_embedding_type": "nope",
        "time_step_limit": (0.0, float("inf")),
        "num_local_experts": 0,
    },
    "lfm2": {
        **ATTENTION,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 48,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1],
    },
}
"""Models whose caches are of kinds that others have, in other mixtures."""


ALONE = ("gemma2", "llama4", "gpt_bigcode")
SAYS_7 = Sampling(temperature=0, logit_bias={7: 1000.0})
"""Answers of which the tokens are known."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(ModelSpec(id="tiny", source=str(make_tiny_model(tmp_path_factory.mktemp("tiny")))))


def made(config: dict[str, Any]) -> Any:
    """A model of random float32 weights."""
    mx.random.seed(3)
    module = import_module(f"mlx_lm.models.{config['model_type']}")
    model = module.Model(module.ModelArgs.from_dict(config))
    model.set_dtype(mx.float32)
    return model


Served = Callable[[str], tuple[LoadedModel, RowAbility]]


@pytest.fixture(scope="module")
def served(tiny: LoadedModel) -> Served:
    """A model of each architecture, made once, and how its rows can be served."""

    @cache
    def make(name: str) -> tuple[LoadedModel, RowAbility]:
        loaded = with_architecture(name, tiny)
        return loaded, try_rows(loaded.model, loaded.vocab_size)

    return make


def with_architecture(name: str, tiny: LoadedModel) -> LoadedModel:
    """The tiny model's tokenizer with random weights of another architecture."""
    config = {**ARCHITECTURES, **ONLY_HELD}[name]
    model = made({"model_type": name, "vocab_size": tiny.vocab_size, **config})
    # Small random weights would make all prompts alike.
    model.update(tree_map(lambda p: p * 3.0 if p.ndim > 1 else p, model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return replace(tiny, model=model, cache_cost=cache_cost(model))


def some_prompts(rng: random.Random, vocabulary: int) -> list[Wanted]:
    """Prompts of one system prompt and what follows; some begin with another one whole."""
    system = [rng.randrange(vocabulary) for _ in range(90)]
    wanted: list[Wanted] = []
    for _ in range(9):
        shared = rng.choice([0, 10, 30, 70, 90])
        tokens = system[:shared]
        if wanted and rng.random() < 0.3:
            tokens = list(rng.choice(wanted).tokens)
        boundary = len(tokens)
        tokens = tokens + [rng.randrange(vocabulary) for _ in range(rng.choice([1, 2, 7, 30]))]
        boundaries = (boundary,) if boundary else ()
        wanted.append(Wanted(tuple(tokens), rng.choice([1, 4, 20]), boundaries=boundaries))
    return wanted


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batches_and_prefixes_do_not_change_the_answer(
    name: str, tiny: LoadedModel, served: Served
) -> None:
    loaded, ability = served(name)
    cached = 0
    rng = random.Random(0)
    wanted = [
        Wanted(item.tokens, item.max_tokens, endless(tiny), 0, boundaries=item.boundaries)
        for item in some_prompts(rng, tiny.vocab_size)
    ]
    bench = Bench(loaded, prefixes=Prefixes(10**9), ability=ability)
    left = list(range(len(wanted)))
    while left or bench.scheduler.busy:
        while left and (rng.random() < 0.4 or not bench.scheduler.busy):
            bench.submit(left[0], wanted[left[0]])
            left.pop(0)
        bench.step()
    for number, item in enumerate(wanted):
        alone = Bench(loaded, ability=ability)
        alone.submit(0, item)
        expected, got = alone.run()[0], bench.got[number]
        assert got.text == expected.text, f"row {number}"
        assert [entry.logprob for entry in got.logprobs] == pytest.approx(
            [entry.logprob for entry in expected.logprobs], abs=1e-3
        )
        cached += got.cached
    assert cached > 50


@pytest.mark.parametrize("name", [*ARCHITECTURES, *ONLY_HELD])
def test_a_growing_conversation_is_read_once_and_held_once(name: str, served: Served) -> None:
    loaded, ability = served(name)
    prefixes, rng = Prefixes(10**9), random.Random(3)

    def some(count: int) -> list[int]:
        return [rng.randrange(290) for _ in range(count)]

    def ask(tokens: list[int], *, known: Prefixes | None) -> Got:
        bench = Bench(loaded, prefixes=known, ability=ability)
        bench.submit(0, Wanted(tuple(tokens), 6, SAYS_7, 2, boundaries=(len(system),)))
        return bench.run()[0]

    system = some(90)
    talk, read = system + some(50), []
    for _ in range(8):
        got = ask(talk, known=prefixes)
        read.append(len(talk) - got.cached)
        talk = [*talk, *[7] * 6, *some(50)]
    assert read == [140] + [50] * 7
    last = cache_of(loaded, talk[:-50])
    states = last.state.nbytes if last.has_state else 0
    assert prefixes.nbytes <= 1.3 * (last.nbytes - states) + CHECKPOINTS * states
    # Another one begins with the same system prompt.
    prompt = system + some(130)
    got = ask(prompt, known=prefixes)
    assert got.cached == 90
    assert got.output == ask(prompt, known=None).output, "bit for bit"
    # Two more have in common what nothing was kept behind; the second one finds it.
    whole = not all(isinstance(layer, KVCache) for layer in make_prompt_cache(loaded.model))
    for cached in (90 if whole else 180, 180):
        talk = prompt[:180] + some(20)
        assert ask(talk, known=prefixes).cached == cached


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_oss", "qwen3_next", "mamba2"])
def test_from_the_disk_an_answer_is_what_it_is_from_memory(
    name: str, served: Served, tmp_path: Path
) -> None:
    loaded, ability = served(name)
    rng, scope = random.Random(name), "tiny\n"
    talk = [rng.randrange(290) for _ in range(330)]
    more = [*talk, *[7] * 6, *(rng.randrange(290) for _ in range(30))]

    def ask(run: Run, tokens: list[int]) -> Got:
        bench = Bench(loaded, prefixes=run.prefixes, ability=ability)
        bench.submit(0, Wanted(tuple(tokens), 6, SAYS_7, 3, boundaries=(300,)))
        return bench.run()[0]

    def started() -> Run:
        return Run(tmp_path, make_prompt_cache(loaded.model), model="tiny")

    first = started()
    ask(first, talk)
    first.prefixes.save_within(60)
    from_memory = ask(first, more)
    first.disk.close()
    again = started()
    assert again.find(more, scope) == len(talk) + 6
    from_disk = ask(again, more)
    again.end()
    assert from_disk.cached == from_memory.cached == len(talk) + 6
    assert from_disk.output == from_memory.output, "bit for bit"


def cache_of(loaded: LoadedModel, tokens: list[int]) -> ComputedCache:
    layers = make_prompt_cache(loaded.model)
    loaded.model(mx.array([tokens]), cache=layers)
    return ComputedCache(layers, len(tokens))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_padding_is_known_to_be_harmless_or_not(name: str, served: Served) -> None:
    if name not in ALONE:
        _, ability = served(name)
        assert ability == RowAbility(padded=name != "mamba")


@pytest.mark.parametrize("name", ALONE)
def test_what_can_not_be_batched_is_served_one_row_at_a_time(name: str, served: Served) -> None:
    _, ability = served(name)
    assert (ability.together, ability.reused, bool(ability.reason)) == (False, True, True)


def test_a_state_that_does_not_grow_leaves_room_for_any_prompt(served: Served) -> None:
    loaded, _ = served("mamba2")
    assert loaded.cache_cost.capacity(2**40) > 10**9


@pytest.mark.parametrize("name", ["gemma3_text", "qwen3_next", "mamba2", "llama"])
def test_rows_never_take_more_memory_than_they_may(name: str, served: Served) -> None:
    loaded, ability = served(name)
    rng = random.Random(5)
    prefixes = Prefixes(10**9)
    bench = Bench(loaded, prefixes=prefixes, ability=ability)
    bench.batch.kv_bytes = limit = 3 * loaded.cache_cost.row(300)
    together = 0
    for number in range(12):
        tokens = tuple(rng.randrange(290) for _ in range(rng.choice([5, 40, 280])))
        bench.submit(number, Wanted(tokens, rng.choice([1, 6, 20]), SAYS_7))
    while bench.scheduler.busy:
        bench.step()
        assert bench.batch.active_bytes <= limit
        together = max(together, len(bench.scheduler.ids))
    assert together > 1
    # What a row will take is taken from what prefixes may, before it begins.
    prefixes.allow(limit, None)
    assert prefixes.nbytes > 0
    bench.submit(12, Wanted(tuple([3] * 2800), 1, SAYS_7))
    bench.step()
    assert prefixes.nbytes <= max(limit - loaded.cache_cost.row(2800), 0)
