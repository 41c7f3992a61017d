"""What a store does over several servers on one file: ages, leftovers, damage in between."""

import errno
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mlxd.errors import ResponseNotFound, StoreUnavailable
from mlxd.store.expiry import KEEP_DELETED
from mlxd.store.schema import version_of
from tests.store.support import (
    INTERVAL,
    ME,
    TTL,
    FakeClock,
    item,
    make,
    opened,
    response,
    store_file,
    turn,
)

YEAR = 365 * 86_400.0
PARTS = 0.45
"""Of a time to live, for which each server runs."""

Between = Callable[[FakeClock, float], None]
BETWEEN: dict[str, Between] = {
    "at once": FakeClock.pass_time,
    "after a reboot": FakeClock.reboot,
}


async def there(folder: Path, clock: FakeClock, name: str) -> bool:
    """Whether a server that starts now still has it, by a look that is no use of it."""
    async with opened(folder, clock=clock, sweeping=False) as store:
        await store.sweep()
    with closing(sqlite3.connect(store_file(folder))) as db:
        return db.execute("SELECT 1 FROM responses WHERE id = ?", (name,)).fetchone() is not None


def killed(folder: Path, into: Path) -> Path:
    """The folder as a `kill -9` would leave it now."""
    shutil.copytree(store_file(folder).parent, store_file(into).parent)
    return into


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("off", [0.0, PARTS * TTL], ids=["running", "off"])
async def test_what_nobody_uses_expires_over_three_servers_as_in_one(
    tmp_path: Path, between: str, off: float
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.put_response(turn("old"))
    for number in range(2):
        async with opened(tmp_path, clock=clock) as store:
            await store.put_response(turn(f"young_{number}"))
            await store.sweep()
            clock.pass_time(PARTS * TTL - off)
        BETWEEN[between](clock, off)
        assert await there(tmp_path, clock, "old")
    clock.pass_time((1 - 2 * PARTS) * TTL + INTERVAL + 1)
    assert not await there(tmp_path, clock, "old")
    assert await there(tmp_path, clock, "young_1")


@pytest.mark.parametrize("between", BETWEEN)
async def test_a_use_in_a_later_server_begins_the_time_to_live_again(
    tmp_path: Path, between: str
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.put_response(turn("used"))
        await store.put_response(turn("left"))
    for _ in range(4):
        clock.pass_time(0.7 * TTL)
        BETWEEN[between](clock, 10.0)
        async with opened(tmp_path, clock=clock) as store:
            await store.sweep()
            assert await store.past(ME, previous="used")
    assert not await there(tmp_path, clock, "left")


async def test_the_time_of_a_first_server_that_was_killed_counts(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "first", clock=clock) as store:
        clock.pass_time(0.6 * TTL)
        await store.put_response(turn("a"))
        left = killed(tmp_path / "first", tmp_path / "second")
    clock.pass_time(TTL + 2 * INTERVAL)
    assert not await there(left, clock, "a")


@pytest.mark.parametrize("by", [YEAR, -YEAR, 1800.0])
@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_a_clock_that_was_set_in_a_server_ages_nothing_in_the_next(
    tmp_path: Path, by: float, end: str
) -> None:
    """After a reboot the wall clock alone says what passed, from what it showed in the end."""
    clock, folder = FakeClock(), tmp_path / "first"
    async with opened(folder, clock=clock) as store:
        await store.put_response(turn("a"))
        clock.pass_time(0.3 * TTL)
        clock.set_wall(by)
        if end == "killed":
            # The first sweep after a long jump does nothing; the next one finds time as it is.
            await store.sweep()
            await store.sweep()
            folder = killed(folder, tmp_path / "second")
    clock.reboot(0.3 * TTL)
    assert await there(folder, clock, "a")
    clock.pass_time(0.4 * TTL + INTERVAL + 1)
    assert not await there(folder, clock, "a")


async def test_sweeps_write_nothing_while_the_clocks_agree(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        await store.put_response(turn("a"))
        with closing(sqlite3.connect(store_file(tmp_path))) as db:
            before = db.execute("PRAGMA data_version").fetchone()
            for _ in range(5):
                clock.pass_time(INTERVAL)
                await store.sweep()
            assert db.execute("PRAGMA data_version").fetchone() == before
            clock.set_wall(30.0)
            await store.sweep()
            assert db.execute("PRAGMA data_version").fetchone() != before


@pytest.mark.parametrize("young", [(), ("young",)], ids=["alone", "among younger ones"])
async def test_an_id_that_was_deleted_is_remembered_for_a_day_and_no_longer(
    tmp_path: Path, young: tuple[str, ...]
) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        for name in ("old", *young):
            await store.put_response(response(name, "in_progress"))
        await store.delete_response(ME, "old")
        clock.pass_time(KEEP_DELETED - 60)
        for name in young:
            await store.delete_response(ME, name)
        await store.sweep()
        await store.put_response(turn("old"))
        with pytest.raises(ResponseNotFound):
            await store.response(ME, "old")
    async with opened(tmp_path, clock=clock) as store:
        clock.pass_time(120)
        await store.sweep()
        for name in ("old", *young):
            await store.put_response(turn(name))
        assert (await store.response(ME, "old")).state == "completed"
        assert store.status().responses == 1


async def test_the_file_gets_small_again_when_what_it_held_has_gone(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock) as store:
        for number in range(60):
            large = item(f"large_{number}", "x" * 100_000)
            await store.put_response(response(f"r{number}", input=(large,)))
        clock.pass_time(2 * TTL)
        await store.sweep()
        await store.put_response(turn("a"))
        # Some pages a sweep are given back, as calls wait meanwhile.
        await store.sweep()
    assert store_file(tmp_path).stat().st_size < 1_000_000


async def test_unused_pages_are_kept_while_they_are_few(tmp_path: Path) -> None:
    """What will be written next would only have to be asked of the disk again."""
    async with opened(tmp_path) as store:
        for number in range(10):
            large = item(f"large_{number}", "x" * 100_000)
            await store.put_response(response(f"r{number}", input=(large,)))
        await store.delete_response(ME, "r9")
        await store.sweep()
        with closing(sqlite3.connect(store_file(tmp_path))) as db:
            assert db.execute("PRAGMA freelist_count").fetchone() > (20,)


async def sound(folder: Path) -> Path:
    """The file of a store that ended well: nothing is left in a log."""
    async with opened(folder) as store:
        for number in range(30):
            await store.put_response(turn(f"r{number}"))
    path = store_file(folder)
    assert not path.with_name(f"{path.name}-wal").exists()
    return path


def in_the_middle(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 4))


def statement(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(text)

    return change


DAMAGES: dict[str, Callable[[Path], None]] = {
    "pages": in_the_middle,
    "cut": lambda path: os.truncate(path, 5000),
    "an older version inside": statement("UPDATE meta SET version = 0"),
    "a newer version inside": statement("UPDATE meta SET version = 9"),
    "an older version outside": statement("PRAGMA user_version = 0"),
    "no version inside": statement("DELETE FROM meta"),
    "a table too many": statement("CREATE TABLE more (id INTEGER PRIMARY KEY)"),
    "an index too few": statement("DROP INDEX threads_used"),
    "a response of no thread": statement("DELETE FROM threads WHERE id = 1"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_that_was_damaged_between_two_servers_is_moved_aside_and_said_so(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = await sound(tmp_path)
    DAMAGES[damage](path)
    found = path.read_bytes()
    async with opened(tmp_path) as store:
        (aside,) = (each for each in path.parent.iterdir() if ".damaged-" in each.name)
        assert store.status().problem == f"a damaged file was moved aside, to {aside.name}"
        assert store.status().responses == 0
        await store.put_response(turn("new"))
    (said,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert aside.name in said.getMessage()
    assert aside.read_bytes() == found
    async with opened(tmp_path) as store:
        assert store.status().problem == ""
        assert (await store.response(ME, "new")).state == "completed"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT version FROM meta").fetchone() == (version_of(db),)


async def test_a_second_damaged_file_in_one_second_does_not_replace_the_first(
    tmp_path: Path,
) -> None:
    found = []
    for _ in range(3):
        path = await sound(tmp_path)
        in_the_middle(path)
        found.append(path.read_bytes())
    async with opened(tmp_path):
        aside = [each for each in path.parent.iterdir() if ".damaged-" in each.name]
    assert sorted(each.read_bytes() for each in aside) == sorted(found)


async def test_a_lock_that_can_not_be_made_costs_the_store_and_not_the_server(
    tmp_path: Path,
) -> None:
    path = store_file(tmp_path)
    lock = path.with_name(f"{path.name}.lock")
    lock.mkdir(parents=True)
    async with opened(tmp_path) as store:
        assert store.status().problem == "is a directory"
        with pytest.raises(StoreUnavailable, match="is a directory"):
            await store.put_response(turn("a"))
        lock.rmdir()
        await store.put_response(turn("a"))
        assert store.status().problem == ""


LOCKS = {"fail": False}


def _fail_locks(event: str, _: tuple[object, ...]) -> None:
    if event == "fcntl.flock" and LOCKS["fail"]:
        raise OSError(errno.ENOLCK, "No locks available")


sys.addaudithook(_fail_locks)


@contextmanager
def no_locks_here() -> Iterator[None]:
    """As on a network's file system that has none."""
    LOCKS["fail"] = True
    try:
        yield
    finally:
        LOCKS["fail"] = False


async def test_a_disk_that_has_no_locks_is_not_taken_for_another_server(tmp_path: Path) -> None:
    store = make(tmp_path)
    with no_locks_here():
        await store.open()
        assert store.status().problem == "no locks available"
        with pytest.raises(StoreUnavailable, match="no locks available"):
            await store.put_response(turn("a"))
    await store.put_response(turn("a"))
    assert store.status().problem == ""
    await store.close()
