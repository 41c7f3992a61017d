"""Which number of threads is kept, on machines whose speed is counted."""

from collections.abc import Callable

from mlxd.engine.process.blas_threads import BlasThreads, ThreadCount
from mlxd.engine.scheduling.thread_choice import LEAST_TOKENS, ThreadChoice

Speed = Callable[[int, int], float]
"""Seconds of the piece of this number with so many threads."""


def run(choice: ThreadChoice, pieces: int, speed: Speed) -> float:
    """How many times as long the pieces took as with the best number for each."""
    took = best = 0.0
    for piece in range(pieces):
        seconds = speed(piece, choice.threads)
        took += seconds
        best += min(speed(piece, threads) for threads in (1, 2))
        choice.took(200, seconds)
    return took / best


def alone(piece: int, threads: int) -> float:
    return 0.4 / threads


def crowded(piece: int, threads: int) -> float:
    """Another program has one of two cores."""
    return 0.4 if threads == 1 else 1.6


def test_a_free_machine_is_used_whole() -> None:
    choice = ThreadChoice(2)
    assert run(choice, 200, alone) < 1.05
    assert choice.threads == 2


def test_beside_a_busy_core_one_thread_less_is_used_from_the_second_piece_on() -> None:
    choice = ThreadChoice(2)
    assert run(choice, 30, crowded) < 1.5
    assert choice.threads == 1


def test_a_core_that_becomes_free_is_found_again_and_the_other_way_round() -> None:
    choice = ThreadChoice(2)
    run(choice, 40, crowded)
    run(choice, 300, alone)
    assert choice.threads == 2
    run(choice, 300, crowded)
    assert choice.threads == 1


def test_short_pieces_say_nothing() -> None:
    choice = ThreadChoice(2)
    for _ in range(100):
        choice.took(LEAST_TOKENS - 1, 1.0)
    assert choice.threads == 2


def test_one_thread_stays_one() -> None:
    choice = ThreadChoice(1)
    run(choice, 50, alone)
    assert choice.threads == 1


def test_the_library_is_told_of_each_change_and_of_nothing_else() -> None:
    told: list[int] = []
    threads = BlasThreads(ThreadCount(2, told.append))
    threads.took(200, 1.6)
    threads.took(200, 0.4)
    threads.took(200, 0.4)
    assert told == [1]
    BlasThreads(None).took(200, 1.0)
