"""The life of a request in the engine, as a pure state machine: no thread, no clock, no MLX.

    waiting ──admit──▶ prefill ──first token──▶ decode ──end──▶ gone
       └───────────────── cancel, from every state ─────────────▶ gone

One scheduler serves one model. It decides who enters the batch and turns the batch's tokens into
final text; the batch computes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

import msgspec

from mlxd.engine.parsing.detokenize import NO_TEXT, FinalText, RowText
from mlxd.engine.protocol import DecodeRow, EndRow, PrefillRow, WaitReason, WaitRow
from mlxd.engine.scheduling.fairness import Fairness
from mlxd.engine.scheduling.repetition import RepetitionGuard
from mlxd.events import CacheNote, Timings, TokenLogprob
from mlxd.messages import Sampling
from mlxd.status import RowFigures

PATIENCE = 30.0
"""A row that has waited for so many seconds goes first in its group, and a group that has had no
turn for so long first of all."""
SHARED_TOKENS = 64
"""A waiting prompt lets a prefill finish first that shares so much more with it than is cached."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """One token of one row; `end` is `stop` at an end token, `length` at the row's limit."""

    id: int
    token: int
    logprob: TokenLogprob | None = None
    end: str | None = None


@dataclass(frozen=True)
class Prefilled:
    """`done` tokens of the row's prompt are computed; `ready` once it decodes."""

    id: int
    done: int
    ready: bool = False


@dataclass(frozen=True)
class BatchStep:
    """What one step of a batch brought.

    `broken` rows computed something that is not a number; `faults` says why other rows can't go on.
    """

    prefilled: Sequence[Prefilled] = ()
    tokens: Sequence[Token] = ()
    broken: Sequence[int] = ()
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass
class BatchRow:
    """A prepared request. `group` names whose it is, for fairness between keys; those of one group
    go by `priority`, then in the order of their coming.

    `window` says that no more than `max_tokens` fit into the model's window. `steering` is the
    batch's own: what may be drawn next, None for everything. `guard` ends it where it only repeats
    itself. `awaits` is the row
    whose prefill this one waits for, or waited for last, with `reached` tokens cached at that time.
    `waits` is why it is still waiting, as it was reported last. `before` names its prompt for turns
    that go on from its answer, which `begins` at that token, and `prompt_note` says why an earlier
    answer is not in the prompt as it was said. `end` is why it ended.
    """

    id: int
    tokens: list[int]
    max_tokens: int
    text: RowText
    group: str = ""
    priority: int = 0
    boundaries: tuple[int, ...] = ()
    before: bytes = b""
    begins: int = 0
    prompt_note: CacheNote | None = None
    sampling: Sampling = Sampling()
    logprobs: int | None = None
    window: bool = False
    steering: object | None = None
    guard: RepetitionGuard | None = None
    submitted: float = 0.0
    admitted: float = 0.0
    first_token: float = 0.0
    cached: int = 0
    cache_note: CacheNote | None = None
    prefilled: int = 0
    decoding: bool = False
    generated: int = 0
    awaited: bool = False
    awaits: int | None = None
    reached: int = 0
    waits: WaitReason | None = None
    end: str = ""

    @property
    def most_tokens(self) -> int:
        """The most tokens this row can come to hold."""
        return len(self.tokens) + self.max_tokens

    @property
    def figures(self) -> RowFigures:
        """What the server shows of it."""
        return RowFigures(
            prompt_tokens=len(self.tokens),
            cached_tokens=self.cached,
            prefilled_tokens=self.prefilled,
            completion_tokens=self.generated,
            cache_note=self.cache_note,
        )


class Batch(Protocol):
    """The computing side; rows are known by `BatchRow.id`."""

    def reach(self, row: BatchRow) -> int:
        """How many tokens of the row's prompt are cached now."""

    def insert(self, row: BatchRow) -> None:
        """Begin; sets the row's `cached` and `cache_note`."""

    def remove(self, row_id: int) -> None:
        """Forget a row, keeping what it computed as a prefix for others."""

    def share(self, row_id: int) -> None:
        """Make the row's computed prompt available to `insert` of other rows now."""

    def step(self) -> BatchStep:
        """One decode step and one bounded piece of prefill."""

    def fits(self, longest: int, rows: int) -> bool:
        """Whether `rows` rows of up to `longest` tokens fit into memory."""


@dataclass(frozen=True)
class StepResult:
    """What one step brought, in the words of the socket."""

    prefill: tuple[PrefillRow, ...] = ()
    decode: tuple[DecodeRow, ...] = ()
    broken: tuple[int, ...] = ()
    faults: Mapping[int, str] = field(default_factory=dict)
    waiting: tuple[WaitRow, ...] = ()


_NOTHING = StepResult()


class Scheduler:
    """Admits rows fairly, keeps the batch full, ends rows."""

    def __init__(
        self,
        batch: Batch,
        *,
        max_batch: int,
        clock: Callable[[], float],
        fairness: Fairness | None = None,
    ) -> None:
        self._batch = batch
        self._max_batch = max_batch
        self._clock = clock
        self._fairness = fairness or Fairness({})
        self._waiting: list[BatchRow] = []
        self._turns: dict[str, float] = {}
        """When each group had its last turn, or began to wait for one."""
        self._rows: dict[int, BatchRow] = {}

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._rows)

    @property
    def ids(self) -> list[int]:
        """Everything that is waiting or running."""
        return [row.id for row in self._waiting] + list(self._rows)

    def submit(self, row: BatchRow) -> None:
        """Queue a row."""
        row.submitted = self._clock()
        self._fairness.joined(row.group, tuple(self._rows.values()), self._waiting)
        if all(other.group != row.group for other in self._waiting):
            self._turns[row.group] = row.submitted
        self._waiting.append(row)

    def cancel(self, row_id: int) -> None:
        """Forget a row in whatever state it is; unknown ids are ignored."""
        self._waiting = [row for row in self._waiting if row.id != row_id]
        if row_id in self._rows:
            self._leave(row_id)
            self._batch.remove(row_id)

    def admit(self) -> StepResult:
        """Let in what fits; what these rows begin with, and why the others still wait."""
        if not self._waiting:
            return _NOTHING
        prefill: list[PrefillRow] = []
        while len(self._rows) < self._max_batch and (row := self._next()) is not None:
            self._waiting.remove(row)
            row.admitted = self._turns[row.group] = self._clock()
            self._batch.insert(row)
            # The answer's first token is drawn from the logits of the prompt's last one.
            assert row.cached < len(row.tokens), "a prompt with nothing left to compute"
            self._rows[row.id] = row
            prefill.append(self._progress(row, row.cached))
        return StepResult(tuple(prefill), waiting=tuple(self._new_reasons()))

    def step(self) -> StepResult:
        """Admit what fits, compute one step, report it."""
        admitted = self.admit()
        step = self._batch.step()
        # The batch reports only rows that are here: a cancelled one has left both at once.
        for row_id in (*step.broken, *step.faults):
            self._leave(row_id)
        prefill = [self._prefilled(item) for item in step.prefilled]
        decode = [self._decoded(token) for token in step.tokens]
        return StepResult(
            prefill=(*admitted.prefill, *prefill),
            decode=tuple(decode),
            broken=tuple(step.broken),
            faults=step.faults,
            waiting=admitted.waiting,
        )

    def _leave(self, row_id: int) -> None:
        self._fairness.ended(self._rows.pop(row_id))

    def _new_reasons(self) -> Iterator[WaitRow]:
        """Why each row waits that was not admitted, where that was not reported yet."""
        full = len(self._rows) >= self._max_batch
        prefilling = {row.id for row in self._rows.values() if not row.decoding}
        held = self._held_groups()
        for row in self._waiting:
            reason: WaitReason = "memory"
            if row.group in held:
                reason = "key"
            elif full:
                reason = "batch"
            elif row.awaits in prefilling:
                reason = "prefix"
            # Only news: each message costs the server something, and a long queue waits for long.
            if reason != row.waits:
                row.waits = reason
                yield WaitRow(row.id, reason)

    def _held_groups(self) -> set[str]:
        """The groups that have as many rows in the batch as they may."""
        counts = Counter(row.group for row in self._rows.values())
        limits = {group: self._fairness.share(group).max_rows for group in counts}
        return {
            group for group, most in limits.items() if most is not None and counts[group] >= most
        }

    def _next(self) -> BatchRow | None:
        """The row to start now: of the least served group, but for one that is overdue."""
        held = self._held_groups()
        waiting = [row for row in self._waiting if row.group not in held]
        overdue = self._clock() - PATIENCE
        loads = self._fairness.loads(self._rows.values())

        def place(row: BatchRow) -> tuple[bool, float, bool, int]:
            group, late = row.group, row.submitted < overdue
            in_turn = self._turns[group] >= overdue
            return in_turn, loads.get(group, 0.0), not late, 0 if late else -row.priority

        # The sort is stable: among equals the first to come is the first to go.
        for row in sorted(waiting, key=place):
            longest = max(other.most_tokens for other in [row, *self._rows.values()])
            # One alone is let in: whether its prompt fits was checked when it was prepared.
            if self._rows and not self._batch.fits(longest, len(self._rows) + 1):
                # Smaller ones may overtake it, but not for ever.
                if row.submitted < overdue:
                    return None
            elif not self._awaits_shared_prefill(row):
                return row
        return None

    def _awaits_shared_prefill(self, row: BatchRow) -> bool:
        prefilling = [
            other
            for other in self._rows.values()
            if not other.decoding and other.group == row.group
        ]
        # This runs at each step: comparing prompts anew would hold up the rows that decode.
        if any(other.id == row.awaits for other in prefilling):
            return True
        if not prefilling:
            return False
        reach = self._batch.reach(row)
        if row.awaits is not None and reach <= row.reached:
            # Waiting brought nothing: what the other computed could not be kept or cut.
            return False
        for other in prefilling:
            if _common(other.tokens, row.tokens) >= SHARED_TOKENS + reach:
                other.awaited = True
                row.awaits, row.reached = other.id, reach
                return True
        return False

    def _progress(self, row: BatchRow, done: int) -> PrefillRow:
        row.prefilled = done
        return PrefillRow(row.id, row.figures)

    def _prefilled(self, item: Prefilled) -> PrefillRow:
        row = self._rows[item.id]
        if item.ready:
            row.decoding = True
            # Keeping a prefix copies it, so it is done only where another row waits for it.
            if row.awaited:
                self._batch.share(row.id)
        return self._progress(row, item.done)

    def _decoded(self, token: Token) -> DecodeRow:
        row = self._rows[token.id]
        if row.generated == 0:
            row.first_token = self._clock()
        row.generated += 1
        end = token.end
        # An end token has no text of its own.
        piece = NO_TEXT if end == "stop" else row.text.add(token.token, token.logprob)
        if piece.stop is not None:
            # Where the batch has ended the row by itself it has removed it too.
            if end is None:
                self._batch.remove(row.id)
            return self._ended(row, piece, "stop_sequence")
        if end is None and row.guard is not None and row.guard.add(token.token):
            self._batch.remove(row.id)
            end = "repetition"
        if end is None:
            return DecodeRow(row.id, row.figures, piece.text, 1, piece.logprobs)
        # What was held back as the possible beginning of a stop string is text after all.
        rest = row.text.finish()
        piece = FinalText(piece.text + rest.text, piece.logprobs + rest.logprobs, rest.stop)
        return self._ended(row, piece, "stop_sequence" if rest.stop else end)

    def _ended(self, row: BatchRow, piece: FinalText, reason: str) -> DecodeRow:
        self._leave(row.id)
        row.end = reason
        now = self._clock()
        timings = Timings(
            queue=row.admitted - row.submitted,
            prefill=row.first_token - row.admitted,
            decode=now - row.first_token,
        )
        end = EndRow(reason, piece.stop, timings, window=row.window and reason == "length")
        return DecodeRow(row.id, row.figures, piece.text, 1, piece.logprobs, end)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
