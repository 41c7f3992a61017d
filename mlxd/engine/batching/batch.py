"""Continuous batching on mlx-lm's `BatchGenerator`: the only file that knows it.

One generator serves one model. All rows share one sampler object, so that mlx-lm draws for the
whole batch in one call; `_Draws` finds out which rows that call is for.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, make_prompt_cache

from mlxd.engine.batching.prefix_cache import Prefixes, PrefixHit
from mlxd.engine.batching.sampling import RowSampling, draw, logits_processors, masked, resolve
from mlxd.engine.batching.token_text import TokenText
from mlxd.engine.grammar.token_masks import Steering
from mlxd.engine.models.loading import LoadedModel
from mlxd.engine.scheduling.prefill import Prefill
from mlxd.engine.scheduling.scheduler import BatchRow, BatchStep, Prefilled, Token
from mlxd.events import TokenLogprob, TopLogprob

PADDING_NOISE = 0.1
"""How far a padded prompt's state may be from an unpadded one's, as a share of its length."""
FLOOR = -9999.0
"""Stands for the logarithm of zero, as OpenAI writes it."""


@dataclass(frozen=True)
class _Queued:
    """A row whose prefill has not begun."""

    row: BatchRow
    hit: PrefixHit

    @property
    def to_prefill(self) -> int:
        return len(self.row.tokens) - self.hit.cached


@dataclass
class _Running:
    row: BatchRow
    uid: int
    sampling: RowSampling
    to_prefill: int
    """Tokens of the prompt that are not computed yet."""

    @property
    def steering(self) -> Steering | None:
        return self.row.steering if isinstance(self.row.steering, Steering) else None


_async_eval: Callable[..., None] = mx.async_eval


class _Drawn:
    """What one sampler call has to tell about its tokens; read with the step that returns them."""

    def __init__(self, logprobs: mx.array, tokens: mx.array, top: int) -> None:
        self._tokens = tokens
        self._arrays = [mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]]
        if top:
            vocabulary = logprobs.shape[-1]
            best = mx.argpartition(logprobs, kth=vocabulary - top, axis=-1)[:, vocabulary - top :]
            self._arrays += [best, mx.take_along_axis(logprobs, best, axis=-1)]
        _async_eval(*self._arrays)

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


class _Draws:
    """The sampler of all rows, and what it has to tell about the tokens it drew.

    mlx-lm runs one step ahead: what is drawn now is returned by the next step, so that each row has
    up to two results waiting here.
    """

    def __init__(self, generator: BatchGenerator, running: dict[int, _Running]) -> None:
        self._generator = generator
        self._running = running
        self._results: dict[int, deque[tuple[_Drawn, int]]] = {}
        self._decoding: list[int] = []
        self._stepped = True

    def expect_step(self) -> None:
        """The next call is for the rows that decode; one after it for rows leaving prefill."""
        self._decoding = list(self._generator._generation_batch.uids)
        self._stepped = not self._decoding

    def __call__(self, logprobs: mx.array) -> mx.array:
        uids = self._uids()
        rows = [self._running[uid] for uid in uids]
        tokens = self._steered(logprobs, rows)
        drawn = _Drawn(logprobs, tokens, max(running.row.logprobs or 0 for running in rows))
        for index, uid in enumerate(uids):
            self._results.setdefault(uid, deque()).append((drawn, index))
        return tokens

    def _steered(self, logprobs: mx.array, rows: Sequence[_Running]) -> mx.array:
        """The tokens of all rows, each drawn from what it may be.

        The masks are made while the logits are computed; what is told of a token's logprob is the
        model's own, from before the mask.
        """
        samplings = [running.sampling for running in rows]
        steered = [(index, row.steering) for index, row in enumerate(rows) if row.steering]
        if not steered:
            return draw(logprobs, samplings)
        _async_eval(logprobs)
        masks = {}
        for index, steering in steered:
            if results := self._results.get(rows[index].uid):
                drawn, place = results[-1]
                steering.took(drawn.tokens[place])
            mask = steering.allowed()
            if mask is not None:
                masks[index] = mask
        allowed = logprobs if not masks else masked(logprobs, masks)
        tokens = draw(allowed, samplings)
        if not any(steering.settles for _, steering in steered):
            return tokens
        settled = cast(list[int], tokens.tolist())
        for index, steering in steered:
            if steering.settles:
                settled[index] = steering.settle(settled[index])
        return mx.array(settled, dtype=tokens.dtype)

    def take(self, uid: int) -> tuple[_Drawn, int]:
        """The result for the token that `uid` has just returned."""
        return self._results[uid].popleft()

    def forget(self, uid: int) -> None:
        self._results.pop(uid, None)

    def _uids(self) -> list[int]:
        if not self._stepped:
            self._stepped = True
            return self._decoding
        elsewhere = set(self._decoding) | set(self._generator._prompt_batch.uids)
        elsewhere.update(sequence[0] for sequence in self._generator._unprocessed_sequences)
        return sorted(set(self._running) - elsewhere)


class MlxBatch:
    """The rows of one model; implements `scheduler.Batch`."""

    def __init__(
        self,
        loaded: LoadedModel,
        prefixes: Prefixes,
        *,
        max_batch: int,
        prefill_budget: float,
    ) -> None:
        self._loaded = loaded
        self._prefixes = prefixes
        self._prefill = Prefill(prefill_budget)
        self._alone = not pads_prompts(loaded.model)
        self.kv_bytes = 0
        self._generator = BatchGenerator(
            loaded.model,
            stop_tokens=[[token] for token in sorted(loaded.eos_ids)],
            completion_batch_size=max_batch,
            prefill_batch_size=max_batch,
            stream=mx.default_stream(mx.default_device()),
        )
        self._queue: dict[int, _Queued] = {}
        self._running: dict[int, _Running] = {}
        self._uids: dict[int, int] = {}
        self._ended: list[tuple[BatchRow, list[int], Any]] = []
        self._draws = _Draws(self._generator, self._running)
        self._text = TokenText(loaded.tokenizer)
        layers = make_prompt_cache(loaded.model)
        self._cut_anywhere = all(isinstance(layer, KVCache) for layer in layers)

    def close(self) -> None:
        """Give back what mlx-lm holds outside of Python."""
        self._generator.close()

    @property
    def active_bytes(self) -> int:
        """KV cache of the rows that are running."""
        return int(self._generator.prompt_cache_nbytes)

    @property
    def capacity(self) -> int:
        """Tokens of one row whose KV cache fits into `kv_bytes`."""
        return self.kv_bytes // self._loaded.kv_bytes_per_token

    def fits(self, longest: int, rows: int) -> bool:
        # A batch is padded to its longest row.
        return longest * rows <= self.capacity

    def reach(self, row: BatchRow) -> int:
        return self._prefixes.reach(self._scope(row), row.tokens)

    def insert(self, row: BatchRow) -> None:
        hit = self._prefixes.find(self._scope(row), row.tokens)
        row.cached, row.cache_note = hit.cached, hit.note
        self._queue[row.id] = _Queued(row, hit)

    def remove(self, row_id: int) -> None:
        if self._queue.pop(row_id, None) is not None:
            return
        uid = self._uids[row_id]
        self._keep_computed(uid)
        self._generator.remove([uid])
        self._forget(uid)

    def share(self, row_id: int) -> None:
        self._keep_computed(self._uids[row_id])

    def settle(self) -> None:
        """Keep what ended rows computed; it takes a while, so the rows' ends are told first."""
        ended, self._ended = self._ended, []
        for row, tokens, cache in ended:
            self._keep(row, tokens, cache)

    def step(self) -> BatchStep:
        self.settle()
        merged = self._plan_prefill()
        self._draws.expect_step()
        begun = time.perf_counter()
        counters = self._generator._counters
        before = counters.prompt_tokens, counters.decode_time
        prompts, generated = self._generator.next()
        computed = counters.prompt_tokens - before[0]
        spent = time.perf_counter() - begun - (counters.decode_time - before[1])
        if not merged:
            self._prefill.took(computed, spent)
        prefilled = [self._prefilled(response) for response in prompts]
        tokens, broken, faults = [], [], {}
        for response in generated:
            running = self._running[response.uid]
            token = self._token(response)
            if token is not None:
                tokens.append(token)
            elif running.steering is not None and running.steering.fault:
                faults[running.row.id] = running.steering.fault
            else:
                broken.append(running.row.id)
            if token is None or token.end is not None:
                self._end(response, keep=token is not None)
        return BatchStep(prefilled, tokens, broken, faults)

    def _plan_prefill(self) -> bool:
        """Choose whose prompts are computed next, and how much of them.

        Says whether cached prefixes are to be merged with it, which takes longer than the piece.
        """
        decoding = self._generator._generation_batch.uids
        left = [row.to_prefill for uid, row in self._running.items() if uid not in decoding]
        begun = self._next_prompts(left)
        left += [self._begin(queued) for queued in begun]
        if left:
            waiting = len(left) + len(self._queue)
            size = self._prefill.piece(left, waiting=waiting, decoding=len(decoding))
            self._generator.prefill_step_size = size
            self._generator._prompt_batch.prefill_step_size = size
        return any(queued.hit.cached for queued in begun)

    def _next_prompts(self, left: Sequence[int]) -> list[_Queued]:
        """Those of the queue that begin now, beside prompts with so many tokens `left`."""
        queue = list(self._queue.values())
        if self._alone:
            return queue[: 0 if left else 1]
        if left:
            return [row for row in queue if self._prefill.overtakes(left, row.to_prefill)]
        return queue[: self._prefill.together([row.to_prefill for row in queue])]

    def _begin(self, queued: _Queued) -> int:
        """Hand a row over to mlx-lm; its tokens to prefill."""
        row, hit = queued.row, queued.hit
        sampling = resolve(row.sampling, self._loaded.spec.sampling)
        (uid,) = self._generator.insert_segments(
            [self._segments(row, hit.cached)],
            max_tokens=[row.max_tokens],
            caches=None if hit.cache is None else [hit.cache],
            all_tokens=[row.tokens[: hit.cached]],
            samplers=[self._draws],
            logits_processors=[logits_processors(sampling, len(row.tokens))],
        )
        self._uids[row.id] = uid
        self._running[uid] = _Running(row, uid, sampling, queued.to_prefill)
        del self._queue[row.id]
        return queued.to_prefill

    def _prefilled(self, response: PromptProcessingBatch.Response) -> Prefilled:
        running = self._running[response.uid]
        running.to_prefill = response.progress[1] - response.progress[0]
        if response.end_of_segment and not response.end_of_prompt and not self._cut_anywhere:
            self._keep_computed(response.uid)
        row = running.row
        return Prefilled(row.id, row.cached + response.progress[0], ready=response.end_of_prompt)

    def _token(self, response: Any) -> Token | None:
        running = self._running[response.uid]
        drawn, index = self._draws.take(response.uid)
        chosen = drawn.chosen[index]
        faulty = running.steering is not None and running.steering.fault
        if faulty or not chosen > -float("inf"):
            return None
        row = running.row
        logprob = None
        if row.logprobs is not None and response.finish_reason != "stop":
            top = drawn.top[index][: row.logprobs] if row.logprobs else []
            logprob = self._logprob(response.token, chosen, top)
        return Token(row.id, response.token, logprob, response.finish_reason)

    def _logprob(self, token: int, chosen: float, top: Sequence[tuple[int, float]]) -> TokenLogprob:
        text, raw = self._text.of(token)
        alternatives = tuple(
            TopLogprob(text, max(value, FLOOR), raw)
            for (text, raw), value in ((self._text.of(other), value) for other, value in top)
        )
        return TokenLogprob(text, max(chosen, FLOOR), raw, alternatives)

    def _segments(self, row: BatchRow, cached: int) -> list[list[int]]:
        """The uncached part of the prompt, cut where a prefix is worth keeping."""
        cuts = () if self._cut_anywhere else row.boundaries
        edges = [cached, *(edge for edge in cuts if edge > cached), len(row.tokens)]
        return [row.tokens[a:b] for a, b in pairwise(edges) if b > a]

    def _end(self, response: Any, *, keep: bool) -> None:
        if not keep:
            if response.finish_reason is None:
                self._generator.remove([response.uid])
        else:
            row = self._running[response.uid].row
            self._ended.append((row, response.all_tokens, response.prompt_cache))
        self._forget(response.uid)

    def _keep_computed(self, uid: int) -> None:
        """Keep what a running row has computed so far."""
        cache, tokens = self._generator.extract_cache([uid])[uid]
        self._keep(self._running[uid].row, tokens, cache)

    def _keep(self, row: BatchRow, tokens: list[int], cache: Any) -> None:
        self._prefixes.put(self._scope(row), tokens, cache)

    def _scope(self, row: BatchRow) -> str:
        return f"{self._loaded.spec.id}\n{row.group}"

    def _forget(self, uid: int) -> None:
        running = self._running.pop(uid)
        del self._uids[running.row.id]
        self._draws.forget(uid)


def pads_prompts(model: Any) -> bool:
    """Whether prompts of different lengths may be prefilled together.

    Some recurrent layers read the padding into their state.
    """
    if not any(_recurrent(layer) for layer in make_prompt_cache(model)):
        return True
    short = [1, 2, 3]
    together = _states(model, [short, [*short, *short]])
    alone = _states(model, [short])
    apart = mx.sum((together - alone) ** 2)
    return bool((apart <= PADDING_NOISE**2 * mx.sum(alone**2)).item())


def _recurrent(layer: Any) -> bool:
    parts = layer.caches if isinstance(layer, CacheList) else (layer,)
    return any(isinstance(part, ArraysCache) for part in parts)


def _states(model: Any, prompts: list[list[int]]) -> mx.array:
    """What the first prompt leaves in the recurrent layers, all in one line."""
    uids = list(range(len(prompts)))
    batch = PromptProcessingBatch(model, uids, [make_prompt_cache(model) for _ in prompts])
    batch.prompt(prompts)
    layers = [layer for layer in batch.extract_cache(0) if _recurrent(layer)]
    states = [leaf for _, leaf in tree_flatten([layer.state for layer in layers])]
    arrays = [leaf.flatten() for leaf in states if isinstance(leaf, mx.array)]
    return mx.concatenate([array.astype(mx.float32) for array in arrays])
