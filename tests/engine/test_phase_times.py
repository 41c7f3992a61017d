"""A request's phases by a clock that a test moves."""

import pytest

from mlxd.engine.phase_times import PhaseTimes
from mlxd.events import Timings
from mlxd.messages import GenerateRequest, Message, Source, Text
from mlxd.status import RowFigures


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


REQUEST = GenerateRequest(
    id="r",
    model="m",
    messages=(Message("user", (Text("Hello"),)),),
    max_tokens=7,
    source=Source(dialect="d", stream=True),
)


def at_work(clock: Clock) -> PhaseTimes:
    """Two seconds in the queue, three in prefill, now at its first token."""
    times = PhaseTimes(clock)
    clock.now += 2
    assert times.prefilling()
    clock.now += 3
    assert times.decoding()
    return times


def test_each_phase_is_new_once() -> None:
    times = at_work(Clock())
    assert (times.prefilling(), times.decoding(), times.phase) == (False, False, "decode")


def test_a_phase_that_is_reached_again_begins_no_later() -> None:
    clock = Clock()
    times = at_work(clock)
    clock.now += 4
    times.prefilling()
    times.decoding()
    assert times.timings(50.0) == Timings(queue=2, prefill=3, decode=4)


def test_what_the_server_ends_is_timed_from_when_the_engine_got_it() -> None:
    clock = Clock()
    times = at_work(clock)
    clock.now += 4
    assert times.timings(51.5) == Timings(queue=0.5, prefill=3, decode=4)


def test_a_prompt_that_is_cached_whole_has_no_prefill() -> None:
    clock = Clock()
    times = PhaseTimes(clock)
    clock.now += 2
    assert times.decoding()
    clock.now += 1
    assert times.timings(50.0) == Timings(queue=2, prefill=0, decode=1)


@pytest.mark.parametrize(
    ("phase", "spent"),
    [
        ("queued", Timings(queue=1.5)),
        ("prefill", Timings(queue=2, prefill=1.5)),
        ("decode", Timings(queue=2, prefill=3, decode=1.5)),
    ],
)
def test_what_was_spent_so_far_is_shown_in_every_phase(phase: str, spent: Timings) -> None:
    clock = Clock()
    times = PhaseTimes(clock)
    if phase != "queued":
        clock.now += 2
        times.prefilling()
    if phase == "decode":
        clock.now += 3
        times.decoding()
    clock.now += 1.5
    assert times.phase == phase
    assert times.spent(clock.now) == spent
    status = times.status(REQUEST, RowFigures())
    assert (status.queued, status.prefill, status.decode) == (
        spent.queue,
        spent.prefill,
        spent.decode,
    )
    assert status.age == spent.queue + spent.prefill + spent.decode
    assert status.first_token == (5.0 if phase == "decode" else 0.0)


@pytest.mark.parametrize(("tokens", "rate"), [(0, 0.0), (1, 0.0), (9, 2.0)])
def test_the_rate_is_of_the_tokens_behind_the_first(tokens: int, rate: float) -> None:
    clock = Clock()
    times = at_work(clock)
    clock.now += 4
    assert times.status(REQUEST, RowFigures(completion_tokens=tokens)).rate == rate


def test_a_first_token_alone_has_no_rate() -> None:
    assert at_work(Clock()).status(REQUEST, RowFigures(completion_tokens=1)).rate == 0.0
