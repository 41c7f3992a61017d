"""The real batch on the tiny model, with the BLAS whose rows do not depend on the batch."""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.batching.row_trial import EVERYTHING, RowAbility
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.parsing.detokenize import RowText
from mlxd.engine.prompt.answers import Answers
from mlxd.engine.protocol import ModelSpec, PrefillRow
from mlxd.engine.scheduling.scheduler import BatchRow, Scheduler
from mlxd.events import TokenLogprob
from mlxd.messages import Sampling
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

GREEDY = Sampling(temperature=0)
SAMPLINGS = (
    GREEDY,
    Sampling(temperature=0.8, top_p=0.9, seed=11),
    Sampling(temperature=1.0, seed=5),
    Sampling(temperature=1.2, top_k=10, min_p=0.05, seed=3),
    Sampling(temperature=0, presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=1.3),
    Sampling(temperature=0.5, seed=1, logit_bias={5: 3.0}),
)


class Wanted(msgspec.Struct, frozen=True):
    """One row to run."""

    tokens: tuple[int, ...]
    max_tokens: int = 8
    sampling: Sampling = GREEDY
    logprobs: int | None = 3
    stops: tuple[str, ...] = ()
    boundaries: tuple[int, ...] = ()


@dataclass
class Got:
    """What a row gave."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    tokens: int = 0
    reason: str = ""
    cached: int = 0
    prefill: list[PrefillRow] = field(default_factory=list)
    broken: bool = False

    @property
    def output(self) -> tuple[str, list[TokenLogprob], int, str]:
        return self.text, self.logprobs, self.tokens, self.reason


class Bench:
    """A scheduler on a fresh batch of the tiny model."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        prefixes: Prefixes | None = None,
        answers: Answers | None = None,
        prefill_budget: float = 0.25,
        ability: RowAbility = EVERYTHING,
    ) -> None:
        self._loaded = loaded
        self.batch = MlxBatch(
            loaded,
            prefixes if prefixes is not None else Prefixes(0),
            answers=answers,
            ability=ability,
            max_batch=8,
            prefill_budget=prefill_budget,
        )
        self.batch.kv_bytes = 2**40
        self.scheduler = Scheduler(
            self.batch, max_batch=8 if ability.together else 1, clock=time.monotonic
        )
        self.got: dict[int, Got] = {}

    def submit(self, number: int, wanted: Wanted) -> None:
        self.got[number] = Got()
        text = RowText(self.batch.text.detokenizer(), wanted.stops)
        self.scheduler.submit(
            BatchRow(
                id=number,
                tokens=list(wanted.tokens),
                max_tokens=wanted.max_tokens,
                text=text,
                boundaries=wanted.boundaries,
                sampling=wanted.sampling,
                logprobs=wanted.logprobs,
            )
        )

    def step(self) -> None:
        result = self.scheduler.step()
        self.batch.settle()
        for number in result.broken:
            self.got[number].broken = True
        for row in result.prefill:
            self.got[row.id].prefill.append(row)
            self.got[row.id].cached = row.figures.cached_tokens
        for item in result.decode:
            got = self.got[item.id]
            got.text += item.text
            got.logprobs += item.logprobs
            got.tokens += item.tokens
            got.reason = item.end.reason if item.end else ""

    def run(self) -> dict[int, Got]:
        while self.scheduler.busy:
            self.step()
        return self.got


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return load(ModelSpec(id="tiny", source=str(folder)))


def endless(loaded: LoadedModel, **asked: float) -> Sampling:
    """Greedy unless asked otherwise, and never the end token."""
    never = dict.fromkeys(loaded.eos_ids, -100.0)
    return msgspec.convert({"temperature": 0.0, "logit_bias": never} | asked, Sampling)


def run(loaded: LoadedModel, wanted: Sequence[Wanted]) -> list[Got]:
    bench = Bench(loaded)
    for number, item in enumerate(wanted):
        bench.submit(number, item)
    return list(bench.run().values())


def some_rows(rng: random.Random, count: int) -> list[Wanted]:
    return [
        Wanted(
            tokens=tuple(rng.randrange(100) for _ in range(rng.choice([1, 2, 5, 17, 40, 90]))),
            max_tokens=rng.choice([1, 3, 8, 20]),
            sampling=rng.choice(SAMPLINGS),
            logprobs=rng.choice([None, 0, 3]),
            stops=rng.choice([(), ("a", "F"), (" the",)]),
        )
        for _ in range(count)
    ]


def test_batched_is_alone_bit_for_bit(loaded: LoadedModel) -> None:
    """Random schedules of joins, leaves and cancels, with and without a prefix cache."""
    rng = random.Random(20261123)
    pool = some_rows(rng, 24)
    alone = [run(loaded, [item])[0].output for item in pool]
    compared = 0
    for schedule in range(24):
        prefix_bytes = schedule % 2 * 10**9
        # With so small a budget prompts wait for each other; with the usual one they go together.
        budget = rng.choice([0.25, 1e-9])
        bench = Bench(loaded, prefixes=Prefixes(prefix_bytes), prefill_budget=budget)
        todo = [rng.randrange(len(pool)) for _ in range(rng.randint(2, 11))]
        order = dict(enumerate(todo))
        left, cancelled = list(order), set[int]()
        while left or bench.scheduler.busy:
            while left and (rng.random() < 0.5 or not bench.scheduler.busy):
                number = left.pop(0)
                bench.submit(number, pool[order[number]])
            if rng.random() < 0.05 and bench.scheduler.ids:
                victim = rng.choice(bench.scheduler.ids)
                bench.scheduler.cancel(victim)
                cancelled.add(victim)
            bench.step()
        for number in set(order) - cancelled:
            assert bench.got[number].output == alone[order[number]], f"schedule {schedule}"
            compared += 1
    assert compared > 72


def test_usage_counts_the_end_token(loaded: LoadedModel) -> None:
    end = min(loaded.eos_ids)
    always = Sampling(temperature=0, logit_bias={end: 100.0})
    (got,) = run(loaded, [Wanted(tokens=(1, 2, 3), sampling=always)])
    assert (got.text, got.tokens, got.reason) == ("", 1, "stop")
    assert got.logprobs == []


def test_length_is_said_only_when_the_limit_ended_it(loaded: LoadedModel) -> None:
    wanted = Wanted(tokens=(1, 2, 3), max_tokens=5, sampling=endless(loaded))
    (got,) = run(loaded, [wanted])
    assert (got.tokens, got.reason) == (5, "length")


def test_a_stop_string_ends_one_row_and_leaves_the_others_alone(loaded: LoadedModel) -> None:
    plain = Wanted(tokens=(7, 8, 9), max_tokens=20, sampling=endless(loaded))
    (whole,) = run(loaded, [plain])
    stop = whole.text[6:9]
    stopped, other = run(loaded, [msgspec.structs.replace(plain, stops=(stop,)), plain])
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.reason == "stop_sequence"
    assert other.output == whole.output


def test_logprobs_are_a_distribution_with_the_chosen_token_in_it(loaded: LoadedModel) -> None:
    wanted = Wanted(tokens=(1, 2, 3), logprobs=5, max_tokens=6, sampling=endless(loaded))
    (got,) = run(loaded, [wanted])
    assert len(got.logprobs) == 6
    for entry in got.logprobs:
        values = [other.logprob for other in entry.top]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert entry.logprob == values[0]
        assert sum(math.exp(value) for value in values) <= 1.0001


def test_one_seed_gives_one_answer(loaded: LoadedModel) -> None:
    sampling = endless(loaded, temperature=1.0, seed=42)
    seeded = Wanted(tokens=(4, 5), sampling=sampling, max_tokens=20)
    other = msgspec.structs.replace(seeded, sampling=endless(loaded, temperature=1.0, seed=43))
    first, second, third = run(loaded, [seeded, seeded, other])
    assert first.output == second.output
    assert first.text != third.text


def test_an_exact_repeat_and_a_shared_beginning_hit_the_prefix_cache(loaded: LoadedModel) -> None:
    prefixes = Prefixes(10**9)
    system = tuple(range(40))
    questions = [(*system, 50, 51, 52), (*system, 50, 51, 52), (*system, 60, 61)]
    cached = []
    for tokens in questions:
        bench = Bench(loaded, prefixes=prefixes)
        bench.submit(0, Wanted(tokens=tokens))
        cached.append(bench.run()[0].cached)
    assert cached == [0, 42, 40]
    assert prefixes.hits == 2


def test_a_cancelled_row_leaves_its_prefix_behind(loaded: LoadedModel) -> None:
    prefixes = Prefixes(10**9)
    tokens = tuple(range(60))
    bench = Bench(loaded, prefixes=prefixes)
    bench.submit(0, Wanted(tokens=tokens, max_tokens=50, sampling=endless(loaded)))
    for _ in range(4):
        bench.step()
    bench.scheduler.cancel(0)
    bench.submit(1, Wanted(tokens=tokens))
    assert bench.run()[1].cached == 59


def test_prefill_goes_in_pieces_while_another_row_decodes(loaded: LoadedModel) -> None:
    bench = Bench(loaded, prefill_budget=1e-9)
    bench.submit(0, Wanted(tokens=(1, 2, 3), max_tokens=200, sampling=endless(loaded)))
    while not bench.got[0].text:
        bench.step()
    bench.submit(1, Wanted(tokens=tuple(n % 100 for n in range(600)), max_tokens=1))
    before = bench.got[0].tokens
    while not bench.got[1].tokens:
        bench.step()
    done = [row.figures.prefilled_tokens for row in bench.got[1].prefill]
    assert done == sorted(done)
    # How many pieces depends on how fast they turn out to be.
    assert len(done) > 4
    assert bench.got[0].tokens - before >= len(done) - 2


def test_a_short_prompt_overtakes_a_long_one_and_another_long_one_waits(
    loaded: LoadedModel,
) -> None:
    bench = Bench(loaded, prefill_budget=1e-9)
    long = [tuple((n + start) % 100 for n in range(600)) for start in (0, 50)]
    bench.submit(0, Wanted(tokens=long[0], max_tokens=1))
    for _ in range(3):
        bench.step()
    bench.submit(1, Wanted(tokens=long[1], max_tokens=1))
    bench.submit(2, Wanted(tokens=(1, 2, 3), max_tokens=1))
    bench.submit(3, Wanted(tokens=long[1], max_tokens=1))
    while not bench.got[0].tokens:
        bench.step()
    assert bench.got[2].tokens == 1
    # Its first piece may come with the step that ends the other.
    pieces = [row.figures.prefilled_tokens for row in bench.got[1].prefill]
    assert len(set(pieces) - {0}) <= 1
    bench.scheduler.cancel(1)
    assert bench.run()[3].tokens == 1
    assert bench.got[1].tokens == 0


def test_a_piece_that_merges_a_prefix_says_nothing_of_the_pace(loaded: LoadedModel) -> None:
    prefixes = Prefixes(10**9)
    system = tuple(range(40))

    def first_piece_after(earlier: tuple[int, ...]) -> int:
        bench = Bench(loaded, prefixes=prefixes, prefill_budget=10**6)
        if earlier:
            bench.submit(0, Wanted(tokens=earlier, max_tokens=1))
            bench.run()
        fresh = tuple((3 * n + len(earlier) + 7) % 100 for n in range(600))
        bench.submit(1, Wanted(tokens=fresh, max_tokens=1))
        done = [row.figures.prefilled_tokens for row in bench.run()[1].prefill]
        return next(tokens for tokens in done if tokens)

    at_first = first_piece_after(())
    assert first_piece_after(system) != at_first
    assert first_piece_after(system + tuple(range(50, 90))) == at_first


def test_values_that_are_no_numbers_end_their_row_only(loaded: LoadedModel) -> None:
    sound = Wanted(tokens=(1, 2, 3), max_tokens=10)
    (alone,) = run(loaded, [sound])
    poisoned = Sampling(temperature=0, logit_bias={3: math.nan})
    prefixes = Prefixes(10**9)
    bench = Bench(loaded, prefixes=prefixes)
    bench.submit(0, sound)
    bench.submit(1, Wanted(tokens=tuple(range(30)), sampling=poisoned))
    bench.submit(2, sound)
    got = bench.run()
    assert [got[number].broken for number in range(3)] == [False, True, False]
    assert got[0].output == got[2].output == alone.output
    assert prefixes.find("tiny\n", range(30)).cached == 0


def test_a_seed_among_others_does_not_serialise_them(loaded: LoadedModel) -> None:
    bench = Bench(loaded)
    for number in range(8):
        seed = 1 if number == 3 else None
        bench.submit(
            number,
            Wanted(tokens=(number, 1), max_tokens=10, sampling=Sampling(temperature=1, seed=seed)),
        )
    steps = 0
    while bench.scheduler.busy:
        bench.step()
        steps += 1
    assert steps < 20
