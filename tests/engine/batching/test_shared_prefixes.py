"""What prompts share is held once: hand-made caches whose values say of which tokens they are."""

import random
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from mlxd.engine.batching.block_tree import BLOCK
from mlxd.engine.batching.checkpoints import CHECKPOINTS
from mlxd.engine.batching.prefix_cache import CHECKPOINT_GAP, Prefixes
from mlxd.events import CacheNote

pytestmark = pytest.mark.mlx

LIMIT = 10**9
WINDOW = 48
HEAD = 4


def positions(tokens: Sequence[int]) -> mx.array:
    """Keys that say which token stands where."""
    row = mx.array(list(tokens), dtype=mx.float32).reshape(1, 1, len(tokens), 1)
    return mx.broadcast_to(row, (1, 1, len(tokens), HEAD))


def attention(tokens: Sequence[int]) -> KVCache:
    cache = KVCache()
    if tokens:
        cache.update_and_fetch(positions(tokens), -positions(tokens))
    return cache


def window(tokens: Sequence[int], size: int = WINDOW) -> RotatingKVCache:
    """A sliding window, filled as prefill and decode do: pieces, then one after the other."""
    cache = RotatingKVCache(max_size=size)
    one_by_one = min(len(tokens) // 3, size + 5)
    pieces = [tokens[: len(tokens) - one_by_one]]
    pieces += [[token] for token in tokens[len(tokens) - one_by_one :]]
    for piece in pieces:
        if piece:
            cache.update_and_fetch(positions(piece), -positions(piece))
    return cache


def state(tokens: Sequence[int]) -> ArraysCache:
    cache = ArraysCache(size=1)
    cache[0] = mx.array([[len(tokens), sum(tokens) % 1000]])
    return cache


SHAPES: dict[str, tuple[Any, ...]] = {
    "attention": (attention, attention),
    "windows": (attention, window, window),
    "only windows": (window,),
    "hybrid": (state, attention, state),
    "states": (state,),
    "all": (window, state, attention),
}


def cache_of(shape: str, tokens: Sequence[int]) -> list[Any]:
    return [make(list(tokens)) for make in SHAPES[shape]]


def contents(layer: Any) -> list[Any]:
    """What a layer's next token can see."""
    match layer:
        case ArraysCache():
            return [layer[0].tolist()]
        case RotatingKVCache():
            ordered = (layer._temporal_order(layer.keys), layer._temporal_order(layer.values))
            last = min(layer.offset, layer.max_size)
            return [layer.offset, *(array[..., -last:, :].tolist() for array in ordered)]
    keys, values = layer.keys_and_values()
    return [layer.offset, keys.tolist(), values.tolist()]


def assert_is_of(cache: list[Any], shape: str, tokens: Sequence[int]) -> None:
    expected = cache_of(shape, tokens)
    assert [contents(layer) for layer in cache] == [contents(layer) for layer in expected]


def numbers(count: int, start: int = 0) -> list[int]:
    return list(range(start, start + count))


def test_a_conversation_longer_than_the_limit_keeps_what_fits() -> None:
    each = sum(layer.nbytes for layer in [attention(numbers(BLOCK))]) // BLOCK
    prefixes = Prefixes(600 * each)
    found = []
    for length in (400, 502, 604, 706, 808):
        hit = prefixes.find("m\nkey", numbers(length))
        found.append(hit.cached)
        prefixes.put("m\nkey", numbers(length), [attention(numbers(length))])
    assert found == [0, 400, 502, 600, 600]
    words = "earlier prompts are longer than the prefix cache, which holds 600 tokens"
    assert hit.note == CacheNote("too_long", words)
    assert prefixes.nbytes == prefixes.limit


def test_a_first_prompt_longer_than_the_limit_keeps_what_fits() -> None:
    prefixes = Prefixes(600 * 32)
    prefixes.put("m\nkey", numbers(700), [attention(numbers(700))])
    hit = prefixes.find("m\nkey", numbers(800))
    assert hit.cached == 600
    assert hit.note is not None
    assert hit.note.reason == "too_long"


def test_what_cannot_be_cut_and_does_not_fit_is_never_called_a_first_prompt() -> None:
    prefixes = Prefixes(100)
    prefixes.put("m\nkey", numbers(50), cache_of("hybrid", numbers(50)))
    hit = prefixes.find("m\nkey", numbers(60))
    assert hit.cached == 0
    words = "earlier prompts are longer than the prefix cache, which holds 0 tokens"
    assert hit.note == CacheNote("too_long", words)


@pytest.mark.parametrize("shape", SHAPES)
def test_two_prompts_hold_once_what_they_share(shape: str) -> None:
    system, prefixes, alone = numbers(4000), Prefixes(LIMIT), Prefixes(LIMIT)
    alone.put("m", system, cache_of(shape, system))
    prefixes.put("m", system, cache_of(shape, system))
    for agent in (5000, 6000):
        prompt = system + numbers(10, agent)
        hit = prefixes.find("m", prompt)
        assert hit.cached == len(system)
        assert hit.cache is not None
        assert_is_of(hit.cache, shape, system)
        prefixes.put("m", prompt, cache_of(shape, prompt))
    assert len(prefixes) == 2
    rows = [sum(layer.nbytes for layer in cache_of(shape, numbers(10 + WINDOW)))] * 2
    assert prefixes.nbytes <= alone.nbytes + sum(rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_growing_conversation_takes_little_more_than_its_last_cache(shape: str) -> None:
    prefixes, talk, read = Prefixes(LIMIT), numbers(300), []
    for turn in range(20):
        hit = prefixes.find("m", [*talk, -1 % 2**32])
        read.append(len(talk) - hit.cached)
        if hit.cache is not None:
            assert_is_of(hit.cache, shape, talk[: hit.cached])
        prefixes.put("m", talk, cache_of(shape, talk))
        talk = talk + numbers(100, 1000 * turn + 300)
        prefixes.put("m", talk, cache_of(shape, talk), answered=True)
        talk = talk + numbers(300, 1000 * turn + 400)
    last = cache_of(shape, talk[:-300])
    states = sum(layer.nbytes for layer in last if isinstance(layer, ArraysCache))
    once = sum(min(layer.nbytes, _needed(layer)) for layer in last)
    # The end of the system prompt has windows of its own.
    windows = sum(_needed(layer) for layer in last if isinstance(layer, RotatingKVCache))
    assert prefixes.nbytes <= 1.3 * once + windows + CHECKPOINTS * states
    assert read == [300] * 20


def _needed(layer: Any) -> int:
    """Bytes of what a cache holds, without what it has room for."""
    held = min(layer.offset, getattr(layer, "max_size", layer.offset)) if _grows(layer) else 0
    return held * 8 * HEAD if held else int(layer.nbytes)


def _grows(layer: Any) -> bool:
    return isinstance(layer, KVCache | RotatingKVCache)


def test_checkpoints_right_behind_one_another_are_kept_once() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", numbers(500), cache_of("hybrid", numbers(500)))
    before = prefixes.nbytes
    close = numbers(500 + CHECKPOINT_GAP - 1)
    prefixes.put("m", close, cache_of("hybrid", close))
    grown = prefixes.nbytes - before
    assert grown == (CHECKPOINT_GAP - 1) * 8 * HEAD, "tokens, and no other state"
    prefixes.put("m", close, cache_of("hybrid", close), answered=True)
    assert prefixes.find("m", [*close, 7]).cached == len(close), "an answer's end always is one"


def test_a_window_that_is_there_for_it_serves_any_position() -> None:
    prefixes = Prefixes(LIMIT)
    for length in (1000, 1000 + WINDOW - 8, 1000 + 2 * WINDOW - 16):
        talk = numbers(length)
        prefixes.put("m", talk, cache_of("windows", talk), answered=True)
    for shared in (1000 + 2 * WINDOW - 30, 1003):
        hit = prefixes.find("m", [*numbers(shared), 9999])
        assert hit.cached == shared
        assert hit.cache is not None
        assert_is_of(hit.cache, "windows", numbers(shared))


def test_what_was_used_again_outlives_prompts_that_are_read_once() -> None:
    prefixes = Prefixes(40 * 100 * 32)
    talk = numbers(2000)
    prefixes.put("m", talk, [attention(talk)], answered=True)
    prefixes.find("m", [*talk, 1])
    talk = talk + numbers(400, 5000)
    prefixes.put("m", talk, [attention(talk)], answered=True)
    for title in range(50):
        prompt = numbers(100, 10_000 + 1000 * title)
        prefixes.find("m", prompt)
        prefixes.put("m", prompt, [attention(prompt)])
        assert prefixes.nbytes <= prefixes.limit
    assert prefixes.find("m", [*talk, 1]).cached == len(talk)


@pytest.mark.parametrize("size", [WINDOW, 500, 900, 5000])
@pytest.mark.parametrize("others", [1, 5])
def test_another_conversation_reads_nothing_of_a_system_prompt(size: int, others: int) -> None:
    def cache(tokens: list[int]) -> list[Any]:
        return [attention(tokens), *(window(tokens, size) for _ in range(others))]

    prefixes, system = Prefixes(LIMIT), numbers(700)
    prefixes.put("m", system, cache(system))
    talk = system
    for turn in range(6):
        talk = talk + numbers(300, 10_000 * (turn + 1))
        prefixes.put("m", talk, cache(talk))
        talk = talk + numbers(70, 10_000 * (turn + 1) + 500)
        prefixes.put("m", talk, cache(talk), answered=True)
        assert prefixes.reach("m", [*system, 9999]) == len(system)
        assert prefixes.reach("m", [*talk, 9999]) == len(talk)
    held = min(size, len(talk)) + min(size, len(system))
    assert prefixes.nbytes <= 1.3 * (len(talk) + others * held) * 8 * HEAD


class Mix:
    """What an agent asks, of caches of one shape."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self.prefixes = Prefixes(LIMIT)

    def ask(self, system: list[int], talk: list[int], words: int) -> tuple[int, list[int]]:
        """A request that goes on from `talk`: what of it is known, and all with its answer."""
        prompt = (talk or system) + numbers(60, words)
        cached = self.prefixes.find("m", prompt).cached
        # What can be cut anywhere is kept at its end.
        for tokens in (system, prompt) if self._shape != "attention" else ():
            self._put(tokens)
        whole = prompt + numbers(30, words + 60)
        self._put(whole, answered=True)
        return cached, whole

    def _put(self, tokens: list[int], *, answered: bool = False) -> None:
        self.prefixes.put("m", tokens, cache_of(self._shape, tokens), answered=answered)
        assert self.prefixes.nbytes <= self.prefixes.limit


@pytest.mark.parametrize("shape", ["attention", "hybrid", "windows"])
def test_a_conversation_outlives_all_that_an_agent_asks_beside_it(shape: str) -> None:
    rng, mix, main = random.Random(shape), Mix(shape), list[int]()
    for turn in range(6):
        _, main = mix.ask(numbers(600), main, 10_000 + 1000 * turn)
    # Room for as much as it takes itself, of which a sub-agent takes the half.
    mix.prefixes.limit = 2 * mix.prefixes.nbytes
    for number in range(10 if shape == "windows" else 30):
        # Titles, whose prompts begin alike, and a sub-agent, of which some have their own prompt.
        for title in range(rng.randrange(4)):
            mix.ask(numbers(90, 5000), [], 100_000 + 1000 * number + 200 * title)
        system, beside = numbers(300, rng.choice([20_000, 200_000 + 1000 * number])), list[int]()
        for turn in range(rng.choice([1, 2, 3])):
            _, beside = mix.ask(system, beside, 300_000 + 10_000 * number + 1000 * turn)
    cached, _ = mix.ask(numbers(600), main, 50_000)
    assert cached == len(main)


def test_two_new_conversations_drive_one_out_that_is_over() -> None:
    mix, old, read = Mix("attention"), list[int](), list[int]()
    for turn in range(12):
        _, old = mix.ask(numbers(600), old, 10_000 + 1000 * turn)
    # Room for both of them, and not for it too.
    mix.prefixes.limit = 64 * (2 * (500 + 12 * 90) + len(old) // 2)
    talks: dict[int, list[int]] = {100_000: [], 200_000: []}
    for turn in range(12):
        for start, talk in talks.items():
            cached, talks[start] = mix.ask(numbers(500, start), talk, start + 1000 * (turn + 1))
            read.append(len(talks[start]) - 30 - cached)
    # Once or twice a part of them goes first; what is asked for again then is as dear.
    assert sum(read[2:]) <= 22 * 60 + 1000
    assert read[-6:] == [60] * 6


def test_a_new_conversation_gets_in_where_all_others_were_used_again() -> None:
    prefixes = Prefixes(1000 * 32)
    old, new = numbers(900), numbers(900, 5000)
    prefixes.put("m", old, [attention(old)])
    prefixes.find("m", [*old, 1])
    prefixes.put("m", new, [attention(new)])
    assert prefixes.find("m", [*new, 1]).cached == 900


def test_quantized_and_combined_caches_are_cut_like_others() -> None:
    tokens = numbers(300)
    pair = CacheList(attention(tokens), QuantizedKVCache(group_size=32, bits=8))
    keys = mx.random.normal((1, 2, 300, 32))
    pair[1].update_and_fetch(keys, keys)
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens, [pair])
    hit = prefixes.find("m", numbers(150))
    assert hit.cache is not None
    plain, packed = hit.cache[0].caches
    assert contents(plain) == contents(attention(numbers(149)))
    assert packed.offset == hit.cached == 149
    expected = [part[..., :149, :].tolist() for part in pair[1].keys]
    assert [part.tolist() for part in packed.keys_and_values()[0]] == expected


def test_a_class_that_is_not_known_serves_whole_or_not_at_all() -> None:
    tokens, unknown = numbers(100), RotatingKVCache(max_size=64, keep=4)
    unknown.update_and_fetch(positions(tokens), positions(tokens))
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens, [attention(tokens), unknown])
    assert prefixes.find("m", numbers(90)).cached == 0
    hit = prefixes.find("m", numbers(120))
    assert hit.cached == 100
    assert hit.cache is not None
    assert hit.cache[1].offset == 100


def test_taking_a_prefix_does_not_change_it() -> None:
    prefixes, tokens = Prefixes(LIMIT), numbers(200)
    prefixes.put("m", tokens, cache_of("all", tokens))
    for _ in range(2):
        hit = prefixes.find("m", [*tokens, 1])
        assert hit.cache is not None
        assert_is_of(hit.cache, "all", tokens)
        for layer in hit.cache:
            if isinstance(layer, ArraysCache):
                layer[0] = layer[0] + 1
            else:
                layer.update_and_fetch(positions([5, 6, 7]), positions([5, 6, 7]))


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_whatever_was_kept_and_dropped_what_is_found_is_of_these_tokens(
    shape: str, seed: int
) -> None:
    rng = random.Random(seed)
    whole = sum(layer.nbytes for layer in cache_of(shape, numbers(BLOCK)))
    prefixes, talks = Prefixes(rng.choice([whole // 2, 3 * whole, LIMIT])), [[1, 2, 3]]
    for _ in range(12):
        base = rng.choice(talks)
        kept = base[: rng.randrange(len(base) + 1)] if rng.random() < 0.4 else base
        talk = kept + [rng.randrange(3) for _ in range(rng.choice([1, 5, 80, 300]))]
        hit = prefixes.find("m", talk)
        assert hit.cached < len(talk)
        assert prefixes.reach("m", talk) in (hit.cached, 1, 2, 3)
        if hit.cache is not None:
            assert_is_of(hit.cache, shape, talk[: hit.cached])
        prefixes.put("m", talk, cache_of(shape, talk), answered=rng.random() < 0.5)
        assert prefixes.nbytes <= prefixes.limit
        if rng.random() < 0.1:
            prefixes.shrink(rng.randrange(prefixes.limit))
        talks.append(talk)
    prefixes.shrink(0)
    assert (prefixes.nbytes, len(prefixes)) == (0, 0)
