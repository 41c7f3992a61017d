"""The prefix cache with hand-made KV caches."""

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, KVCache

from mlxd.engine.batching.prefix_cache import MIN_TOKENS, Prefixes
from mlxd.events import CacheNote

pytestmark = pytest.mark.mlx

LIMIT = 10**9


def kv(length: int) -> list[Any]:
    """A one-layer cache whose keys say which position they are."""
    cache = KVCache()
    positions = mx.arange(length, dtype=mx.float32).reshape(1, 1, length, 1)
    cache.keys, cache.values, cache.offset = positions, positions, length
    return [cache]


def state(length: int) -> list[Any]:
    """A cache that can't be cut, like that of a recurrent layer."""
    cache = ArraysCache(size=1)
    cache[0] = mx.ones((1, length))
    return [cache]


def tokens(length: int, start: int = 0) -> list[int]:
    return list(range(start, start + length))


def test_an_exact_repeat_leaves_one_token_to_compute() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(100), kv(100))
    hit = prefixes.find("m", tokens(100))
    assert hit.cached == 99
    assert hit.cache is not None
    assert hit.cache[0].offset == 99


def test_a_shared_beginning_is_found_in_a_longer_entry() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(100), kv(100))
    hit = prefixes.find("m", [*tokens(60), *tokens(40, 500)])
    assert hit.cached == 60
    words = "differs from the closest earlier prompt after token 60"
    assert hit.note == CacheNote("differs", words)


def test_the_note_says_why_not_more_of_a_prompt_is_known() -> None:
    prefixes = Prefixes(LIMIT)

    def note(scope: str, ids: list[int]) -> tuple[str, str] | None:
        found = prefixes.find(scope, ids).note
        return None if found is None else (found.reason, found.words)

    assert note("m\nkey", tokens(100)) == ("first_prompt", "first prompt of this key")
    prefixes.put("m\nkey", tokens(100), kv(100))
    assert note("m\nkey", tokens(100)) is None, "all of it is known"
    assert note("m\nkey", tokens(150)) is None, "the rest is new"
    other = ("other_model", "earlier prompts of this key were for another model")
    assert note("other\nkey", tokens(100)) == other
    prefixes.shrink(0)
    evicted = ("evicted", "earlier prompts were dropped to free memory")
    assert note("m\nkey", tokens(9)) == evicted
    prefixes.put("m\nkey", tokens(50, 500), kv(50))
    words = "differs from the closest earlier prompt after token 0"
    lost = "; others were dropped to free memory"
    assert note("m\nkey", tokens(100)) == ("differs", words + lost)
    prefixes.forget("m\n")
    unloaded = ("unloaded", "earlier prompts went when the model was unloaded")
    assert note("m\nkey", tokens(100)) == unloaded


def test_the_note_tells_of_a_state_that_cannot_be_cut() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m\n", tokens(50), state(50))
    hit = prefixes.find("m\n", [*tokens(40), *tokens(40, 500)])
    assert hit.cached == 0
    assert hit.note == CacheNote("not_cut", "shares 40 tokens with a state that can't be cut")


def test_the_longest_of_several_entries_wins() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", [*tokens(50), *tokens(50, 700)], kv(100))
    prefixes.put("m", [*tokens(80), *tokens(20, 900)], kv(100))
    assert prefixes.find("m", tokens(200)).cached == 80


def test_asking_how_far_a_prefix_reaches_counts_as_no_hit() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(100), kv(100))
    assert prefixes.reach("m", tokens(100)) == 99
    assert prefixes.hits == 0


def test_taking_an_entry_does_not_change_it() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(100), kv(100))
    first = prefixes.find("m", tokens(30))
    assert first.cache is not None
    first.cache[0].update_and_fetch(mx.zeros((1, 1, 5, 1)), mx.zeros((1, 1, 5, 1)))
    again = prefixes.find("m", tokens(100))
    assert again.cache is not None
    assert again.cache[0].keys.reshape(-1)[:99].tolist() == [float(n) for n in range(99)]


def test_scopes_never_meet() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m\nalice", tokens(100), kv(100))
    assert prefixes.find("m\nbob", tokens(100)).cached == 0
    assert prefixes.find("m\nalice", tokens(100)).cached == 99


def test_a_cache_that_cannot_be_cut_serves_whole_or_not_at_all() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(50), state(50))
    assert prefixes.find("m", tokens(49)).cached == 0
    assert prefixes.find("m", tokens(50)).cached == 0
    assert prefixes.find("m", tokens(51)).cached == 50


def test_an_extended_entry_replaces_the_shorter_one() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(50), kv(50))
    prefixes.put("m", tokens(80), kv(80))
    prefixes.put("m", tokens(60), kv(60))
    assert len(prefixes) == 1
    assert prefixes.nbytes == 80 * 8


def test_checkpoints_that_cannot_be_cut_stay_one_behind_the_other() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(50), state(50))
    prefixes.put("m", tokens(180), state(180))
    assert prefixes.find("m", tokens(90)).cached == 50
    assert prefixes.find("m", tokens(190)).cached == 180


def test_the_least_recently_used_entry_goes_first() -> None:
    prefixes = Prefixes(3 * 100 * 8)
    for start in (0, 1000, 2000):
        prefixes.put("m", tokens(100, start), kv(100))
    prefixes.find("m", tokens(100, 0))
    prefixes.put("m", tokens(100, 3000), kv(100))
    assert prefixes.nbytes <= prefixes.limit
    assert prefixes.find("m", tokens(100, 1000)).cached == 0
    assert prefixes.find("m", tokens(100, 0)).cached == 99


def test_shrink_and_forget_account_for_every_byte() -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("a\n", tokens(100), kv(100))
    prefixes.put("b\n", tokens(100), kv(100))
    prefixes.forget("a\n")
    assert (len(prefixes), prefixes.nbytes) == (1, 800)
    prefixes.shrink(0)
    assert (len(prefixes), prefixes.nbytes) == (0, 0)


@pytest.mark.parametrize("length", [1, MIN_TOKENS - 1])
def test_tiny_prefixes_are_not_kept(length: int) -> None:
    prefixes = Prefixes(LIMIT)
    prefixes.put("m", tokens(length), kv(length))
    assert len(prefixes) == 0


def test_a_limit_of_zero_keeps_nothing() -> None:
    prefixes = Prefixes(0)
    prefixes.put("m", tokens(100), kv(100))
    assert len(prefixes) == 0


def test_an_entry_holds_its_own_memory_and_not_that_of_the_batch_it_is_from() -> None:
    prefixes, before = Prefixes(LIMIT), mx.get_active_memory()
    for begin in range(0, 80, 10):
        attention, recurrent = KVCache(), ArraysCache(size=1)
        batch = mx.ones((64, 2, 512, 8))
        mx.eval(batch)
        attention.keys = attention.values = mx.contiguous(batch[3:4, :, :10])
        attention.offset = 10
        recurrent[0] = batch[3:4, 0]
        prefixes.put("m", tokens(10, begin), [attention, recurrent])
        del batch, attention, recurrent
    mx.synchronize()
    mx.clear_cache()
    assert len(prefixes) == 8
    assert mx.get_active_memory() - before < 2 * prefixes.nbytes
