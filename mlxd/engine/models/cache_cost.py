"""How much memory the KV caches of a model's rows take, from their shapes alone."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

STRIDE = 1024
"""Tokens between two measurements of a KV cache."""
ROUNDED = 256
"""mlx-lm's caches grow by so many tokens at once."""
LONGEST = 2**40
"""Tokens; no prompt is longer, also where nothing grows with them."""


class Window(NamedTuple):
    """A layer that holds the last `size` tokens, of so many bytes each."""

    size: int
    token: int


class CacheCost(NamedTuple):
    """Bytes of a row: recurrent `state`, each `token` of layers that grow on, and `windows`."""

    state: int
    token: int
    windows: tuple[Window, ...] = ()

    def row(self, tokens: int) -> int:
        """Bytes of the caches of one row with so many tokens."""
        held = -(-tokens // ROUNDED) * ROUNDED
        # While a prompt is read, a window holds the piece that was read last besides.
        windows = sum(each.token * min(held, each.size + STRIDE) for each in self.windows)
        return self.state + self.token * held + windows

    def capacity(self, nbytes: int) -> int:
        """Tokens of the longest row that takes no more than so many bytes."""
        return max(bisect_right(range(LONGEST), nbytes, key=self.row) - 1, 0)


def cache_cost(model: Any) -> CacheCost:
    """Measure a model's caches. Nothing is computed: MLX knows shapes before values."""
    caches = make_prompt_cache(model)
    sizes: list[list[int]] = []
    for _ in range(3):
        model(mx.zeros((1, STRIDE), dtype=mx.int32), cache=caches)
        sizes.append([layer.nbytes for layer in _layers(caches)])
    state, token = 0, 0
    windows: list[Window] = []
    for layer, before, now in zip(_layers(caches), sizes[1], sizes[2], strict=True):
        if size := _window_of(layer):
            windows.append(Window(size, now // max(int(layer.keys.shape[2]), 1)))
            continue
        # A recurrent state does not grow at all.
        growth = max(now - before, 0) // STRIDE
        token += growth
        state += max(now - 3 * STRIDE * growth, 0)
    # What grows with no token would divide by zero elsewhere.
    return CacheCost(state, max(token, 1), tuple(windows))


def _layers(caches: list[Any]) -> Iterator[Any]:
    """Each cache of a model's layers; some layers have several."""
    for cache in caches:
        yield from _layers(list(inner)) if (inner := getattr(cache, "caches", None)) else (cache,)


def _window_of(layer: Any) -> int:
    """The tokens that a layer holds at most; 0 where it has no window."""
    size = getattr(layer, "max_size", None) or getattr(layer, "chunk_size", None)
    keys = getattr(layer, "keys", None)
    return int(size) if size and isinstance(keys, mx.array) and keys.ndim == 4 else 0
