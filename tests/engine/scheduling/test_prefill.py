"""Whose prompts are computed next, and how much of them."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxd.engine.scheduling.prefill import (
    FIRST_BESIDE,
    FIRST_CHUNK,
    GROWTH,
    LEAST_EACH,
    PIECE_SLACK,
    PREFILL_CHUNK,
    Prefill,
)

LENGTHS = st.lists(st.integers(1, 4000), min_size=1, max_size=32)
RATE = 400
"""Tokens a second of a machine on which nothing but tokens costs time."""


def at_work(rate: int = RATE, budget: float = 0.25) -> Prefill:
    prefill = Prefill(budget)
    prefill.took(400, 400 / rate)
    return prefill


def pieces(prefill: Prefill, lengths: Sequence[int]) -> list[list[int]]:
    """The tokens of each prompt in every piece, until each has its last token left."""
    left, cut = list(lengths), []
    while max(left) > 1:
        size = prefill.piece(left, waiting=len(left), decoding=0)
        cut.append([min(size, tokens - 1) for tokens in left])
        left = [tokens - part for tokens, part in zip(left, cut[-1], strict=True)]
    return cut


def test_short_prompts_begin_as_a_group_that_fills_some_pieces() -> None:
    # Eight budgets are 800 tokens at this speed.
    assert at_work().together([46] * 32) == 17


def test_a_long_prompt_begins_alone() -> None:
    assert at_work().together([5000, 5000, 40]) == 1


def test_a_group_ends_before_a_long_prompt() -> None:
    assert at_work().together([100, 100, 5000, 100]) == 2


@pytest.mark.parametrize(("left", "tokens", "joins"), [(5000, 2500, True), (5000, 2501, False)])
def test_a_prompt_half_as_long_as_the_rest_of_another_overtakes_it(
    left: int, tokens: int, *, joins: bool
) -> None:
    assert at_work().overtakes([40, left], tokens, 5000) is joins


def test_none_overtakes_whom_shorter_ones_held_up_long_enough() -> None:
    assert at_work().overtakes([5000], 200, 200)
    assert not at_work().overtakes([5000], 200, 199)


def test_a_first_piece_beside_streams_is_short() -> None:
    fresh = Prefill(0.25)
    assert fresh.piece([1000], waiting=1, decoding=1) <= FIRST_BESIDE * (1 + PIECE_SLACK)
    assert fresh.piece([1000], waiting=1, decoding=0) > FIRST_BESIDE * (1 + PIECE_SLACK)


@given(LENGTHS)
def test_every_piece_has_something_of_the_longest_prompt(lengths: list[int]) -> None:
    cut = pieces(at_work(), lengths)
    assert sum(max(piece) for piece in cut) == max(lengths) - 1


def test_pieces_of_a_prompt_are_alike_and_leave_no_crumbs() -> None:
    # 200 tokens fit into a piece: 401 are cut into three, not into two and a last one of one.
    assert pieces(at_work(), [402]) == [[201], [200]]
    assert pieces(at_work(), [502]) == [[167], [167], [167]]


@given(LENGTHS, st.integers(0, 31))
def test_a_piece_takes_no_longer_than_it_may(lengths: list[int], decoding: int) -> None:
    waiting = len(lengths)
    size = at_work().piece(lengths, waiting=waiting, decoding=decoding)
    slack = 1 if decoding else 1 + PIECE_SLACK
    most = max(2 * 0.25 * RATE * slack, LEAST_EACH * len(lengths), PREFILL_CHUNK[0])
    assert size * len(lengths) <= math.ceil(most) + len(lengths)


def test_many_that_wait_get_longer_pieces_than_one_among_many_that_decode() -> None:
    one = at_work().piece([4000], waiting=1, decoding=8)
    several = at_work().piece([4000], waiting=5, decoding=8)
    assert (one, several) == (100, 149)


def test_a_piece_with_too_few_tokens_teaches_nothing() -> None:
    prefill = Prefill(0.25)
    prefill.took(PREFILL_CHUNK[0] - 1, 10.0)
    assert prefill.piece([4000], waiting=1, decoding=0) == math.ceil(3999 / 16)
    assert math.ceil(3999 / 16) <= FIRST_CHUNK


def test_a_wrong_guess_does_not_make_a_piece_endless() -> None:
    # Pieces of very different sizes that took alike: by the fit, tokens cost nothing.
    prefill = Prefill(0.25)
    for tokens in (400, 40, 400, 40):
        prefill.took(tokens, 0.4)
    assert prefill.piece([4000], waiting=1, decoding=0) <= GROWTH * 40 * (1 + PIECE_SLACK)
