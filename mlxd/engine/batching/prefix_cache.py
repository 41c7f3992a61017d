"""KV prefixes of earlier requests, so that no prompt is computed twice.

An entry is the KV cache of a token sequence. Entries belong to a scope (model and API key) and are
compared token by token, never by hash; a prompt takes the entry that it shares the longest usable
beginning with. Least recently used entries go first when the byte limit is reached.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from mlx_lm.models import cache as mlx_cache

from mlxd.engine.batching.sampling import async_eval

KVCache = list[Any]
"""mlx-lm's prompt cache: one cache object a layer."""

MIN_TOKENS = 4
"""A shorter prefix is not worth keeping."""
LOSSES = 1000
"""Scopes of which is remembered why they lost entries."""


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
        # What can't be cut, such as a recurrent state, serves as a whole or not at all.
        whole = len(self.tokens)
        return whole if common == whole <= limit else 0

    def cut(self, length: int) -> KVCache:
        """A copy of the cache that holds the first `length` tokens."""
        cache = copy.deepcopy(self.cache)
        excess = len(self.tokens) - length
        if excess:
            mlx_cache.trim_prompt_cache(cache, excess)
        return cache


class _Found(NamedTuple):
    """What serves a prompt: `cached` tokens of `entry`.

    `nearest` is the most tokens that it shares with any entry, -1 without one; `goes_on` says that
    these are all that the entry has.
    """

    cached: int
    entry: _Entry | None
    nearest: int
    goes_on: bool


class Prefixes:
    """The prefix cache of one engine process; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.hits = 0
        self.hit_tokens = 0
        self._entries: list[_Entry] = []
        # Why a scope has lost entries.
        self._losses: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def reach(self, scope: str, tokens: Sequence[int]) -> int:
        """How many tokens `find` would find, without taking them."""
        return self._search(scope, tokens).cached

    def find(self, scope: str, tokens: Sequence[int]) -> PrefixHit:
        """The longest usable prefix of `tokens`, at least one token short of the whole."""
        found = self._search(scope, tokens)
        note = self._why_not(scope, len(tokens), found)
        if found.entry is None:
            return PrefixHit(None, 0, note)
        self._touch(found.entry)
        self.hits += 1
        self.hit_tokens += found.cached
        return PrefixHit(found.entry.cut(found.cached), found.cached, note)

    def _search(self, scope: str, tokens: Sequence[int]) -> _Found:
        prompt = np.asarray(tokens, dtype=np.uint32)
        best, found, nearest, goes_on = 0, None, -1, False
        # Entries are few, as each is as large as a conversation: one comparison of arrays for each.
        for entry in self._entries:
            if entry.scope != scope:
                continue
            common = _common(entry.tokens, prompt)
            if common > nearest:
                nearest, goes_on = common, common == len(entry.tokens)
            length = entry.usable(common, len(tokens) - 1)
            if length > max(best, MIN_TOKENS - 1):
                best, found = length, entry
        return _Found(best, found, nearest, goes_on)

    def _why_not(self, scope: str, length: int, found: _Found) -> str:
        """Why not more of a prompt of so many tokens is known; empty when it could not be more."""
        lost = self._losses.get(scope, "")
        if found.nearest < 0:
            if lost:
                return f"earlier prompts {lost}"
            # A scope is a model and an owner.
            _, _, owner = scope.partition("\n")
            if any(entry.scope.partition("\n")[2] == owner for entry in self._entries):
                return "earlier prompts of this key were for another model"
            return "first prompt of this key"
        if found.cached >= length - 1 or (found.goes_on and found.cached == found.nearest):
            return ""
        others = f"; others {lost}" if lost else ""
        if found.cached < min(found.nearest, length - 1):
            return f"shares {found.nearest} tokens with a state that can't be cut{others}"
        return f"differs from the closest earlier prompt after token {found.nearest}{others}"

    def put(self, scope: str, tokens: Sequence[int], cache: KVCache) -> None:
        """Keep `cache`, which holds exactly `tokens`; entries that it covers are dropped for it."""
        # One token more or less, and what begins with it is answered wrongly, in silence.
        layers = [layer for layer in cache if type(layer) is mlx_cache.KVCache]
        assert all(layer.offset == len(tokens) for layer in layers)
        nbytes = sum(layer.nbytes for layer in cache)
        if len(tokens) < MIN_TOKENS or nbytes > self.limit:
            return
        key = np.asarray(tokens, dtype=np.uint32)
        new = _Entry(scope, key, cache, nbytes, mlx_cache.can_trim_prompt_cache(cache))
        # An agent's next prompt goes on from its last one, which would only take up memory.
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
            self._lose(self._entries[0], "were dropped to free memory")

    def forget(self, scope_prefix: str) -> None:
        """Drop every entry of the scopes that begin with `scope_prefix` (a model)."""
        for entry in [e for e in self._entries if e.scope.startswith(scope_prefix)]:
            self._lose(entry, "went when the model was unloaded")

    def _lose(self, entry: _Entry, why: str) -> None:
        self._drop(entry)
        self._losses[entry.scope] = why
        self._losses.move_to_end(entry.scope)
        if len(self._losses) > LOSSES:
            self._losses.popitem(last=False)

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
    async_eval([layer.state for layer in cache])


def _common(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> int:
    length = min(len(a), len(b))
    different = a[:length] != b[:length]
    first = int(different.argmax()) if length else 0
    return first if length and different[first] else length
