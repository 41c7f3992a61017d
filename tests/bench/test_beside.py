"""What a stream and a long prompt lose by each other, from the times when text arrived."""

import pytest

from bench.beside import compared, token_times


def test_what_is_left_of_the_speed_and_the_longest_gap() -> None:
    alone = [0.1 * n for n in range(1, 31)]
    beside = [3.0 + 0.5 * n for n in range(1, 5)]
    found = compared([*alone, *beside, 5.8, 5.9], (3.05, 5.45), 2.0)
    assert found.kept == pytest.approx(100 * (4 / 2.4) / 10)
    assert found.gap == pytest.approx(0.8)
    assert found.wait == pytest.approx(120)


def test_a_stream_that_ended_too_early_measures_nothing() -> None:
    with pytest.raises(RuntimeError, match="beside"):
        compared([0.1, 0.2, 0.3], (0.25, 0.5), 0.2)


def test_each_event_with_text_counts_when_it_arrived() -> None:
    pieces = [(0.1, b'data: {"role":1}\n\n'), (0.2, b'"content": "a" "content": "b"'), (0.3, b"")]
    assert token_times(pieces) == [0.2, 0.2]
