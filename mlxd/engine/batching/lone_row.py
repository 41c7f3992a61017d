"""KV caches for models that are served one row at a time.

mlx-lm's generator merges the caches of all rows, and some can't be merged, or not rightly. These
are a row's own caches, which behave as a batch of one.
"""

import copy
from collections.abc import Hashable
from functools import cache
from typing import Any, cast

from mlx_lm.models.cache import KVCache, QuantizedKVCache, RotatingKVCache, make_prompt_cache

CUTTABLE = (KVCache, QuantizedKVCache, RotatingKVCache)
"""Caches whose end can be cut off at any place where they say so."""


def lone_caches(model: Any) -> list[Any]:
    """Empty caches for one row, one a layer."""
    layers: list[Any] = make_prompt_cache(model)
    for layer in layers:
        # A wrapper would fail where models look for a class of caches, or for an attribute.
        layer.__class__ = _lone(cast(Hashable, type(layer)))
    return layers


class _OneRow:
    """What the generator asks of a batch's cache, where the batch is one row."""

    def merge(self, caches: list[Any]) -> Any:
        (only,) = caches
        return only

    def extract(self, index: int) -> Any:
        assert index == 0
        return copy.deepcopy(self)

    def filter(self, indices: list[int]) -> None:
        assert list(indices) == [0]

    def extend(self, other: Any) -> None:
        raise AssertionError("two rows at once")


def cache_class(layer: Any) -> type[Any]:
    """The class of a cache, as mlx-lm made it."""
    return type(layer).__mro__[2] if isinstance(layer, _OneRow) else type(layer)


@cache
def _lone(kind: Hashable) -> type[Any]:
    assert isinstance(kind, type)
    # A chunked cache forgets its beginning and does not say so.
    members = {} if issubclass(kind, CUTTABLE) else {"is_trimmable": lambda self: False}
    return type(f"Lone{kind.__name__}", (_OneRow, kind), members)
