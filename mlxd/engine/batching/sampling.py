"""From a request's `Sampling` to the next token: defaults, penalties, the draw for a whole batch.

Every row draws with its own random numbers, one uniform a token, so the neighbours in a batch never
change what a row gets and a seed gives the same tokens whatever else runs.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import mlx.core as mx
import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from mlxd.messages import Sampling

CANDIDATES = 1024
"""Tokens that top-p, or a `top_k` above `FEW`, choose among: the most likely ones.

On a CPU a threshold found by halving would cost ten times as much as finding these.
"""
FEW = 64
"""A `top_k` up to here chooses among so many tokens, which are found faster."""
FEW_BLOCK, MANY_BLOCK = 128, 16
"""Tokens in each of the blocks by whose maxima `FEW`, or more, of the best are found."""
LAST_ID = 2**32 - 1

COLDEST = 1e-5
"""Temperatures below take the most likely token: dividing by them leaves float32's range."""

Method = Callable[[mx.array], mx.array]
"""From the logprobs of some rows, (rows, vocabulary), to a token for each."""

LogitsProcessor = Callable[[mx.array, mx.array], mx.array]
"""(all tokens of the row so far, logits of shape (1, vocabulary)) to new logits."""

# MLX's stubs don't type it.
async_eval: Callable[..., None] = mx.async_eval


NEUTRAL = Sampling(
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    logit_bias={},
)
"""Values that change nothing, for all but the seed."""


@dataclass(frozen=True)
class RowSampling:
    """One row's resolved sampling; a `temperature` near 0 takes the most likely token."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[int, float]
    rng: random.Random = field(compare=False)

    @property
    def greedy(self) -> bool:
        return self.temperature < COLDEST


def resolve(sampling: Sampling) -> RowSampling:
    """What a row asks for, and no effect at all of what it leaves open."""
    values = asdict(sampling.merged(NEUTRAL))
    rng = random.Random(values.pop("seed"))
    # A parameter without a neutral value would reach the arithmetic as None.
    assert None not in values.values()
    return RowSampling(**values, rng=rng)


def logits_processors(row: RowSampling, prompt_tokens: int) -> list[LogitsProcessor]:
    """What changes a row's logits before the draw; empty for most rows."""
    processors: list[LogitsProcessor] = []
    if row.logit_bias:
        processors.append(_bias(row.logit_bias))
    if row.repetition_penalty != 1.0:
        processors.append(_repetition(row.repetition_penalty))
    if row.presence_penalty or row.frequency_penalty:
        processors.append(_penalties(row, prompt_tokens))
    return processors


def _bias(logit_bias: dict[int, float]) -> LogitsProcessor:
    ids = mx.array(list(logit_bias))
    values = mx.array(list(logit_bias.values()))

    def add_bias(_: mx.array, logits: mx.array) -> mx.array:
        return logits.at[:, ids].add(values.astype(logits.dtype))

    return add_bias


def _repetition(penalty: float) -> LogitsProcessor:
    """Of every token in the prompt and the answer so far (CTRL, arXiv:1909.05858, section 4.1)."""

    def penalise(tokens: mx.array, logits: mx.array) -> mx.array:
        seen = logits[:, tokens]
        logits[:, tokens] = mx.where(seen < 0, seen * penalty, seen / penalty)
        return logits

    return penalise


def _penalties(row: RowSampling, prompt_tokens: int) -> LogitsProcessor:
    """OpenAI's presence and frequency penalties: of the answer so far, not of the prompt."""

    def penalise(tokens: mx.array, logits: mx.array) -> mx.array:
        generated = tokens[prompt_tokens:]
        if generated.size == 0:
            return logits
        counts = mx.zeros(logits.shape[-1], logits.dtype).at[generated].add(1)
        once = (counts > 0).astype(logits.dtype)
        return logits - row.frequency_penalty * counts - row.presence_penalty * once

    return penalise


def draw(logprobs: mx.array, rows: Sequence[RowSampling]) -> mx.array:
    """The next token of each row; see `Draw`."""
    return Draw(rows)(logprobs)


class Draw:
    """Draws for the same rows, step after step.

    `logprobs` is (rows, vocabulary), the result (rows,). It is a token of the vocabulary whatever
    `logprobs` are, NaN too: MLX does not check indices.

    A row's method depends on the row alone, so that its neighbours change nothing in its sums.
    """

    def __init__(self, rows: Sequence[RowSampling]) -> None:
        members: dict[Callable[[Sequence[RowSampling]], Method], list[int]] = {}
        for index, row in enumerate(rows):
            members.setdefault(_method(row), []).append(index)
        self._groups = [
            (mx.array(indices), make([rows[index] for index in indices]))
            for make, indices in members.items()
        ]
        order = [index for indices in members.values() for index in indices]
        self._back = mx.array(sorted(range(len(order)), key=order.__getitem__))

    def __call__(self, logprobs: mx.array) -> mx.array:
        if len(self._groups) == 1:
            return self._groups[0][1](logprobs)
        drawn = [method(logprobs[indices]) for indices, method in self._groups]
        return mx.concatenate(drawn)[self._back]


def masked(logprobs: mx.array, masks: Mapping[int, NDArray[np.bool_]]) -> mx.array:
    """`logprobs` with minus infinity where a row's mask is false; rows without one are as they are.

    `masks` are by row number.
    """
    allowed = np.ones(logprobs.shape, dtype=np.bool_)
    for row, mask in masks.items():
        allowed[row] = mask
    return mx.where(mx.array(allowed), logprobs, mx.array(-mx.inf, dtype=logprobs.dtype))


def _method(row: RowSampling) -> Callable[[Sequence[RowSampling]], Method]:
    if row.greedy:
        return _most_likely
    if row.top_p == 1 and not row.top_k:
        return _AnyToken
    return _FewTokens if 0 < row.top_k <= FEW else _ManyTokens


def _most_likely(_: Sequence[RowSampling]) -> Method:
    return lambda logprobs: mx.argmax(logprobs, axis=-1)


def _column(values: Sequence[float]) -> mx.array:
    return mx.array(list(values), dtype=mx.float32)[:, None]


class _Warm:
    """Rows with a temperature, and what they have in common."""

    def __init__(self, rows: Sequence[RowSampling]) -> None:
        self._rngs = [row.rng for row in rows]
        self._temperatures = _column([row.temperature for row in rows])
        self._min_p = _column([row.min_p for row in rows])
        self._any_min_p = any(row.min_p > 0 for row in rows)

    def _scaled(self, logprobs: mx.array) -> mx.array:
        return logprobs.astype(mx.float32) / self._temperatures

    def _picked(self, mass: mx.array) -> mx.array:
        """Where in sums of probabilities each row's own random number lies."""
        uniforms = _column([rng.random() for rng in self._rngs])
        return mx.sum(mass <= uniforms * mass[:, -1:], axis=-1, keepdims=True)


class _AnyToken(_Warm):
    """Draws from the whole vocabulary; what min-p leaves out is known without an order."""

    def __call__(self, logprobs: mx.array) -> mx.array:
        probs = mx.softmax(self._scaled(logprobs), axis=-1)
        if self._any_min_p:
            least = self._min_p * mx.max(probs, axis=-1, keepdims=True)
            probs = mx.where(probs >= least, probs, 0)
        picked = self._picked(mx.cumsum(probs, axis=-1))
        picked = mx.minimum(picked, logprobs.shape[-1] - 1)
        # Rounding may lead to a token that can't be drawn.
        possible = mx.take_along_axis(probs, picked, axis=-1) > 0
        picked = mx.where(possible, picked, mx.argmax(probs, axis=-1, keepdims=True))
        return picked[:, 0].astype(mx.uint32)


class _Likely(_Warm):
    """Draws from the most likely tokens: top-k, top-p and min-p.

    Each is meant on the distribution at the row's temperature.
    """

    most: int

    def __init__(self, rows: Sequence[RowSampling]) -> None:
        super().__init__(rows)
        self._top_k = _column([row.top_k or self.most for row in rows])
        self._top_p = _column([row.top_p if row.top_p < 1 else math.inf for row in rows])
        self._any_top_p = any(row.top_p < 1 for row in rows)

    def __call__(self, logprobs: mx.array) -> mx.array:
        scaled = self._scaled(logprobs)
        best = best_tokens(scaled, min(self.most, logprobs.shape[-1]))
        values = mx.take_along_axis(scaled, best, axis=-1)
        # Relative to the best one: all of the vocabulary is summed up for top-p alone, for which
        # a CPU needs longer than for the rest of the draw.
        probs = mx.exp(values - values[:, :1])
        ranks = mx.arange(best.shape[-1])[None]
        keep = (ranks < self._top_k) & (probs >= self._min_p)
        if self._any_top_p:
            whole = mx.exp(mx.logsumexp(scaled, axis=-1, keepdims=True) - values[:, :1])
            keep = keep & (mx.cumsum(probs, axis=-1) - probs < self._top_p * whole)
        keep = keep | (ranks == 0)
        picked = self._picked(mx.cumsum(mx.where(keep, probs, 0), axis=-1))
        # A kept token may still be one that a mask rules out.
        possible = mx.sum(keep & (probs > 0), axis=-1, keepdims=True)
        picked = mx.minimum(picked, mx.maximum(possible, 1) - 1)
        return mx.take_along_axis(best, picked.astype(mx.uint32), axis=-1)[:, 0]


class _FewTokens(_Likely):
    most = FEW


class _ManyTokens(_Likely):
    most = CANDIDATES


def best_tokens(values: mx.array, k: int) -> mx.array:
    """The ids of the `k` greatest `values` of each row, greatest first; of equal ones lower first.

    The k blocks with the greatest maxima hold them all, so that only these are sorted: a sort of a
    vocabulary takes longer than all else in a draw, and Metal has no cheaper way to part it.
    """
    rows, vocabulary = values.shape
    width = FEW_BLOCK if k <= FEW else MANY_BLOCK
    padding = [(0, 0), (0, -vocabulary % width)]
    blocks = mx.pad(values, padding, constant_values=-mx.inf).reshape(rows, -1, width)
    count = blocks.shape[1]
    numbers = mx.broadcast_to(mx.arange(count)[None], (rows, count))
    if count > k:
        numbers = _greatest(mx.max(blocks, axis=-1), numbers, k)
        blocks = mx.take_along_axis(blocks, numbers[:, :, None], axis=1)
    ids = numbers[:, :, None] * width + mx.arange(width)
    best = _greatest(blocks.reshape(rows, -1), ids.reshape(rows, -1), k)
    # Values that are no numbers may have led into the padding.
    return mx.minimum(best, vocabulary - 1).astype(mx.uint32)


def _greatest(values: mx.array, ids: mx.array, k: int) -> mx.array:
    """The `k` ids with the greatest values, in order; of equal values those with lower ids."""
    # One whole number of both makes every sort of it exact, whether that is a stable one or not.
    # With the sign turned a float's bits are in the order of its value; + 0 makes one zero of two.
    bits = (values.astype(mx.float32) + 0.0).view(mx.int32)
    order = mx.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(mx.int64)
    keys = (order << 32) | (LAST_ID - ids.astype(mx.int64))
    start = keys.shape[-1] - k
    found = mx.sort(mx.partition(keys, start, axis=-1)[:, start:], axis=-1)[:, ::-1]
    return LAST_ID - (found & LAST_ID)


class Drawn:
    """The tokens of one draw and their logprobs; read with the step that returns them."""

    def __init__(self, logprobs: mx.array, tokens: mx.array, top: int) -> None:
        self._tokens = tokens
        self._arrays = [mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]]
        if top:
            best = best_tokens(logprobs, min(top, logprobs.shape[-1]))
            self._arrays += [best, mx.take_along_axis(logprobs, best, axis=-1)]
        # Begun with the draw, so that they are there when the step after it reads them.
        async_eval(*self._arrays)

    @cached_property
    def tokens(self) -> list[int]:
        """Each row's token."""
        return cast(list[int], self._tokens.tolist())

    @cached_property
    def chosen(self) -> list[float]:
        """The logprob of each row's token."""
        return cast(list[float], self._arrays[0].tolist())

    @cached_property
    def top(self) -> list[list[tuple[int, float]]]:
        """Each row's most likely tokens, best first."""
        ids = cast(list[list[int]], self._arrays[1].tolist())
        values = cast(list[list[float]], self._arrays[2].tolist())
        return [list(zip(*row, strict=True)) for row in zip(ids, values, strict=True)]
