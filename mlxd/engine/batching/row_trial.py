"""What a model's rows may do, tried when it is loaded.

mlx-lm makes no promise for an architecture: some can't be batched at all, others answer wrongly in
a batch, in silence. No table would know the next one, so a few rows are computed in every way that
they will be, and compared with one plain forward pass over all of their tokens.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from statistics import median
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache

from mlxd.engine.batching.lone_row import lone_caches
from mlxd.engine.batching.prefix_cache import Prefixes

PROMPTS = (11, 4, 6)
"""Lengths of the prompts: two that are padded when they are together, and one that joins later."""
DRAWS = (5, 4, 2)
"""Tokens that each row generates: the third one leaves both others, then one of those the last."""
ALONE = 3
"""Tokens that a row alone generates, of which its rounding is known."""
SHARED = 7
"""Tokens of an earlier prompt that a reused prefix is cut to."""
TOKEN_IDS = 997
"""Ids that the rows are made of are lower: control tokens are mostly at the end."""
LIKELY = 32
"""Tokens whose logprobs are compared, the most likely ones; those of the rest are noise."""
NOISE_FACTOR = 4.0
"""How much larger than the model's own rounding a difference may be."""
LEAST_NOISE, MOST_NOISE = 16.0, 256.0
"""Between what a difference counts as rounding, in units of the data type's last place."""
LEAST_FLOAT32 = 1e-4
ATTEMPTS = 2
"""A mixture of experts may choose otherwise on a close call; what is off is off for others too."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowAbility:
    """What rows may do: run `together`, be prefilled `padded`, go on from a `reused` KV cache.

    `reason` says why they don't run together. Where anything was raised, that is not `certain`.
    """

    together: bool = True
    padded: bool = True
    reused: bool = True
    reason: str = ""
    certain: bool = field(default=True, compare=False)


EVERYTHING = RowAbility()


class _Row:
    """A row whose tokens are given, and the sampler that draws them."""

    def __init__(self, prompt: Sequence[int], draws: Sequence[int]) -> None:
        self.prompt, self.draws = list(prompt), list(draws)
        self.seen: list[mx.array] = []

    def __call__(self, logprobs: mx.array) -> mx.array:
        # mlx-lm computes one token more than a row is to have.
        token = self.draws[min(len(self.seen), len(self.draws) - 1)]
        self.seen.append(logprobs[0].astype(mx.float32))
        return mx.array([token], dtype=mx.uint32)


def try_rows(model: Any, vocab_size: int) -> RowAbility:
    """Compute some rows in all ways; raises what one row alone raises."""
    attempts = [_rows(min(vocab_size, TOKEN_IDS), number) for number in range(ATTEMPTS)]
    alone, *_ = attempts[0]()
    with _Generator(model, lone=True) as generator:
        generator.insert(alone)
        generator.run(until=lambda: len(alone.seen) == ALONE)
    allowed = _allowed(model, max(_distances(model, alone)))
    ability = RowAbility(together=False, padded=False)
    for padded in (True, False):
        try:
            if any(_agree(model, rows(), allowed, padded=padded) for rows in attempts):
                ability = RowAbility(padded=padded, certain=ability.certain)
                break
            ability = replace(ability, reason="answers differ from those alone")
        except BaseException as error:  # A model's code may raise anything.
            log.info("trying rows together failed", exc_info=True)
            reason = f"{type(error).__name__} when requests run together"
            ability = replace(ability, reason=reason, certain=False)
    try:
        reused = _reuses(model, attempts[0](), allowed, lone=not ability.together)
    except BaseException:
        log.info("trying to reuse a KV cache failed", exc_info=True)
        return replace(ability, reused=False, certain=False)
    return replace(ability, reused=reused)


def _rows(id_limit: int, attempt: int) -> Callable[[], list[_Row]]:
    """Makes new rows, which are alike for one attempt."""
    count = sum(PROMPTS) + sum(DRAWS)
    ids = [(31 * n * n + 17 * n + 101 * attempt) % id_limit for n in range(count)]
    ends = list(accumulate(length + draws for length, draws in zip(PROMPTS, DRAWS, strict=True)))
    parts = [
        (ids[end - length - draws : end - draws], ids[end - draws : end])
        for end, length, draws in zip(ends, PROMPTS, DRAWS, strict=True)
    ]
    return lambda: [_Row(prompt, draws) for prompt, draws in parts]


def _agree(model: Any, rows: list[_Row], allowed: float, *, padded: bool) -> bool:
    first, second, later = rows
    with _Generator(model) as generator:
        generator.insert(first)
        if not padded:
            generator.run(until=lambda: len(first.seen) > 0)
        generator.insert(second)
        generator.run(until=lambda: len(second.seen) > 0)
        generator.insert(later)
        generator.run()
    return all(median(_distances(model, row)) <= allowed for row in rows)


def _reuses(model: Any, rows: list[_Row], allowed: float, *, lone: bool) -> bool:
    """Whether rows may begin with what another one has computed, as a whole and cut."""
    first, second, _ = rows
    prefixes = Prefixes(2**62)
    with _Generator(model, lone=lone) as generator:
        generator.insert(first)
        generator.run(until=lambda: len(first.seen) > 1)
        tokens, cache = generator.computed()
    prefixes.put("", tokens, cache)
    more, draws = second.prompt, second.draws[:2]
    rows = [_Row([*tokens, *more], draws), _Row(tokens[:SHARED] + more, draws)]
    with _Generator(model, lone=lone) as generator:
        for row in rows:
            hit = prefixes.find("", row.prompt)
            generator.insert(row, hit.cache, hit.cached)
            generator.run()
    return all(median(_distances(model, row)) <= allowed for row in rows)


class _Generator:
    """mlx-lm's generator with rows whose tokens are given."""

    def __init__(self, model: Any, *, lone: bool = False) -> None:
        self._model, self._lone = model, lone
        self._uids: list[int] = []
        self._generator = BatchGenerator(
            model,
            completion_batch_size=len(PROMPTS),
            prefill_batch_size=len(PROMPTS),
            stream=mx.default_stream(mx.default_device()),
        )

    def __enter__(self) -> "_Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self._generator.close()

    def insert(self, row: _Row, cache: list[Any] | None = None, cached: int = 0) -> None:
        if self._lone:
            cache = cache or lone_caches(self._model)
        self._uids += self._generator.insert(
            [row.prompt[cached:]],
            max_tokens=[len(row.draws)],
            caches=None if cache is None else [cache],
            all_tokens=[row.prompt[:cached]],
            samplers=[row],
        )

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        while not until():
            prompts, generated = self._generator.next()
            if not prompts and not generated:
                return

    def computed(self) -> tuple[list[int], list[Any]]:
        """The tokens and the KV cache of the latest row."""
        cache, tokens = self._generator.extract_cache(self._uids[-1:])[self._uids[-1]]
        return list(tokens), cache


def _distances(model: Any, row: _Row) -> list[float]:
    """How far the logprobs of each draw are from those of one forward pass over all tokens."""
    tokens = [*row.prompt, *row.draws]
    logits = model(mx.array([tokens]), cache=make_prompt_cache(model))[0].astype(mx.float32)
    expected = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    begin = len(row.prompt) - 1
    return [
        _distance(seen, expected[begin + number])
        for number, seen in enumerate(row.seen[: len(row.draws)])
    ]


def _distance(seen: mx.array, expected: mx.array) -> float:
    likely = mx.argsort(-expected)[:LIKELY]
    apart = mx.abs(seen[likely] - expected[likely])
    # Two infinities are alike, and no number is like nothing.
    apart = mx.where(seen[likely] == expected[likely], 0.0, apart)
    return float(mx.max(mx.where(mx.isnan(apart), mx.inf, apart)))


def _allowed(model: Any, noise: float) -> float:
    """How far a logprob may be off: some of the rounding that a row alone has already."""
    floats = [
        leaf.dtype
        for _, leaf in tree_flatten(model.parameters())
        if isinstance(leaf, mx.array) and mx.issubdtype(leaf.dtype, mx.floating)
    ]
    place = max((mx.finfo(dtype).eps for dtype in floats), default=mx.finfo(mx.float32).eps)
    least = max(LEAST_NOISE * place, LEAST_FLOAT32)
    most = max(MOST_NOISE * place, 100 * LEAST_FLOAT32)
    return min(max(least, NOISE_FACTOR * noise), most) if math.isfinite(noise) else most
