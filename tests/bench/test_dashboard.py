"""The measurement of `mlxd top` measures what it says."""

import sys

import pytest

from bench.dashboard import REQUESTS, run, status_at, watch


def test_every_request_changes_with_every_status() -> None:
    one, other = status_at(3), status_at(4)
    assert len(one.running) == REQUESTS
    assert not set(one.running) & set(other.running)
    assert [each.id for each in one.running] == [each.id for each in other.running]


def test_cpu_and_output_of_a_program_in_a_terminal_are_counted() -> None:
    program = "print('x' * 5000, flush=True); sum(range(10_000_000)); import time; time.sleep(60)"
    cost = run([sys.executable, "-c", program], 2.0)
    assert cost.written >= 5000
    assert cost.cpu > 0.05


async def test_the_dashboard_shows_the_stream_that_is_made_up() -> None:
    # A busy machine takes longer to start it.
    for seconds in (3.0, 12.0, 48.0):
        if (await watch(seconds)).written > 20_000:
            return
    pytest.fail("it shows too little")
