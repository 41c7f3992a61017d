"""Which rows mlx-lm draws for, and what was drawn for each until mlx-lm returns it."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from mlxd.engine.batching.sampling import Draw, Drawn, RowSampling, async_eval, masked
from mlxd.engine.grammar.token_masks import Steering
from mlxd.engine.scheduling.scheduler import BatchRow


@dataclass
class RunningRow:
    """A row that mlx-lm computes; `uid` is its number there."""

    row: BatchRow
    uid: int
    sampling: RowSampling
    steering: Steering | None
    to_prefill: int
    """Tokens of the prompt that are not computed yet."""
    patience: int
    """Tokens of shorter prompts, come later, by which it may still be held up: as many as it had to
    compute itself, so that a stream of short ones doubles a long one's time and no more."""


class _Group:
    """The rows of one call, which are mostly those of the call before."""

    def __init__(self, uids: list[int], rows: Sequence[RunningRow]) -> None:
        self.uids = uids
        self.draw = Draw([running.sampling for running in rows])
        self.steered = [
            (index, running.steering) for index, running in enumerate(rows) if running.steering
        ]
        self.top = max((running.row.logprobs or 0 for running in rows), default=0)


class Draws:
    """The sampler of all rows, which remembers what it drew until mlx-lm returns it.

    mlx-lm runs one step ahead: what is drawn now is returned by the next step, so that each row has
    up to two results waiting here.
    """

    def __init__(self, generator: BatchGenerator, running: dict[int, RunningRow]) -> None:
        self._generator = generator
        self._running = running
        self._results: defaultdict[int, deque[tuple[Drawn, int]]] = defaultdict(deque)
        self._group = _Group([], [])
        self._decoding: list[int] = []
        self._stepped = True

    def expect_step(self) -> None:
        """The next call is for the rows that decode; one after it for rows leaving prefill."""
        assert self._stepped, "mlx-lm did not draw for the rows that decode"
        self._decoding = list(self._generator._generation_batch.uids)
        self._stepped = not self._decoding

    def __call__(self, logprobs: mx.array) -> mx.array:
        uids = self._uids()
        # A wrong guess would give each row another row's seed, grammar and logprobs, in silence.
        if len(uids) != len(logprobs):
            raise AssertionError("mlx-lm draws for other rows than expected")
        # mlx-lm never uses a number twice, so the same numbers are the same rows.
        if uids != self._group.uids:
            self._group = _Group(uids, [self._running[uid] for uid in uids])
        group, results = self._group, self._results
        tokens = self._steered(logprobs, group) if group.steered else group.draw(logprobs)
        drawn = Drawn(logprobs, tokens, group.top)
        for index, uid in enumerate(uids):
            results[uid].append((drawn, index))
        return tokens

    def _steered(self, logprobs: mx.array, group: _Group) -> mx.array:
        """The tokens of all rows, each drawn from what it may be.

        A token's logprob is the model's own, from before the mask.
        """
        # The device computes the logits while the CPU makes the masks.
        async_eval(logprobs)
        masks = {}
        for index, steering in group.steered:
            # A grammar can go on only from a token that is known, so this waits for the last draw.
            if results := self._results.get(group.uids[index]):
                drawn, at = results[-1]
                steering.took(drawn.tokens[at])
            mask = steering.allowed()
            if mask is not None:
                masks[index] = mask
        tokens = group.draw(masked(logprobs, masks) if masks else logprobs)
        if not any(steering.settles for _, steering in group.steered):
            # Reading the tokens would wait for the device, which is to run ahead.
            return tokens
        settled = cast(list[int], tokens.tolist())
        for index, steering in group.steered:
            if steering.settles:
                settled[index] = steering.settle(settled[index])
        return mx.array(settled, dtype=tokens.dtype)

    def take(self, uid: int, token: int) -> tuple[Drawn, int]:
        """The result for `token`, which mlx-lm has just returned for `uid`, and its row there."""
        drawn, index = self._results[uid].popleft()
        assert drawn.tokens[index] == token, "mlx-lm returns another token than was drawn"
        return drawn, index

    def forget(self, uid: int) -> None:
        """A row has left."""
        self._results.pop(uid, None)

    def _uids(self) -> list[int]:
        if not self._stepped:
            self._stepped = True
            return self._decoding
        # Who leaves prefill is on no list of mlx-lm's while it is drawn for, and in order of age.
        elsewhere = set(self._decoding) | set(self._generator._prompt_batch.uids)
        elsewhere.update(sequence[0] for sequence in self._generator._unprocessed_sequences)
        return sorted(set(self._running) - elsewhere)
