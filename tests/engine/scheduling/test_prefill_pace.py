"""How long pieces of prefill are expected to take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxd.engine.scheduling.prefill_pace import PrefillPace


def paced(fixed: float, each: float, sizes: list[int]) -> PrefillPace:
    pace = PrefillPace()
    for size in sizes:
        pace.took(size, fixed + each * size)
    return pace


@given(
    fixed=st.floats(0, 0.2),
    each=st.floats(1e-5, 1e-2),
    sizes=st.lists(st.integers(32, 2048), min_size=3, max_size=40).filter(
        lambda sizes: max(sizes[-3:]) > 2 * min(sizes[-3:])
    ),
)
def test_a_fixed_cost_is_told_from_the_cost_of_a_token(
    fixed: float, each: float, sizes: list[int]
) -> None:
    budget = fixed + 500 * each
    if fixed < 5 * each * min(sizes):
        expected = max(500, fixed / each)
        assert paced(fixed, each, sizes).tokens_in(budget) == pytest.approx(expected, abs=2)


def test_short_pieces_do_not_make_the_next_ones_shorter() -> None:
    pace = paced(0.1, 0.0017, [360, 96, 32])
    for _ in range(20):
        size = pace.tokens_in(0.25)
        pace.took(size, 0.1 + 0.0017 * size)
    assert pace.tokens_in(0.25) == pytest.approx(88, rel=0.05)


def test_pieces_of_one_size_tell_a_rate() -> None:
    assert paced(0, 0.001, [256] * 5).tokens_in(0.25) == pytest.approx(250, abs=1)


def test_half_of_a_piece_at_least_is_spent_on_its_tokens() -> None:
    assert paced(0.1, 0.001, [50, 100, 200]).tokens_in(0.05) == pytest.approx(100, abs=1)
