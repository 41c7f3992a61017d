"""KV caches with 8 or 4 bits a value, for a row alone and for a batch.

mlx-lm has such a cache for one row, which no batch can take in. Here a batch's cache is three of
mlx-lm's own, of packed values, of their scales and of their biases: padding, joining, leaving and
cutting are mlx-lm's.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models import base
from mlx_lm.models.cache import (
    BatchKVCache,
    CacheList,
    KVCache,
    QuantizedKVCache,
    make_prompt_cache,
)

GROUPS = {8: (128, 64, 32), 4: (64, 32)}
"""Values that share a scale, by bits: the most that a head can be divided into."""
ATTENTION = "quantized_scaled_dot_product_attention"
"""What mlx-lm's attention calls where a cache says its bits."""
TRIED = (2, 1)
"""Tokens of the passes that show whether a model can read such a cache: prefill and decoding."""


class NotQuantisable(Exception):
    """A model's KV cache can't be quantised; says why."""


class QuantisedCache(QuantizedKVCache):  # type: ignore[misc]  # mlx-lm has no types
    """One row of a layer."""

    def size(self) -> int:
        return int(self.offset)

    @property
    def nbytes(self) -> int:
        return 0 if self.empty() else int(super().nbytes)

    @classmethod
    def merge(cls, rows: Sequence["QuantisedCache"]) -> "BatchQuantisedCache":
        return BatchQuantisedCache.merge(rows)


class _Part(NamedTuple):
    """One part of a row, as `BatchKVCache.merge` takes it."""

    keys: mx.array | None
    values: mx.array | None
    offset: int

    def size(self) -> int:
        return self.offset


class BatchQuantisedCache:
    """The rows of a layer that are computed together; see `BatchKVCache`."""

    def __init__(self, parts: Sequence[Any], *, group_size: int, bits: int) -> None:
        self.parts = tuple(parts)
        self.group_size = group_size
        self.bits = bits

    @classmethod
    def merge(cls, rows: Sequence[QuantisedCache]) -> "BatchQuantisedCache":
        parts = []
        for number in range(3):
            of_rows = [
                _Part(None, None, 0)
                if row.empty()
                else _Part(row.keys[number], row.values[number], row.offset)
                for row in rows
            ]
            parts.append(BatchKVCache.merge(of_rows))
        return cls(parts, group_size=rows[0].group_size, bits=rows[0].bits)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> Any:
        packed = [
            mx.quantize(array, group_size=self.group_size, bits=self.bits)
            for array in (keys, values)
        ]
        for part, key, value in zip(self.parts, *packed, strict=True):
            part.update_and_fetch(key, value)
        return self.keys_and_values()

    def keys_and_values(self) -> Any:
        """The parts of each, with room for tokens to come, and how many tokens there are."""
        size = self.size()
        keys, values = ([getattr(part, name) for part in self.parts] for name in ("keys", "values"))
        return (*keys, size), (*values, size)

    @property
    def offset(self) -> Any:
        return self.parts[0].offset

    @property
    def state(self) -> list[Any]:
        return [part.state for part in self.parts]

    @property
    def nbytes(self) -> int:
        return sum(int(part.nbytes) for part in self.parts)

    def size(self) -> int:
        return int(self.parts[0].size())

    def empty(self) -> bool:
        return bool(self.parts[0].empty())

    def make_mask(self, *args: Any, **kwargs: Any) -> Any:
        return self.parts[0].make_mask(*args, **kwargs)

    def is_trimmable(self) -> bool:
        return True

    def trim(self, count: int) -> int:
        return [int(part.trim(count)) for part in self.parts][0]

    def prepare(self, **padding: Any) -> None:
        for part in self.parts:
            part.prepare(**padding)

    def finalize(self) -> None:
        for part in self.parts:
            part.finalize()

    def filter(self, rows: Any) -> None:
        for part in self.parts:
            part.filter(rows)

    def extend(self, other: "BatchQuantisedCache") -> None:
        for part, more in zip(self.parts, other.parts, strict=True):
            part.extend(more)

    def extract(self, index: int) -> QuantisedCache:
        row = QuantisedCache(self.group_size, self.bits)
        parts = [part.extract(index) for part in self.parts]
        row.keys, row.values = [part.keys for part in parts], [part.values for part in parts]
        row.offset = parts[0].offset
        return row


def quantise_caches(model: Any, bits: int) -> None:
    """Have a model make quantised KV caches from now on; raises `NotQuantisable`.

    Layers with sliding windows or recurrent states keep theirs: these do not grow.
    """
    assert hasattr(base, ATTENTION), "mlx-lm reads quantised caches under another name: find it"
    setattr(base, ATTENTION, attend)
    # Kept from before the model is told to make others.
    make: Callable[[], list[Any]] = getattr(
        model, "make_cache", lambda: [KVCache() for _ in model.layers]
    )
    tried = make()
    model(mx.zeros((1, 1), dtype=mx.int32), cache=tried)
    groups: list[int] = []
    mapped_layers(lambda layer: groups.append(_group(layer, bits)), tried)
    if not any(groups):
        raise NotQuantisable("none of its KV caches grows with every token")

    def make_quantised() -> list[Any]:
        sizes = iter(groups)

        def quantised(layer: Any) -> Any:
            group = next(sizes)
            return QuantisedCache(group, bits) if group else layer

        return mapped_layers(quantised, make())

    # Where mlx-lm looks for it, so that all who make caches make these.
    model.make_cache = make_quantised
    _try(model)


def _group(layer: Any, bits: int) -> int:
    """How many values of a layer share a scale; 0 where it is not quantised."""
    if type(layer) is not KVCache or layer.empty():
        return 0
    sizes = layer.keys.shape[-1], layer.values.shape[-1]
    for group in GROUPS[bits]:
        if not any(size % group for size in sizes):
            return group
    least = min(GROUPS[bits])
    raise NotQuantisable(f"its heads have {max(sizes)} values, which {least} does not divide")


def _try(model: Any) -> None:
    """Compute with the caches; a model that has an attention of its own raises at them."""
    caches = make_prompt_cache(model)
    try:
        for tokens in TRIED:
            mx.eval(model(mx.zeros((1, tokens), dtype=mx.int32), cache=caches))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        # It looked for one array where there are three, or for what packed ones lack.
        raise NotQuantisable("its attention can't read a quantised KV cache") from error


def attend(
    queries: mx.array,
    keys: Sequence[Any],
    values: Sequence[Any],
    *,
    scale: float,
    mask: Any,
    group_size: int,
    bits: int,
) -> mx.array:
    """Attention over packed keys and values, in place of mlx-lm's.

    That makes a copy of them for each head that shares them, and keeps all scores of a prompt.
    """
    packing: Any = {"group_size": group_size, "bits": bits}
    rows, heads, asked, size = queries.shape
    # A batch says how much of them is used; what a row has is cut to it.
    used = keys[3] if len(keys) > 3 else keys[0].shape[-2]
    if asked > 1:
        # The fused attention is faster on many queries, and unpacking counts once for all of them.
        plain = [
            mx.dequantize(*(part[..., :used, :] for part in packed[:3]), **packing)
            for packed in (keys, values)
        ]
        return mx.fast.scaled_dot_product_attention(queries, *plain, scale=scale, mask=mask)
    dtype = queries.dtype
    if mx.default_device() == mx.Device(mx.cpu):
        # Products with packed values are several times slower there in half precision.
        queries = queries.astype(mx.float32)
        keys, values = _as_float32(keys), _as_float32(values)
    product: Any = partial(mx.quantized_matmul, **packing)
    # The heads that share keys are queries of one product.
    shared_by = heads // keys[0].shape[1]
    queries = (queries * scale).reshape(rows, -1, shared_by, size)
    scores = product(queries, *keys[:3], transpose=True)[..., :used]
    if isinstance(mask, mx.array):
        if mask.ndim > 2 and mask.shape[-3] == heads:
            mask = mask.reshape(-1, heads // shared_by, shared_by, used)
        lowest = mx.finfo(scores.dtype).min
        scores = mx.where(mask, scores, lowest) if mask.dtype == mx.bool_ else scores + mask
    weights = mx.softmax(scores, axis=-1, precise=True)
    # What is not used yet counts for nothing; to cut it off would be a copy of all the rest.
    weights = mx.pad(weights, [(0, 0)] * 3 + [(0, values[0].shape[-2] - used)])
    out = product(weights, *values[:3], transpose=False)
    attended: mx.array = out.reshape(rows, heads, 1, -1).astype(dtype)
    return attended


def _as_float32(packed: Sequence[Any]) -> list[mx.array]:
    return [packed[0], *(part.astype(mx.float32) for part in packed[1:3])]


def mapped_layers(change: Callable[[Any], Any], caches: Iterable[Any]) -> list[Any]:
    """A model's caches with each changed; a layer may have a list of several."""
    return [
        CacheList(*mapped_layers(change, layer.caches))
        if isinstance(layer, CacheList)
        else change(layer)
        for layer in caches
    ]
