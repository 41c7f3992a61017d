"""Cutting KV caches into stretches of tokens and joining them again, for each class of cache.

A `KVCache` can be cut anywhere. A sliding window holds its last tokens only. All else, recurrent
states and classes that are not known, is kept whole.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.cache import (
    ConcatenateKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from mlxd.engine.batching.lone_row import cache_class
from mlxd.engine.batching.sampling import async_eval
from mlxd.engine.models.quantised_cache import mapped_layers

Cache = list[Any]
"""mlx-lm's prompt cache: one cache object a layer."""
Kind = Literal["kv", "window", "state"]


@dataclass(frozen=True)
class Arrays:
    """A stretch of tokens of several layers; tokens are the last axis but one of each array."""

    arrays: tuple[mx.array, ...]
    length: int

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def part(self, start: int, end: int) -> "Arrays":
        """A copy of the tokens from `start` up to `end`, with memory of its own."""
        cut = tuple(mx.contiguous(array[..., start:end, :]) for array in self.arrays)
        async_eval(cut)
        return Arrays(cut, end - start)

    def view(self, start: int, end: int) -> "Arrays":
        """The same without a copy."""
        return Arrays(tuple(array[..., start:end, :] for array in self.arrays), end - start)


@dataclass(frozen=True)
class Whole:
    """Layers that can't be cut."""

    layers: tuple[Any, ...]
    nbytes: int


class ComputedCache:
    """The cache of a row, of which parts are kept; it is not changed.

    It holds `length` tokens. Its classes and their sizes are what `Joiner` needs to make another.
    """

    def __init__(self, cache: Cache, length: int) -> None:
        self._layers = _flat(cache)
        self._length = length
        rotating = [layer for layer in self._layers if kind(layer) == "window"]
        self.window = max((layer.max_size for layer in rotating), default=0)
        self.held = min((_held(layer) for layer in rotating), default=0)
        self.has_state = bool(self._of("state"))
        self.joiner = Joiner(cache)
        # One token more or less, and what begins with it is answered wrongly, in silence.
        assert all(layer.offset == length for layer in self._of("kv"))

    @property
    def state_layers(self) -> list[Any]:
        """The layers that can't be cut."""
        return self._of("state")

    @cached_property
    def kv(self) -> Arrays:
        arrays = (array for layer in self._of("kv") for array in _arrays(layer))
        return Arrays(tuple(arrays), self._length).view(0, self._length)

    @cached_property
    def windows(self) -> Arrays:
        arrays = []
        for layer in self._of("window"):
            # The last tokens in their order: the ring may begin anywhere.
            for array in (layer.keys, layer.values):
                ordered = layer._temporal_order(array)
                arrays.append(ordered[..., ordered.shape[-2] - self.held :, :])
        return Arrays(tuple(arrays), self.held)

    @property
    def nbytes(self) -> int:
        """The memory of all that a checkpoint keeps."""
        states = sum(layer.nbytes for layer in self._of("state"))
        return self.kv.nbytes + (self.windows.nbytes if self.window else 0) + int(states)

    @cached_property
    def state(self) -> Whole:
        layers = [copy.deepcopy(layer) for layer in self._of("state")]
        for layer in layers:
            # What was cut out of a batch is a view of all of it.
            layer.state = _mapped(mx.contiguous, layer.state)
        async_eval([layer.state for layer in layers])
        return Whole(tuple(layers), sum(layer.nbytes for layer in layers))

    def _of(self, wanted: Kind) -> list[Any]:
        return [layer for layer in self._layers if kind(layer) == wanted]


class Joiner:
    """Makes caches of one model out of what was kept."""

    def __init__(self, cache: Cache) -> None:
        self._cache = mapped_layers(_emptied, cache)

    def join(
        self, kv: Sequence[Arrays], windows: Sequence[Arrays], state: Whole | None, length: int
    ) -> Cache:
        """A cache of `length` tokens: all of them in `kv`, the last ones in `windows`."""
        joined, ring = iter(_joined(kv)), iter(_joined(windows))
        states = iter(copy.deepcopy(state.layers) if state is not None else ())

        def filled(layer: Any) -> Any:
            if kind(layer) == "state":
                return next(states)
            source = joined if kind(layer) == "kv" else ring
            made = copy.copy(layer)
            match made:
                case QuantizedKVCache():
                    made.keys = [next(source) for _ in range(3)]
                    made.values = [next(source) for _ in range(3)]
                case RotatingKVCache():
                    keys, values = next(source), next(source)
                    last = min(length, made.max_size)
                    made.keys, made.values = keys[..., -last:, :], values[..., -last:, :]
                    made._idx = last
                case _:
                    made.keys, made.values = next(source), next(source)
            made.offset = length
            return made

        return mapped_layers(filled, self._cache)


def kind(layer: Any) -> Kind:
    """How a layer's cache can be cut."""
    known = cache_class(layer)
    if any(_holds_as(known, each) for each in (KVCache, ConcatenateKVCache, QuantizedKVCache)):
        return "kv"
    return "window" if _holds_as(known, RotatingKVCache) and layer.keep == 0 else "state"


def _holds_as(known: type[Any], kind: type[Any]) -> bool:
    """Whether a class of caches holds keys and values just as `kind` does."""
    parts = ("update_and_fetch", "state", "trim")
    return issubclass(known, kind) and all(
        getattr(known, part) is getattr(kind, part) for part in parts
    )


def _held(layer: RotatingKVCache) -> int:
    return 0 if layer.keys is None else min(layer.keys.shape[-2], layer.offset)


def _arrays(layer: Any) -> Iterable[mx.array]:
    if isinstance(layer, QuantizedKVCache):
        return (*layer.keys, *layer.values)
    return (layer.keys, layer.values)


def _emptied(layer: Any) -> Any:
    """Its class and sizes without what it holds; None for a layer that is kept whole."""
    if kind(layer) == "state":
        return None
    empty = copy.copy(layer)
    empty.keys = empty.values = None
    return empty


def _flat(cache: Cache) -> list[Any]:
    found: list[Any] = []
    mapped_layers(found.append, cache)
    return found


def _mapped(change: Callable[[mx.array], mx.array], state: Any) -> Any:
    return tree_map(lambda leaf: change(leaf) if isinstance(leaf, mx.array) else leaf, state)


def _joined(stretches: Sequence[Arrays]) -> list[mx.array]:
    """Each layer's array over all stretches."""
    columns = zip(*(stretch.arrays for stretch in stretches), strict=True)
    return [mx.concatenate(list(column), axis=-2) for column in columns]
