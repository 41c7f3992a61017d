"""KV prefixes of earlier requests, so that no prompt is computed twice.

An entry is the KV cache of a token sequence. Entries belong to a scope (model and API key) and are
compared token by token, never by hash; a prompt takes the entry that it shares the longest usable
beginning with. Least recently used entries go first when the byte limit is reached.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

KVCache = list[Any]
"""mlx-lm's prompt cache: one cache object a layer."""

MIN_TOKENS = 4
"""A shorter prefix is not worth keeping."""


_async_eval: Callable[..., None] = mx.async_eval


@dataclass(frozen=True)
class PrefixHit:
    """`cached` tokens of the prompt are in `cache`; `note` says in words why not more."""

    cache: KVCache | None
    cached: int
    note: str


@dataclass(frozen=True, eq=False)
class _Entry:
    scope: str
    tokens: np.ndarray[Any, np.dtype[np.uint32]]
    cache: KVCache
    nbytes: int
    trimmable: bool

    def usable(self, common: int, limit: int) -> int:
        """How many tokens of this entry serve a prompt that shares `common` tokens with it."""
        if self.trimmable:
            return min(common, limit)
        whole = len(self.tokens)
        return whole if common == whole <= limit else 0

    def cut(self, length: int) -> KVCache:
        """A copy of the cache that holds the first `length` tokens."""
        cache = copy.deepcopy(self.cache)
        excess = len(self.tokens) - length
        if excess:
            trim_prompt_cache(cache, excess)
        return cache


class Prefixes:
    """The prefix cache of one engine process; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.hits = 0
        self.hit_tokens = 0
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def reach(self, scope: str, tokens: Sequence[int]) -> int:
        """How many tokens `find` would find, without taking them."""
        return self._search(scope, tokens)[0]

    def find(self, scope: str, tokens: Sequence[int]) -> PrefixHit:
        """The longest usable prefix of `tokens`, at least one token short of the whole."""
        cached, found, nearest = self._search(scope, tokens)
        if found is None:
            return PrefixHit(None, 0, _why_not(nearest))
        self._touch(found)
        self.hits += 1
        self.hit_tokens += cached
        return PrefixHit(found.cut(cached), cached, _why_not(nearest))

    def _search(self, scope: str, tokens: Sequence[int]) -> tuple[int, _Entry | None, int]:
        """(usable tokens, the entry that has them, most tokens shared with any entry or -1)."""
        prompt = np.asarray(tokens, dtype=np.uint32)
        best, found, nearest = 0, None, -1
        for entry in self._entries:
            if entry.scope != scope:
                continue
            common = _common(entry.tokens, prompt)
            nearest = max(nearest, common)
            length = entry.usable(common, len(tokens) - 1)
            if length > max(best, MIN_TOKENS - 1):
                best, found = length, entry
        return best, found, nearest

    def put(self, scope: str, tokens: Sequence[int], cache: KVCache) -> None:
        """Keep `cache`, which holds exactly `tokens`; entries that it covers are dropped for it."""
        nbytes = sum(layer.nbytes for layer in cache)
        if len(tokens) < MIN_TOKENS or nbytes > self.limit:
            return
        key = np.asarray(tokens, dtype=np.uint32)
        new = _Entry(scope, key, cache, nbytes, can_trim_prompt_cache(cache))
        for entry in [entry for entry in self._entries if entry.scope == scope]:
            common = _common(entry.tokens, key)
            if entry.usable(common, len(key)) == len(key):
                self._touch(entry)
                return
            if new.usable(common, len(entry.tokens)) == len(entry.tokens):
                self._drop(entry)
        _detach(cache)
        self._entries.append(new)
        self.nbytes += nbytes
        self.shrink(self.limit)

    def shrink(self, nbytes: int) -> None:
        """Drop least recently used entries until at most `nbytes` are held."""
        while self._entries and self.nbytes > nbytes:
            self._drop(self._entries[0])

    def forget(self, scope_prefix: str) -> None:
        """Drop every entry of the scopes that begin with `scope_prefix` (a model)."""
        for entry in [e for e in self._entries if e.scope.startswith(scope_prefix)]:
            self._drop(entry)

    def _touch(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self._entries.append(entry)

    def _drop(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self.nbytes -= entry.nbytes


def _detach(cache: KVCache) -> None:
    """Let `cache` hold its own memory only.

    What was cut out of a batch is a view, or not computed yet: both hold the whole batch's memory.
    """
    for layer in cache:
        layer.state = tree_map(
            lambda leaf: mx.contiguous(leaf) if isinstance(leaf, mx.array) else leaf, layer.state
        )
    _async_eval([layer.state for layer in cache])


def _common(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> int:
    length = min(len(a), len(b))
    different = a[:length] != b[:length]
    first = int(different.argmax()) if length else 0
    return first if length and different[first] else length


def _why_not(nearest: int) -> str:
    if nearest < 0:
        return "no earlier prompt of this key is in memory"
    return f"shares {nearest} tokens with the nearest earlier prompt"
