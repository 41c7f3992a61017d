"""What goes when, whatever is done to the clocks, and what has to make room."""

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlxd.errors import ResponseNotFound, StoreUnavailable
from mlxd.store.clock import Mark, StoreClock, StoreTime
from mlxd.store.conversations import ConversationStore
from tests.server.support import until
from tests.store.support import (
    INTERVAL,
    KINDS,
    ME,
    TTL,
    FakeClock,
    Kind,
    archive_of,
    item,
    opened,
    response,
    turn,
)

YEARS = 10 * 365 * 86_400.0
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.0, 1.0, 60.0, 900.0, 86_400.0, 1e7])),
        st.tuples(
            st.just("set"),
            st.sampled_from([0.0, 3600.0, -3600.0, YEARS, -YEARS, -4e9, 4e9, 3601.0]),
        ),
        st.tuples(st.just("restart"), st.sampled_from([0.0, 5.0, 86_400.0])),
        st.tuples(st.just("boot"), st.sampled_from([10.0, 86_400.0, 1e7])),
    ),
    max_size=20,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
@example(steps=[("set", -4e9), ("boot", 10.0), ("pass", 60.0)])
@example(steps=[("set", YEARS), ("restart", 5.0), ("boot", 10.0)])
def test_the_stores_time_is_the_time_that_passed(steps: list[tuple[str, float]]) -> None:
    clock, passed = FakeClock(), 0.0
    time = StoreTime(clock.clock())
    for kind, amount in steps:
        if kind == "set":
            clock.set_wall(amount)
            continue
        passed += amount
        if kind == "pass":
            clock.pass_time(amount)
        else:
            mark = time.mark()
            clock.pass_time(amount) if kind == "restart" else clock.reboot(amount)
            time = StoreTime(clock.clock())
            time.go_on(mark)
        assert time.now() == pytest.approx(passed, abs=1e-3)


def test_a_wall_clock_that_went_back_while_the_machine_was_off_makes_nothing_older() -> None:
    clock = FakeClock()
    mark = StoreTime(clock.clock()).mark()
    clock.reboot(-YEARS)
    time = StoreTime(clock.clock())
    time.go_on(mark)
    assert time.now() == 0.0


def test_without_a_name_for_the_boot_the_wall_clock_tells_what_passed() -> None:
    clock = StoreClock(lambda: 5_000.0, lambda: 90.0, lambda: "")
    time = StoreTime(clock)
    time.go_on(Mark(elapsed=100.0, wall=4_000.0, monotonic=10.0, boot=""))
    assert time.now() == 1_100.0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_thread_lives_for_the_time_to_live_after_its_last_use(
    tmp_path: Path, kind: Kind
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, kind, clock=clock) as store:
        await store.put_response(turn("a"))
        for _ in range(5):
            clock.pass_time(TTL - 1)
            await store.sweep()
            assert await store.response(ME, "a")
        clock.pass_time(TTL + 2 * INTERVAL + 1)
        await store.sweep()
        with pytest.raises(ResponseNotFound):
            await store.response(ME, "a")


async def test_a_chain_lives_as_long_as_its_youngest_fork_is_used(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.put_response(turn("a"))
        await store.put_response(turn("other"))
        clock.pass_time(TTL - 1)
        await store.put_response(turn("b", previous="a"))
        clock.pass_time(TTL - 1)
        await store.sweep()
        assert await store.response(ME, "a")
        with pytest.raises(ResponseNotFound):
            await store.response(ME, "other")


async def test_what_still_runs_does_not_expire(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.put_response(response("a", "in_progress"))
        clock.pass_time(10 * TTL)
        await store.sweep()
        await store.put_response(turn("a"))
        assert (await store.response(ME, "a")).state == "completed"


@pytest.mark.parametrize("jump", [YEARS, -YEARS, 7200.0])
async def test_when_the_clock_is_set_the_sweep_waits_once_and_says_so(
    tmp_path: Path, jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.put_response(turn("young"))
        clock.set_wall(jump)
        with caplog.at_level(logging.WARNING):
            await store.sweep()
        assert "the clock was set" in caplog.text
        await store.sweep()
        assert await store.response(ME, "young")
        clock.pass_time(TTL + 2 * INTERVAL + 1)
        await store.sweep()
        assert store.status().responses == 0


async def test_sweeps_come_by_themselves(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, ttl=0.5) as store:
        await store.put_response(turn("a"))
        clock.pass_time(1.0)
        await until(lambda: store.status().responses == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_beyond_its_size_the_store_lets_go_of_what_was_not_used_for_longest(
    tmp_path: Path, kind: Kind
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, kind, clock=clock, max_bytes=1024 * 1024) as store:
        for number in range(40):
            clock.pass_time(1.0)
            large = item(f"large_{number}", "x" * 100_000)
            await store.put_response(response(f"r{number}", input=(large,)))
        await store.sweep()
        assert store.status().bytes <= 1024 * 1024
        assert await store.response(ME, "r39")
        with pytest.raises(ResponseNotFound):
            await store.response(ME, "r0")


async def one_thread_until_full(store: ConversationStore) -> list[str]:
    """Put responses, each behind the last one, until one is refused; their names, empty first."""
    chain = [""]

    async def put_all() -> None:
        for number in range(40):
            large = (item(f"large_{number}", "x" * 100_000),)
            await store.put_response(response(f"r{number}", input=large, previous=chain[-1]))
            chain.append(f"r{number}")

    with pytest.raises(StoreUnavailable):
        await put_all()
    return chain


async def test_one_thread_that_fills_the_store_alone_is_refused_and_stays_whole(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, max_bytes=1024 * 1024) as store:
        chain = await one_thread_until_full(store)
        await store.sweep()
        assert "full" in store.status().problem
        assert len(await store.past(ME, previous=chain[-1])) == store.status().responses
        await store.delete_response(ME, chain[-1])
        assert store.status().problem == ""


async def test_what_has_to_make_room_is_archived_too(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, max_bytes=1024 * 1024, archive=True) as store:
        for number in range(12):
            clock.pass_time(1.0)
            large = (item(f"large_{number}", "x" * 200_000),)
            await store.put_response(response(f"r{number}", input=large))
        there = store.status().responses
        kept = {path.stem for path in archive_of(tmp_path).iterdir()}
        assert len(kept) + there >= 12
        assert "r0" in kept


async def test_put_calls_do_not_wait_for_a_whole_sweep(tmp_path: Path) -> None:
    """A sweep is many small pieces of work; what comes in between is done in between."""
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        for number in range(60):
            await store.put_response(turn(f"old_{number}"))
        clock.pass_time(2 * TTL)
        sweeping = asyncio.create_task(store.sweep())
        left: list[int] = []
        while not sweeping.done():
            await store.put_response(turn(f"new_{len(left)}"))
            left.append(len(list(archive_of(tmp_path).glob("*.json"))))
        assert any(0 < count < 60 for count in left)
        assert store.status().archived == 60


async def test_an_archive_that_can_not_be_written_keeps_everything(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        await store.put_response(turn("a"))
        archive_of(tmp_path).write_text("a file is in the way")
        clock.pass_time(2 * TTL)
        await store.sweep()
        assert "archive" in store.status().problem
        assert store.status().responses == 1
        archive_of(tmp_path).unlink()
        await store.sweep()
        assert (store.status().responses, store.status().problem) == (0, "")


async def test_a_store_that_is_full_says_so_until_a_write_succeeds(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, max_bytes=1024 * 1024) as store:
        await one_thread_until_full(store)
        for _ in range(3):
            await store.sweep()
            assert "full" in store.status().problem
        # All of it expires; that makes room, and shows nothing yet.
        clock.pass_time(TTL + 2 * INTERVAL)
        await store.sweep()
        assert store.status().responses == 0
        assert "full" in store.status().problem
        await store.put_response(turn("after"))
        assert store.status().problem == ""
