"""When silence is a stall, and how long a dead process rests: without any process."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps

import pytest

from mlxd.engine.supervision.process import exit_words, fatal_category
from mlxd.engine.supervision.restarts import Failures, RestartPolicy
from mlxd.engine.supervision.watchdog import Watchdog

PATIENCE = 10.0


class HandClock(asyncio.SelectorEventLoop):
    """A loop whose time passes when a test says so: a busy machine changes nothing."""

    now = 0.0

    def time(self) -> float:
        return self.now


def by_hand(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run a test on such a loop."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=HandClock) as runner:
            runner.run(test())

    return run


class Guarded:
    """Work with a watchdog, its patience set by hand."""

    def __init__(self) -> None:
        self.patience: float | None = None
        self.stalls: list[float] = []
        self.dog = Watchdog(lambda: self.patience, self.stalls.append)

    def set(self, patience: float | None) -> None:
        self.patience = patience
        self.dog.update()

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, and what waited for it happen."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HandClock)
        loop.now += seconds
        for _ in range(2):
            await asyncio.sleep(0)


@by_hand
async def test_silence_with_work_is_a_stall_once() -> None:
    guarded = Guarded()
    guarded.set(PATIENCE)
    await guarded.pass_time(PATIENCE - 1)
    assert guarded.stalls == []
    await guarded.pass_time(1)
    await guarded.pass_time(2 * PATIENCE)
    assert guarded.stalls == [PATIENCE]
    assert guarded.dog.silence == 0


@by_hand
async def test_silence_without_work_is_none() -> None:
    guarded = Guarded()
    guarded.set(PATIENCE)
    guarded.set(None)
    await guarded.pass_time(3 * PATIENCE)
    assert guarded.stalls == []
    assert guarded.dog.silence == 0


@by_hand
async def test_progress_puts_the_stall_off() -> None:
    guarded = Guarded()
    guarded.set(PATIENCE)
    for _ in range(10):
        await guarded.pass_time(PATIENCE - 1)
        guarded.dog.moved()
    assert guarded.stalls == []
    await guarded.pass_time(PATIENCE)
    assert guarded.stalls == [PATIENCE]


@by_hand
async def test_new_work_starts_with_full_patience() -> None:
    guarded = Guarded()
    guarded.set(PATIENCE)
    await guarded.pass_time(PATIENCE - 1)
    guarded.set(None)
    guarded.set(PATIENCE)
    assert guarded.dog.silence == 0
    await guarded.pass_time(PATIENCE - 1)
    assert guarded.stalls == []


@by_hand
async def test_less_patience_counts_from_the_last_progress() -> None:
    guarded = Guarded()
    guarded.set(6 * PATIENCE)
    await guarded.pass_time(2 * PATIENCE)
    guarded.set(PATIENCE)
    await guarded.pass_time(0)
    assert guarded.stalls == [2 * PATIENCE]


@by_hand
async def test_more_patience_replaces_the_shorter_one() -> None:
    guarded = Guarded()
    guarded.set(PATIENCE)
    guarded.set(6 * PATIENCE)
    await guarded.pass_time(3 * PATIENCE)
    assert guarded.stalls == []
    assert guarded.dog.silence == 3 * PATIENCE


def test_restarts_wait_longer_with_every_failure_of_a_window() -> None:
    failures = Failures(RestartPolicy(base=1.0, longest=5.0, limit=6, window=600.0))
    assert [failures.record(now) for now in range(5)] == [0.0, 1.0, 2.0, 4.0, 5.0]
    assert not failures.too_many


def test_the_limit_of_failures_is_slow_until_the_window_has_passed() -> None:
    failures = Failures(RestartPolicy())
    delays = [failures.record(now) for now in (0.0, 100.0, 200.0, 300.0, 400.0)]
    assert delays == [0.0, 1.0, 2.0, 4.0, 4.0]
    assert failures.too_many
    assert failures.record(650.0) == 4.0
    assert failures.record(1100.0) == 1.0
    assert not failures.too_many
    assert failures.record(5000.0) == 0.0


def test_an_exit_status_is_said_in_words() -> None:
    assert exit_words(0) == "exit code 0"
    assert exit_words(-11) == "killed by SIGSEGV"
    assert exit_words(-250) == "killed by signal 250"


@pytest.mark.parametrize(
    ("lines", "category"),
    [
        ([], ""),
        (["INFO engine: the prompt was Error prone"], ""),
        (["Traceback", "KeyError: 'secret'"], "KeyError"),
        (["mlxd.errors.ModelUnusable: x", "  numpy.linalg.LinAlgError: y"], ""),
        (["numpy.linalg.LinAlgError: secret"], "numpy.linalg.LinAlgError"),
        (["ValueError: old", "RuntimeError: new", "done"], "RuntimeError"),
        (["Fatal Python error: Segmentation fault", "", "Thread 0x1:"], "Segmentation fault"),
        (["Fatal Python error: Aborted"], "Aborted"),
        (["uncaught exception of type std::runtime_error: secret"], "std::runtime_error"),
        (["[metal::malloc] Resource limit (499000) exceeded.", "OSError: x"], "out of memory"),
        (["[METAL] Insufficient Memory", "Fatal Python error: Aborted"], "out of memory"),
    ],
)
def test_the_last_lines_are_told_by_kind(lines: list[str], category: str) -> None:
    assert fatal_category(lines) == category
