"""Answers that only repeat themselves end; what only looks so goes on."""

import random
import time
from collections.abc import Iterable, Sequence
from itertools import chain, count, cycle, islice

import pytest

from mlxd.engine.scheduling.repetition import LEAST, LEAST_IN_CALL, PERIOD, RepetitionGuard


def ends_at(tokens: Iterable[int], *, in_call: bool = False, limit: int = 6_000) -> int | None:
    """After how many tokens the answer is ended."""
    guard = RepetitionGuard(lambda _: in_call)
    for number, token in enumerate(islice(tokens, limit), 1):
        if guard.add(token):
            return number
    return None


def loop(period: int, prefix: Sequence[int] = ()) -> Iterable[int]:
    return chain(prefix, cycle(range(1000, 1000 + period)))


@pytest.mark.parametrize("period", [1, 2, 5, 31, 64, 65, 100, 255, 256])
def test_a_loop_ends_soon_after_it_is_long_enough(period: int) -> None:
    needed = max(LEAST, 8 * period)
    for prefix in ([], list(range(77))):
        end = ends_at(loop(period, prefix))
        assert end is not None
        assert needed <= end - len(prefix) < needed + 2 * 32


def test_in_a_call_a_loop_has_to_be_longer() -> None:
    end = ends_at(loop(5), in_call=True)
    assert end is not None
    assert LEAST_IN_CALL <= end < LEAST_IN_CALL + 32


@pytest.mark.parametrize("period", [PERIOD + 1, 500, 5_000])
def test_a_long_period_is_no_loop(period: int) -> None:
    assert ends_at(loop(period)) is None


def test_what_changes_in_every_round_is_no_loop() -> None:
    numbered = chain.from_iterable((1, 2, 3, 100 + number) for number in count())
    assert ends_at(numbered) is None
    rng = random.Random(1)
    assert ends_at(rng.randrange(4) for _ in count()) is None


@pytest.mark.parametrize(
    "data",
    [
        [7, 8] * 1000,
        [3, 4, 5, 6, 7, 8] * 300,
        [*range(40), *[9] * 400, *range(40)],
    ],
)
def test_tables_and_data_pass_inside_a_call(data: list[int]) -> None:
    assert ends_at(data, in_call=True) is None


def test_a_loop_that_ends_in_time_is_forgotten() -> None:
    almost = [5] * (LEAST - 40)
    assert ends_at([*almost, 1, 2, 3, *almost, 4, *almost]) is None


def test_what_a_grammar_enforces_is_no_loop() -> None:
    drawn, free = 0, False

    def choices() -> int:
        return drawn if free else 0

    guard = RepetitionGuard(lambda _: False, choices)
    assert not any(guard.add(1) for _ in range(3_000))
    free, guard = True, RepetitionGuard(lambda _: False, choices)
    for number in range(1, 3_000):
        drawn += number % 50 == 0
        if guard.add(1):
            break
    assert LEAST <= number <= LEAST + 64


def test_looking_costs_next_to_nothing() -> None:
    rng = random.Random(2)
    hostile = [1] * 510 + [2]
    for tokens in ([rng.randrange(3) for _ in range(50_000)], hostile * 100):
        start = time.process_time()
        ends_at(tokens, limit=50_000)
        # The square of the length would take minutes; a busy core makes it twice as long.
        assert time.process_time() - start < 5
