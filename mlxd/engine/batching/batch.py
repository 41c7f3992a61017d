"""Continuous batching on mlx-lm's `BatchGenerator`.

One generator serves one model. All rows share one sampler object, so that mlx-lm draws for the
whole batch in one call; `draws` finds out which rows that call is for.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, PromptProcessingBatch
from mlx_lm.models.cache import make_prompt_cache

from mlxd.engine.batching.cache_layers import kind
from mlxd.engine.batching.draws import Draws, RunningRow
from mlxd.engine.batching.lone_row import lone_caches
from mlxd.engine.batching.prefix_cache import Prefixes, PrefixHit
from mlxd.engine.batching.row_trial import EVERYTHING, RowAbility
from mlxd.engine.batching.sampling import logits_processors, resolve
from mlxd.engine.batching.stored_prefixes import DiskPlan
from mlxd.engine.batching.token_text import TokenText
from mlxd.engine.grammar.token_masks import Steering
from mlxd.engine.models.fingerprint import FilesAsRead, fingerprint
from mlxd.engine.models.loading import LoadedModel
from mlxd.engine.prefix_disk.spill_file import FORMAT
from mlxd.engine.prompt.answers import Answers, RememberedAnswer, note_of, scope_of, token_ids
from mlxd.engine.scheduling.decode_share import DecodeShare
from mlxd.engine.scheduling.fairness import Fairness
from mlxd.engine.scheduling.prefill import Prefill
from mlxd.engine.scheduling.scheduler import BatchRow, BatchStep, Prefilled, Token
from mlxd.events import CacheNote

WHOLE_ENDS = ("stop", "length")
"""The ends of answers that a next turn may go on from: nothing of them was cut off or refused."""
NEVER_REUSED = CacheNote("never_reused", "this model's KV caches can't be reused")
"""Why nothing of a prompt is cached, where it is that."""


@dataclass
class _Queued:
    """A row whose prefill has not begun; `patience` as in `RunningRow`."""

    row: BatchRow
    hit: PrefixHit
    patience: int

    @property
    def to_prefill(self) -> int:
        return len(self.row.tokens) - self.hit.cached


class MlxBatch:
    """The rows of one model; implements `scheduler.Batch`."""

    def __init__(
        self,
        loaded: LoadedModel,
        prefixes: Prefixes,
        *,
        answers: Answers | None = None,
        ability: RowAbility = EVERYTHING,
        max_batch: int,
        prefill_budget: float,
        decode_share: float = 0.0,
        fairness: Fairness | None = None,
        after_piece: Callable[[int, float], None] = lambda tokens, seconds: None,
    ) -> None:
        self._loaded = loaded
        self._prefixes = prefixes
        self._answers = answers
        self._prefill = Prefill(prefill_budget)
        self._decode_share = DecodeShare(decode_share)
        self._max_batch = max_batch
        self._after_piece = after_piece
        self._fairness = fairness or Fairness({})
        self._ability = ability
        self.kv_bytes = 0
        self._generator = BatchGenerator(
            loaded.model,
            stop_tokens=[[token] for token in sorted(loaded.eos_ids)],
            # Who is prefilled when is decided by the scheduler and here: mlx-lm takes what it gets.
            completion_batch_size=max_batch,
            prefill_batch_size=max_batch,
            # Prefixes are cut and copied on the default stream; with one for all nothing waits.
            stream=mx.default_stream(mx.default_device()),
        )
        self._queue: dict[int, _Queued] = {}
        self._running: dict[int, RunningRow] = {}
        self._uids: dict[int, int] = {}
        self._ended: list[tuple[BatchRow, list[int], Any]] = []
        self._draws = Draws(self._generator, self._running)
        self.text = TokenText(loaded.tokenizer)
        layers = make_prompt_cache(loaded.model)
        self._cut_anywhere = all(kind(layer) == "kv" for layer in layers)

    def close(self) -> None:
        """Give back what mlx-lm holds outside of Python."""
        self._generator.close()

    @property
    def active_bytes(self) -> int:
        """KV cache of the rows that are running."""
        return int(self._generator.prompt_cache_nbytes)

    def fits(self, longest: int, rows: int) -> bool:
        # A batch is padded to its longest row.
        return rows * self._loaded.cache_cost.row(longest) <= self.kv_bytes

    def reach(self, row: BatchRow) -> int:
        return self._prefixes.reach(self._scope(row.group), row.tokens)

    def keep_on_disk(self, files: FilesAsRead) -> None:
        """Keep prefixes on the disk too, if there is one; `files` are the model's as they were."""
        if self._ability.reused:
            model = self._loaded.model
            caches = make_prompt_cache(model) if self._ability.together else lone_caches(model)
            name = fingerprint(self._loaded, files.weights, caches, FORMAT)
            self._prefixes.serve(self._loaded.scope, name, caches, files.reading)

    def on_disk(self, group: str, tokens: Sequence[int]) -> DiskPlan | None:
        """How the disk knows more of a prompt than memory does, if reading it is worth while."""
        if not self._ability.reused:
            return None
        return self._prefixes.on_disk(self._scope(group), tokens, self._prefill.seconds)

    def read(self, plan: DiskPlan, wanted: Callable[[], bool], then: Callable[[], None]) -> None:
        """See `Prefixes.read`."""
        self._prefixes.read(plan, wanted, then)

    def insert(self, row: BatchRow) -> None:
        hit = self._prefixes.find(self._scope(row.group), row.tokens)
        row.cached = hit.cached
        row.cache_note = hit.note if self._ability.reused else NEVER_REUSED
        if row.cache_note and row.prompt_note:
            words = f"{row.cache_note.words}; {row.prompt_note.words}"
            row.cache_note = CacheNote(row.prompt_note.reason, words)
        self._prefixes.yield_to(self._loaded.cache_cost.row(len(row.tokens)))
        self._queue[row.id] = _Queued(row, hit, len(row.tokens) - hit.cached)

    def remove(self, row_id: int) -> None:
        if self._queue.pop(row_id, None) is not None:
            return
        uid = self._uids[row_id]
        self._keep_computed(uid)
        self._generator.remove([uid])
        self._forget(uid)

    def share(self, row_id: int) -> None:
        self._keep_computed(self._uids[row_id])

    def remember(self) -> None:
        """Note what ended rows said, after each step and before anyone hears of their ends."""
        for row, tokens, _ in self._ended:
            if self._answers is not None and _remembered(row):
                said = RememberedAnswer(row.before, token_ids(tokens), row.begins, row.boundaries)
                self._answers.add(self._scope(row.group), said)

    def settle(self) -> None:
        """Keep what ended rows computed, after each step.

        It can take longer than a step, so the rows' ends are sent first.
        """
        ended, self._ended = self._ended, []
        for row, tokens, cache in ended:
            note = note_of(row.before, row.begins, row.boundaries) if _remembered(row) else b""
            self._keep(row, tokens, cache, answered=True, note=note)

    def step(self) -> BatchStep:
        decoding = len(self._generator._generation_batch)
        alone = decoding > 0 and self._decode_share.due
        # A generator whose batch is full only decodes.
        self._generator.completion_batch_size = 0 if alone else self._max_batch
        merged = False if alone else self._plan_prefill()
        self._draws.expect_step()
        begun = time.perf_counter()
        counters = self._generator._counters
        before = counters.prompt_tokens, counters.decode_time
        prompts, generated = self._generator.next()
        computed = counters.prompt_tokens - before[0]
        decode = counters.decode_time - before[1]
        spent = time.perf_counter() - begun - decode
        # All but decoding is the piece's, also moving rows between batches, which mlx-lm's own
        # `prompt_time` leaves out. Merging a prefix takes longer and tells nothing of the pace.
        if decoding:
            spent = self._decode_share.stepped(decode, spent if prompts else 0.0)
        else:
            self._decode_share.nothing_decodes()
        if computed and not merged:
            self._prefill.took(computed, spent)
            self._after_piece(computed, spent)
        prefilled = [self._prefilled(response) for response in prompts]
        tokens, broken, faults = [], [], {}
        for response in generated:
            running = self._running[response.uid]
            drawn, index = self._draws.take(response.uid, response.token)
            if running.steering is not None and running.steering.fault:
                faults[running.row.id] = running.steering.fault
            # Not the same as "at most minus infinity": NaN is neither.
            elif not drawn.chosen[index] > -math.inf:
                broken.append(running.row.id)
            else:
                row, end, logprob = running.row, response.finish_reason, None
                # The end token has no text, so it is not among the logprobs either.
                if row.logprobs is not None and end != "stop":
                    top = drawn.top[index][: row.logprobs] if row.logprobs else []
                    logprob = self.text.logprob(response.token, drawn.chosen[index], top)
                tokens.append(Token(row.id, response.token, logprob, end))
                if end is not None:
                    self._ended.append((row, response.all_tokens, response.prompt_cache))
                    self._forget(response.uid)
                continue
            # What it computed is not worth keeping. A row that has ended left mlx-lm by itself.
            if response.finish_reason is None:
                self._generator.remove([response.uid])
            self._forget(response.uid)
        return BatchStep(prefilled, tokens, broken, faults)

    def _plan_prefill(self) -> bool:
        """Choose whose prompts are computed next, and how much of them.

        Says whether cached prefixes are to be merged with it, which takes longer than the piece.
        """
        decoding = self._generator._generation_batch.uids
        if not self._queue and len(self._running) == len(decoding):
            return False
        prefilling = [row for uid, row in self._running.items() if uid not in decoding]
        begun = self._next_prompts(prefilling)
        left = [row.to_prefill for row in prefilling] + [self._begin(queued) for queued in begun]
        if left:
            waiting = len(left) + len(self._queue)
            size = self._prefill.piece(left, waiting=waiting, decoding=len(decoding))
            # The batch of prompts got a copy when it was made.
            self._generator.prefill_step_size = size
            self._generator._prompt_batch.prefill_step_size = size
        return any(queued.hit.cached for queued in begun)

    def _next_prompts(self, prefilling: Sequence[RunningRow]) -> list[_Queued]:
        """Those of the queue that begin now, beside those that are being prefilled."""
        queue = self._fair_queue()
        if not self._ability.padded:
            # Padding beside a longer prompt would get into the state of this one.
            return queue[: 0 if prefilling else 1]
        if not prefilling:
            return queue[: self._prefill.together([row.to_prefill for row in queue])]
        left = [row.to_prefill for row in prefilling]
        begun: list[_Queued] = []
        ahead: list[RunningRow | _Queued] = [*prefilling]
        for queued in queue:
            size = queued.to_prefill
            if self._prefill.overtakes(left, size, min(other.patience for other in ahead)):
                for other in ahead:
                    other.patience -= size
                begun.append(queued)
            else:
                ahead.append(queued)
        return begun

    def _fair_queue(self) -> list[_Queued]:
        """The queue as its keys' shares order it; one key's rows in the order of their coming."""
        queue = list(self._queue.values())
        if len({queued.row.group for queued in queue}) > 1:
            begun = [running.row for running in self._running.values()]
            loads = self._fairness.loads(begun)
            queue.sort(key=lambda queued: loads.get(queued.row.group, 0.0))
        return queue

    def _begin(self, queued: _Queued) -> int:
        """Hand a row over to mlx-lm; its tokens to prefill."""
        row, hit = queued.row, queued.hit
        # A recurrent state can't be cut later: the prompt is, where a prefix is worth keeping.
        cuts = set() if self._cut_anywhere else {*row.boundaries, hit.fork or 0}
        inside = (edge for edge in sorted(cuts) if hit.cached < edge < len(row.tokens))
        edges = [hit.cached, *inside, len(row.tokens)]
        sampling = resolve(row.sampling)
        cache = hit.cache
        if cache is None and not self._ability.together:
            cache = lone_caches(self._loaded.model)
        steering = row.steering if isinstance(row.steering, Steering) else None
        (uid,) = self._generator.insert_segments(
            [[row.tokens[a:b] for a, b in pairwise(edges) if b > a]],
            max_tokens=[row.max_tokens],
            caches=None if cache is None else [cache],
            all_tokens=[row.tokens[: hit.cached]],
            samplers=[self._draws],
            logits_processors=[logits_processors(sampling, len(row.tokens))],
        )
        self._uids[row.id] = uid
        self._running[uid] = RunningRow(
            *(row, uid, sampling, steering), queued.to_prefill, queued.patience
        )
        del self._queue[row.id]
        return queued.to_prefill

    def _prefilled(self, response: PromptProcessingBatch.Response) -> Prefilled:
        running = self._running[response.uid]
        running.to_prefill = response.progress[1] - response.progress[0]
        if response.end_of_segment and not response.end_of_prompt and not self._cut_anywhere:
            self._keep_computed(response.uid)
        row = running.row
        return Prefilled(row.id, row.cached + response.progress[0], ready=response.end_of_prompt)

    def _keep_computed(self, uid: int) -> None:
        """Keep what a running row has computed so far."""
        cache, tokens = self._generator.extract_cache([uid])[uid]
        self._keep(self._running[uid].row, tokens, cache)

    def _keep(
        self,
        row: BatchRow,
        tokens: list[int],
        cache: Any,
        *,
        answered: bool = False,
        note: bytes = b"",
    ) -> None:
        if self._ability.reused:
            scope = self._scope(row.group)
            self._prefixes.put(scope, tokens, cache, answered=answered, note=note)

    def _scope(self, group: str) -> str:
        return scope_of(self._loaded.scope, group)

    def _forget(self, uid: int) -> None:
        running = self._running.pop(uid)
        del self._uids[running.row.id]
        self._draws.forget(uid)


def _remembered(row: BatchRow) -> bool:
    """Whether a next turn may go on from what a row said."""
    return bool(row.before) and row.end in WHOLE_ENDS
