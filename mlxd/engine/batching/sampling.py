"""From a request's `Sampling` to the next token: defaults, penalties, the draw for a whole batch.

Every row draws with its own random numbers, one uniform a token, so the neighbours in a batch never
change what a row gets and a seed gives the same tokens whatever else runs.
"""

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
"""Tokens that top-p, top-k and min-p choose among: the most likely ones.

On a CPU, sorting a vocabulary of 150,000 takes longer than the whole draw does like this.
"""

COLDEST = 1e-5
"""Temperatures below take the most likely token: dividing by them leaves float32's range."""

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

    @property
    def truncated(self) -> bool:
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0


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
    """The next token of each row: `logprobs` is (rows, vocabulary), the result (rows,).

    It is a token of the vocabulary whatever `logprobs` are, NaN too: MLX does not check indices.
    """
    groups = [
        (_most_likely, [i for i, row in enumerate(rows) if row.greedy]),
        (_truncated, [i for i, row in enumerate(rows) if not row.greedy and row.truncated]),
        (_untruncated, [i for i, row in enumerate(rows) if not row.greedy and not row.truncated]),
    ]
    groups = [(method, members) for method, members in groups if members]
    if len(groups) == 1:
        return groups[0][0](logprobs, rows)
    drawn = [
        method(logprobs[mx.array(members)], [rows[i] for i in members])
        for method, members in groups
    ]
    order = [i for _, members in groups for i in members]
    back = sorted(range(len(order)), key=order.__getitem__)
    return mx.concatenate(drawn)[mx.array(back)]


def masked(logprobs: mx.array, masks: Mapping[int, NDArray[np.bool_]]) -> mx.array:
    """`logprobs` with minus infinity where a row's mask is false; rows without one are as they are.

    `masks` are by row number.
    """
    allowed = np.ones(logprobs.shape, dtype=np.bool_)
    for row, mask in masks.items():
        allowed[row] = mask
    return mx.where(mx.array(allowed), logprobs, mx.array(-mx.inf, dtype=logprobs.dtype))


def _most_likely(logprobs: mx.array, _: Sequence[RowSampling]) -> mx.array:
    return mx.argmax(logprobs, axis=-1)


def _column(values: Sequence[float]) -> mx.array:
    return mx.array(list(values), dtype=mx.float32)[:, None]


def _uniforms(rows: Sequence[RowSampling]) -> mx.array:
    return _column([row.rng.random() for row in rows])


def _untruncated(logprobs: mx.array, rows: Sequence[RowSampling]) -> mx.array:
    scaled = logprobs.astype(mx.float32) / _column([row.temperature for row in rows])
    probs = mx.softmax(scaled, axis=-1)
    mass = mx.cumsum(probs, axis=-1)
    picked = mx.sum(mass <= _uniforms(rows) * mass[:, -1:], axis=-1)
    picked = mx.minimum(picked, logprobs.shape[-1] - 1)[:, None]
    # Rounding may lead to a token that can't be drawn.
    possible = mx.take_along_axis(probs, picked, axis=-1) > 0
    picked = mx.where(possible, picked, mx.argmax(probs, axis=-1, keepdims=True))
    return picked[:, 0].astype(mx.uint32)


def _truncated(logprobs: mx.array, rows: Sequence[RowSampling]) -> mx.array:
    """top-k, top-p and min-p, each on the distribution at the row's temperature."""
    vocabulary = logprobs.shape[-1]
    k = min(CANDIDATES, vocabulary)
    scaled = logprobs.astype(mx.float32) / _column([row.temperature for row in rows])
    best = mx.argpartition(scaled, kth=vocabulary - k, axis=-1)[:, vocabulary - k :]
    values = mx.take_along_axis(scaled, best, axis=-1)
    order = mx.argsort(-values, axis=-1)
    best = mx.take_along_axis(best, order, axis=-1)
    values = mx.take_along_axis(values, order, axis=-1)
    probs = mx.exp(values - mx.logsumexp(scaled, axis=-1, keepdims=True))

    before = mx.cumsum(probs, axis=-1) - probs
    keep = before < _column([row.top_p for row in rows])
    keep = keep & (mx.arange(k)[None] < _column([row.top_k or k for row in rows]))
    keep = keep & (probs >= _column([row.min_p for row in rows]) * probs[:, :1])
    keep = keep | (mx.arange(k)[None] == 0)

    mass = mx.cumsum(mx.where(keep, probs, 0), axis=-1)
    picked = mx.sum(mass <= _uniforms(rows) * mass[:, -1:], axis=-1, keepdims=True)
    # A kept token may still be one that a mask rules out.
    possible = mx.sum(keep & (probs > 0), axis=-1, keepdims=True)
    picked = mx.minimum(picked, mx.maximum(possible, 1) - 1)
    return mx.take_along_axis(best, picked.astype(mx.uint32), axis=-1)[:, 0].astype(mx.uint32)


class Drawn:
    """The tokens of one draw and their logprobs; read with the step that returns them."""

    def __init__(self, logprobs: mx.array, tokens: mx.array, top: int) -> None:
        self._tokens = tokens
        self._arrays = [mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]]
        if top:
            vocabulary = logprobs.shape[-1]
            best = mx.argpartition(logprobs, kth=vocabulary - top, axis=-1)[:, vocabulary - top :]
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
        pairs = (zip(*row, strict=True) for row in zip(ids, values, strict=True))
        return [sorted(row, key=lambda pair: -pair[1]) for row in pairs]
