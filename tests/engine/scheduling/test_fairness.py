"""What API keys get of a busy engine: by their weights, their limits, and never nothing."""

from collections import Counter
from collections.abc import Mapping

import pytest

from mlxd.engine.parsing.detokenize import RowText
from mlxd.engine.protocol import KeyShare, WaitRow
from mlxd.engine.scheduling.fairness import Fairness
from mlxd.engine.scheduling.scheduler import PATIENCE, BatchRow, Scheduler
from tests.engine.scheduling.test_scheduler import CountingBatch, Letters


class Engine:
    """A scheduler over a batch that computes nothing, with a clock of its own."""

    def __init__(
        self, keys: Mapping[str, KeyShare], *, max_batch: int = 4, room: int = 10**9
    ) -> None:
        self.now = 0.0
        self.batch = CountingBatch(chunk=1000, room=room)
        self.scheduler = Scheduler(
            self.batch, max_batch=max_batch, clock=lambda: self.now, fairness=Fairness(keys)
        )
        self.tokens: Counter[str] = Counter()
        self.begun: list[int] = []
        self.reasons: list[WaitRow] = []
        self._groups: dict[int, str] = {}

    def submit(
        self, group: str, count: int = 1, *, prompt: int = 20, answer: int = 30, priority: int = 0
    ) -> list[int]:
        """Queue so many rows of a group; their numbers."""
        ids = [len(self._groups) + 1 + n for n in range(count)]
        for row_id in ids:
            self._groups[row_id] = group
            tokens = [row_id * 10_000 + n for n in range(prompt)]
            text = RowText(Letters(), ())
            row = BatchRow(row_id, tokens, answer, text, group=group, priority=priority)
            self.scheduler.submit(row)
        return ids

    def keep(self, group: str, *, prompt: int = 20, answer: int = 30, waiting: int = 12) -> None:
        """Queue rows of a group until so many wait."""
        now = sum(self._groups[row_id] == group for row_id in self.scheduler.ids)
        self.submit(group, max(0, waiting - now), prompt=prompt, answer=answer)

    def step(self, seconds: float = 1.0) -> None:
        """One step, which takes so long; counts what was computed for whom."""
        self.now += seconds
        known = set(self.batch.rows)
        result = self.scheduler.step()
        self.reasons += result.waiting
        begun = dict.fromkeys(row.id for row in result.prefill if row.id not in known)
        self.begun += [row_id for row_id in begun if row_id not in self.begun]
        for item in result.decode:
            self.tokens[self._groups[item.id]] += 1
        for row in result.prefill:
            if row.figures.prefilled_tokens == row.figures.prompt_tokens:
                self.tokens[self._groups[row.id]] += row.figures.prompt_tokens


@pytest.mark.parametrize("max_batch", [1, 4, 8])
@pytest.mark.parametrize(("prompt", "answer"), [(20, 30), (300, 5), (5, 60)])
def test_weights_of_one_to_three_give_tokens_of_one_to_three(
    max_batch: int, prompt: int, answer: int
) -> None:
    engine = Engine({"b": KeyShare(weight=3.0)}, max_batch=max_batch)
    while sum(engine.tokens.values()) < 120 * (prompt + answer):
        engine.keep("a", prompt=prompt, answer=answer)
        engine.keep("b", prompt=prompt, answer=answer)
        engine.step(0.01)
    assert engine.tokens["b"] / engine.tokens["a"] == pytest.approx(3.0, rel=0.1)


def test_keys_with_other_requests_still_get_tokens_alike() -> None:
    engine = Engine({})
    while engine.tokens["long"] < 15_000:
        engine.keep("long", prompt=400, answer=60)
        engine.keep("short", prompt=10, answer=20)
        engine.step(0.01)
    assert engine.tokens["short"] / engine.tokens["long"] == pytest.approx(1.0, rel=0.1)


def test_who_comes_late_is_owed_nothing_of_the_time_before() -> None:
    engine = Engine({}, max_batch=2)
    for _ in range(300):
        engine.keep("early")
        engine.step(0.01)
    engine.tokens.clear()
    for _ in range(600):
        engine.keep("early")
        engine.keep("late")
        engine.step(0.01)
    assert engine.tokens["late"] / engine.tokens["early"] == pytest.approx(1.0, rel=0.1)


def test_a_key_has_no_more_rows_than_it_may() -> None:
    engine = Engine({"a": KeyShare(max_rows=1)})
    first, second = engine.submit("a", 2)
    engine.submit("b", 2)
    engine.step()
    assert first in engine.batch.rows
    assert len(engine.batch.rows) == 3
    assert WaitRow(second, "key") in engine.reasons
    while engine.scheduler.busy:
        engine.step()
    assert engine.begun[-1] == second


def test_a_keys_own_requests_go_by_priority_and_then_by_age() -> None:
    engine = Engine({}, max_batch=1)
    low = engine.submit("a", priority=-1)
    usual = engine.submit("a", 2)
    high = engine.submit("a", priority=1)
    while engine.scheduler.busy:
        engine.step(0.01)
    assert engine.begun == [*high, *usual, *low]


def test_priority_takes_nothing_from_other_keys() -> None:
    engine = Engine({}, max_batch=1)
    engine.submit("a", 20, priority=1)
    engine.submit("b", 20, priority=-1)
    for _ in range(600):
        engine.step(0.01)
    assert engine.tokens["a"] / engine.tokens["b"] == pytest.approx(1.0, rel=0.15)


def test_a_request_of_low_priority_waits_no_longer_than_it_must() -> None:
    engine = Engine({}, max_batch=1)
    engine.submit("a", priority=1)
    (low,) = engine.submit("a", priority=-1)
    while engine.now < 2 * PATIENCE:
        engine.submit("a", priority=1, answer=2)
        engine.step()
    assert low in engine.begun


def test_a_key_of_hardly_any_weight_has_its_turn_too() -> None:
    engine = Engine({"a": KeyShare(weight=0.001)}, max_batch=1)
    engine.submit("a", 2, answer=5)
    while engine.now < 3 * PATIENCE:
        engine.keep("b", answer=5)
        engine.step()
    assert {1, 2} <= set(engine.begun)


def test_a_large_row_holds_others_back_for_memory_once_it_is_old() -> None:
    engine = Engine({}, room=200)
    engine.submit("a", answer=10)
    (large,) = engine.submit("a", prompt=150, answer=10)
    while engine.now < 1.5 * PATIENCE + 20:
        engine.submit("a", prompt=10, answer=10)
        engine.step()
    assert large in engine.begun


def test_who_has_left_counts_with_what_was_computed() -> None:
    engine = Engine({}, max_batch=1)
    (gone,) = engine.submit("a", prompt=500)
    engine.submit("a", 2)
    engine.submit("b", 2)
    engine.step()
    engine.scheduler.cancel(gone)
    while engine.scheduler.busy:
        engine.step(0.01)
    # Its prompt was computed, and `b` had nothing yet.
    assert engine.begun[1:] == [4, 5, 2, 3]
