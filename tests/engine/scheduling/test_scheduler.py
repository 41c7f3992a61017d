"""The scheduler as a pure state machine, over a batch that computes nothing."""

import random
from collections import Counter

from mlxd.engine.parsing.detokenize import RowText
from mlxd.engine.protocol import DecodeRow, WaitRow
from mlxd.engine.scheduling.repetition import RepetitionGuard
from mlxd.engine.scheduling.scheduler import (
    SHARED_TOKENS,
    BatchRow,
    BatchStep,
    Prefilled,
    Scheduler,
    StepResult,
    Token,
)


class Letters:
    """Detokenizer: token n is the letter n."""

    def add(self, token: int) -> str:
        return chr(token)

    def finish(self) -> str:
        return ""


class CountingBatch:
    """Prefills `chunk` tokens a step, then answers `abc…` until a row's limit."""

    def __init__(self, *, chunk: int = 10, room: int = 10**9) -> None:
        self.chunk = chunk
        self.room = room
        self.rows: dict[int, BatchRow] = {}
        self.done: dict[int, int] = {}
        self.out: Counter[int] = Counter()
        self.shared: list[int] = []
        self.removed: list[int] = []
        self.known: list[list[int]] = []
        self.broken: set[int] = set()
        self.searched = 0
        self.forgetful = False
        self.same = False
        """Whether each token is the same."""

    def reach(self, row: BatchRow) -> int:
        best, self.searched = 0, self.searched + 1
        for tokens in self.known:
            same = 0
            while same < min(len(tokens), len(row.tokens)) and tokens[same] == row.tokens[same]:
                same += 1
            best = max(best, same)
        return best

    def insert(self, row: BatchRow) -> None:
        row.cached = min(self.reach(row), len(row.tokens) - 1)
        self.rows[row.id] = row
        self.done[row.id] = row.cached

    def remove(self, row_id: int) -> None:
        del self.rows[row_id]
        self.removed.append(row_id)

    def share(self, row_id: int) -> None:
        self.shared.append(row_id)
        if not self.forgetful:
            self.known.append(self.rows[row_id].tokens)

    def fits(self, longest: int, rows: int) -> bool:
        return longest * rows <= self.room

    def step(self) -> BatchStep:
        prefilled, tokens = [], []
        broken = [row_id for row_id in self.rows if row_id in self.broken]
        for row_id in broken:
            del self.rows[row_id]
        for row in list(self.rows.values()):
            if self.done[row.id] < len(row.tokens):
                self.done[row.id] = min(self.done[row.id] + self.chunk, len(row.tokens))
                ready = self.done[row.id] == len(row.tokens)
                prefilled.append(Prefilled(row.id, self.done[row.id], ready=ready))
                continue
            self.out[row.id] += 1
            end = "length" if self.out[row.id] >= row.max_tokens else None
            if end:
                del self.rows[row.id]
            letter = ord("a") + (0 if self.same else self.out[row.id] - 1)
            tokens.append(Token(row.id, letter, end=end))
        return BatchStep(prefilled, tokens, broken)


def make(batch: CountingBatch, *, max_batch: int = 4) -> Scheduler:
    ticks = iter(range(10**9))
    return Scheduler(batch, max_batch=max_batch, clock=lambda: float(next(ticks)))


def row(
    row_id: int,
    *,
    prompt: list[int] | int = 5,
    max_tokens: int = 3,
    stops: tuple[str, ...] = (),
    group: str = "",
) -> BatchRow:
    tokens = (
        list(range(row_id * 1000, row_id * 1000 + prompt)) if isinstance(prompt, int) else prompt
    )
    return BatchRow(row_id, tokens, max_tokens, RowText(Letters(), stops), group=group)


def finish(scheduler: Scheduler) -> list[StepResult]:
    results = []
    while scheduler.busy:
        results.append(scheduler.step())
        assert len(results) < 10_000
    return results


def rows_of(results: list[StepResult], row_id: int) -> list[DecodeRow]:
    return [item for result in results for item in result.decode if item.id == row_id]


def text_of(results: list[StepResult], row_id: int) -> str:
    return "".join(item.text for item in rows_of(results, row_id))


def test_a_row_is_prefilled_then_decoded_then_gone() -> None:
    scheduler = make(CountingBatch())
    scheduler.submit(row(1, prompt=25))
    results = finish(scheduler)
    assert [
        (p.figures.prefilled_tokens, p.figures.prompt_tokens)
        for result in results
        for p in result.prefill
    ] == [
        (0, 25),
        (10, 25),
        (20, 25),
        (25, 25),
    ]
    assert text_of(results, 1) == "abc"
    assert [item.end.reason for item in rows_of(results, 1) if item.end] == ["length"]


def test_who_is_let_in_is_reported_once_before_anything_is_computed() -> None:
    batch = CountingBatch()
    scheduler = make(batch, max_batch=1)
    for number in (1, 2):
        scheduler.submit(row(number))
    assert [(item.id, item.figures.prefilled_tokens) for item in scheduler.admit().prefill] == [
        (1, 0)
    ]
    assert batch.done == {1: 0}
    assert [(item.id, item.figures.prefilled_tokens) for item in scheduler.step().prefill] == [
        (1, 5)
    ]


def test_stop_string_across_tokens_ends_the_row_and_frees_its_place() -> None:
    batch = CountingBatch()
    scheduler = make(batch)
    scheduler.submit(row(1, max_tokens=20, stops=("cd",)))
    results = finish(scheduler)
    end = rows_of(results, 1)[-1].end
    assert text_of(results, 1) == "ab"
    assert end is not None
    assert (end.reason, end.stop_sequence) == ("stop_sequence", "cd")
    assert batch.removed == [1]


def test_stop_string_completed_by_the_last_token_wins_over_length() -> None:
    scheduler = make(CountingBatch())
    scheduler.submit(row(1, max_tokens=3, stops=("bc",)))
    results = finish(scheduler)
    end = rows_of(results, 1)[-1].end
    assert text_of(results, 1) == "a"
    assert end is not None
    assert end.reason == "stop_sequence"


def test_a_row_that_only_repeats_itself_ends_and_leaves_the_batch() -> None:
    batch = CountingBatch()
    scheduler = make(batch)
    looping = row(1, max_tokens=4000)
    looping.guard = RepetitionGuard(lambda _: False)
    scheduler.submit(looping)
    batch.same = True
    last = rows_of(finish(scheduler), 1)[-1]
    assert last.end is not None
    assert (last.end.reason, last.figures.completion_tokens) == ("repetition", 512)
    assert batch.removed == [1]


def test_every_generated_token_is_counted() -> None:
    scheduler = make(CountingBatch())
    scheduler.submit(row(1, max_tokens=7, stops=("zz",)))
    assert sum(item.tokens for item in rows_of(finish(scheduler), 1)) == 7


def test_the_batch_never_holds_more_than_its_limit() -> None:
    batch = CountingBatch()
    scheduler = make(batch, max_batch=3)
    for number in range(10):
        scheduler.submit(row(number))
    while scheduler.busy:
        scheduler.step()
        assert len(batch.rows) <= 3


def test_the_least_served_key_goes_first() -> None:
    batch = CountingBatch()
    scheduler = make(batch, max_batch=2)
    for number in range(4):
        scheduler.submit(row(number, group="greedy", max_tokens=20))
    scheduler.submit(row(9, group="modest", max_tokens=1))
    scheduler.step()
    assert set(batch.rows) == {0, 9}


def test_a_smaller_row_overtakes_one_that_does_not_fit() -> None:
    batch = CountingBatch(room=100)
    scheduler = make(batch)
    scheduler.submit(row(1, prompt=40, max_tokens=5))
    scheduler.submit(row(2, prompt=80, max_tokens=5))
    scheduler.submit(row(3, prompt=5, max_tokens=5))
    scheduler.step()
    assert set(batch.rows) == {1, 3}
    finish(scheduler)
    assert batch.out == Counter({1: 5, 2: 5, 3: 5})


def test_why_a_row_waits_is_reported_when_it_is_new() -> None:
    scheduler = make(CountingBatch(room=100), max_batch=2)
    scheduler.submit(row(1, prompt=40, max_tokens=5))
    scheduler.submit(row(2, prompt=80, max_tokens=5))
    assert scheduler.admit().waiting == (WaitRow(2, "memory"),)
    assert scheduler.step().waiting == ()
    reported = [item for result in finish(scheduler) for item in result.waiting]
    assert reported == []


def test_who_waited_for_a_prefill_and_then_finds_no_room_waits_for_memory() -> None:
    prompt = list(range(SHARED_TOKENS * 3))
    scheduler = make(CountingBatch(room=2 * (len(prompt) + 50)))
    for number in (1, 2):
        scheduler.submit(row(number, prompt=prompt, max_tokens=50, group="mine"))
    assert scheduler.admit().waiting == (WaitRow(2, "prefix"),)
    scheduler.submit(row(3, max_tokens=len(prompt), group="another's"))
    reported = [item for result in finish(scheduler) for item in result.waiting]
    assert reported == [WaitRow(2, "memory")]


def test_a_full_batch_and_a_shared_prefill_are_reasons_to_wait() -> None:
    scheduler = make(CountingBatch(), max_batch=2)
    prompt = list(range(SHARED_TOKENS * 3))
    for number in (1, 2):
        scheduler.submit(row(number, prompt=prompt, max_tokens=50))
    assert scheduler.admit().waiting == (WaitRow(2, "prefix"),)
    scheduler.submit(row(3))
    scheduler.submit(row(4))
    reported = [(item.id, item.reason) for result in finish(scheduler) for item in result.waiting]
    assert reported == [(2, "batch"), (4, "batch"), (2, "prefix")]


def test_rows_with_one_prompt_share_its_prefill() -> None:
    batch = CountingBatch(chunk=50)
    scheduler = make(batch)
    prompt = list(range(SHARED_TOKENS * 3))
    for number in range(3):
        scheduler.submit(row(number, prompt=prompt))
    results = finish(scheduler)
    cached = {item.id: item.figures.cached_tokens for result in results for item in result.prefill}
    assert cached == {0: 0, 1: len(prompt) - 1, 2: len(prompt) - 1}
    assert batch.shared == [0]


def test_rows_of_different_keys_never_share() -> None:
    batch = CountingBatch()
    scheduler = make(batch)
    prompt = list(range(SHARED_TOKENS * 3))
    for number in range(2):
        scheduler.submit(row(number, prompt=prompt, group=str(number)))
    scheduler.step()
    assert set(batch.rows) == {0, 1}


def test_a_row_that_waits_for_a_shared_prefill_starts_when_that_is_cancelled() -> None:
    batch = CountingBatch()
    scheduler = make(batch)
    prompt = list(range(SHARED_TOKENS * 3))
    for number in range(2):
        scheduler.submit(row(number, prompt=prompt))
    scheduler.step()
    scheduler.cancel(0)
    assert text_of(finish(scheduler), 1) == "abc"


def test_a_broken_row_leaves_and_the_others_go_on() -> None:
    batch = CountingBatch()
    scheduler = make(batch)
    scheduler.submit(row(1))
    scheduler.submit(row(2))
    batch.broken = {1}
    results = finish(scheduler)
    assert [row_id for result in results for row_id in result.broken] == [1]
    assert text_of(results, 2) == "abc"


def test_cancel_is_right_in_every_state_and_twice() -> None:
    batch = CountingBatch()
    scheduler = make(batch, max_batch=1)
    scheduler.submit(row(1, max_tokens=50))
    scheduler.submit(row(2))
    for _ in range(3):
        scheduler.step()
    for row_id in (2, 1, 1, 99):
        scheduler.cancel(row_id)
    assert not scheduler.busy
    assert batch.rows == {}


def test_random_schedules_end_every_row_exactly_once() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(200):
        batch = CountingBatch(chunk=rng.choice([3, 50]), room=rng.choice([200, 10**9]))
        limit = rng.randint(1, 5)
        scheduler = make(batch, max_batch=limit)
        ended: Counter[int] = Counter()
        cancelled: set[int] = set()
        todo = list(range(rng.randint(1, 15)))
        while todo or scheduler.busy:
            if todo and rng.random() < 0.4:
                number = todo.pop()
                size = rng.randint(1, 100)
                scheduler.submit(
                    row(
                        number,
                        prompt=size if rng.random() < 0.5 else list(range(size)),
                        max_tokens=rng.randint(1, 9),
                        stops=rng.choice([(), ("bc",), ("ef", "d")]),
                        group=rng.choice("xy"),
                    )
                )
            if scheduler.ids and rng.random() < 0.1:
                victim = rng.choice(scheduler.ids)
                scheduler.cancel(victim)
                cancelled.add(victim)
            ended.update(item.id for item in scheduler.step().decode if item.end is not None)
            assert len(batch.rows) <= limit, f"seed {seed}"
        assert batch.rows == {}, f"seed {seed}"
        assert max(ended.values(), default=0) <= 1, f"seed {seed}"
        assert not set(ended) & cancelled, f"seed {seed}"


def test_waiting_for_a_shared_prefill_is_not_worked_out_again_each_step() -> None:
    batch = CountingBatch()
    scheduler = make(batch)
    for number in (1, 2, 3):
        scheduler.submit(row(number, prompt=list(range(2000))))
    for _ in range(100):
        scheduler.step()
    assert list(batch.rows) == [1]
    assert batch.searched < 10


def test_rows_wait_once_where_a_shared_prefill_can_not_be_kept() -> None:
    batch = CountingBatch()
    batch.forgetful = True
    scheduler = make(batch)
    for number in (1, 2, 3):
        scheduler.submit(row(number, prompt=list(range(200)), max_tokens=100))
    while not batch.shared:
        scheduler.step()
    scheduler.step()
    assert list(batch.rows) == [1, 2, 3]
    finish(scheduler)
