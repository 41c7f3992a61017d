"""A file that is damaged, in use, newer, older, or on a disk that is full or read-only."""

import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mlxd.errors import ConfigError, StoreUnavailable
from mlxd.store.clock import StoreClock
from mlxd.store.database import Damaged, StoreFile, StoreInUse, is_damage
from mlxd.store.schema import MIGRATIONS, expected_tables, migrate, tables_of, version_of
from tests.store.support import (
    ME,
    TTL,
    FakeClock,
    item,
    items,
    make,
    opened,
    response,
    store_file,
    turn,
)

NOBODY = 65534
LATER = (
    *MIGRATIONS,
    (
        "ALTER TABLE threads ADD COLUMN title TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE labels (name TEXT PRIMARY KEY) STRICT",
        "INSERT INTO labels SELECT name FROM threads",
        "CREATE INDEX threads_title ON threads (title)",
    ),
)


async def fill(folder: Path, count: int = 30) -> None:
    async with opened(folder) as store:
        made = await store.create_conversation(ME, metadata=b"{}", items=items("hello"))
        for number in range(count):
            put = turn(f"r{number}", conversation=made.id, frames=(b"x" * 300,))
            await store.put_response(put)


async def works(folder: Path) -> None:
    """A store in `folder` opens and remembers."""
    async with opened(folder) as store:
        await store.put_response(turn("canary"))
        assert (await store.response(ME, "canary")).state == "completed"


async def test_damaged_files_are_moved_aside_and_the_store_starts(tmp_path: Path) -> None:
    await fill(tmp_path / "sound")
    sound = store_file(tmp_path / "sound").read_bytes()
    chance = random.Random(20)
    moved = 0
    for number in range(200):
        folder = tmp_path / str(number)
        path = store_file(folder)
        path.parent.mkdir(parents=True)
        path.write_bytes(data := damaged(sound, chance))
        await works(folder)
        aside = [p for p in path.parent.iterdir() if ".damaged-" in p.name]
        assert [p.read_bytes() for p in aside] in ([], [data])
        moved += len(aside)
        shutil.rmtree(folder)
    assert moved > 40


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` cut off somewhere, or with some bytes changed; every third time in its beginning."""
    if chance.random() < 0.25:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    reach = chance.choice([100, 4096, len(data)])
    for _ in range(chance.choice([1, 8, 200])):
        changed[chance.randrange(reach)] = chance.randrange(256)
    return bytes(changed)


async def test_what_was_moved_aside_keeps_its_log_and_is_told_of(tmp_path: Path) -> None:
    path = store_file(tmp_path)
    path.parent.mkdir()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"junk" * 5000 + suffix.encode())
    async with opened(tmp_path) as store:
        assert "moved aside" in store.status().problem
        await store.put_response(turn("a"))
        assert "moved aside" in store.status().problem
    aside = sorted(p.name for p in path.parent.iterdir() if ".damaged-" in p.name)
    base = f"{path.name}.damaged-20270115T080000Z"
    assert f"{base}-wal" in aside
    for name in aside:
        assert (path.parent / name).read_bytes().startswith(b"junkjunk")


async def test_the_log_of_a_store_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    await fill(tmp_path / "a")
    path = store_file(tmp_path / "b")
    path.parent.mkdir(parents=True)
    async with opened(tmp_path / "a") as store:
        await store.put_response(turn("late"))
        shutil.copy(store_file(tmp_path / "a").with_name(path.name + "-wal"), path.parent)
    await works(tmp_path / "b")


async def test_damage_that_shows_later_makes_room_for_a_new_file(tmp_path: Path) -> None:
    await fill(tmp_path, 60)
    path = store_file(tmp_path)
    async with opened(tmp_path) as store:
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xff" * size)
        for _ in range(3):
            try:
                await store.put_response(turn("x"))
            except StoreUnavailable:
                continue
        assert (await store.response(ME, "x")).state == "completed"


async def test_a_file_that_is_removed_while_in_use_is_begun_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put_response(turn("a"))
        for path in store_file(tmp_path).parent.glob("conversations.sqlite3*"):
            if path.suffix != ".lock":
                path.unlink()
        await store.put_response(turn("b"))
        assert store_file(tmp_path).exists()
        assert (await store.response(ME, "b")).state == "completed"


async def test_a_second_server_on_one_file_is_refused_in_words(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreInUse) as refused:
            await make(tmp_path).open()
        await store.put_response(turn("a"))
    assert str(os.getpid()) in str(refused.value)
    assert "\n" not in str(refused.value)
    await works(tmp_path)


@pytest.mark.parametrize("left", [b"", b"1\n", b"999999\n", b"garbage\xff"])
async def test_what_a_lock_file_says_is_only_information(tmp_path: Path, left: bytes) -> None:
    path = store_file(tmp_path)
    path.parent.mkdir()
    path.with_name(path.name + ".lock").write_bytes(left)
    await works(tmp_path)


async def test_a_file_that_another_server_took_meanwhile_is_told_of(tmp_path: Path) -> None:
    folder = store_file(tmp_path).parent
    folder.write_text("a file is in the way")
    async with opened(tmp_path) as late:
        folder.unlink()
        async with opened(tmp_path) as other:
            with pytest.raises(StoreUnavailable, match="another server"):
                await late.put_response(turn("a"))
            await other.put_response(turn("a"))
        assert await late.response(ME, "a")


async def test_two_stores_in_memory_do_not_meet(tmp_path: Path) -> None:
    async with opened(tmp_path, "memory") as one, opened(tmp_path, "memory") as two:
        await one.put_response(turn("a"))
        assert two.status().responses == 0


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put_response(turn("a"))
        folder = store_file(tmp_path).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert set(modes.values()) == {0o600}, modes


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    await fill(tmp_path)
    with closing(sqlite3.connect(store_file(tmp_path), isolation_level=None)) as db:
        migrate(db, LATER)
    before = store_file(tmp_path).read_bytes()
    with pytest.raises(ConfigError, match="newer mlxd"):
        await make(tmp_path).open()
    assert store_file(tmp_path).read_bytes() == before
    with pytest.raises(ConfigError, match="newer mlxd"):
        await make(tmp_path).open()


async def test_a_version_number_that_only_the_header_has_is_damage(tmp_path: Path) -> None:
    await fill(tmp_path)
    with closing(sqlite3.connect(store_file(tmp_path), isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 7")
    await works(tmp_path)


def file_with(path: Path, later: bool) -> StoreFile:
    clock: StoreClock = FakeClock().clock()
    migrations = LATER if later else MIGRATIONS
    return StoreFile(path, max_bytes=2**30, clock=clock, reserve=0, migrations=migrations)


async def test_an_older_file_is_copied_and_brought_up_to_date(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = store_file(tmp_path)
    with closing(file_with(path, later=True).connect(check=True)) as db:
        assert version_of(db) == len(LATER)
        assert db.execute("SELECT count(*) FROM labels").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM responses").fetchone() == (30,)
    backup = path.with_name(f"{path.name}.v1.backup")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as db:
        assert version_of(db) == 1
        assert db.execute("SELECT count(*) FROM responses").fetchone() == (30,)


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_migration_that_is_killed_anywhere_leaves_the_old_or_the_new(
    tmp_path: Path, fresh: bool
) -> None:
    """Before each statement the files are copied: that is what a `kill -9` leaves there."""
    path = store_file(tmp_path)
    if not fresh:
        await fill(tmp_path, 3)
    snapshots: list[Path] = []
    file = file_with(path, later=True)
    db = sqlite3.connect(path, isolation_level=None) if not fresh else None
    if db is None:
        path.parent.mkdir()
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")

    def copy(_statement: str) -> None:
        snapshot = tmp_path / f"snapshot_{len(snapshots)}"
        snapshot.mkdir()
        for companion in path.parent.glob(f"{path.name}*"):
            shutil.copy(companion, snapshot)
        snapshots.append(snapshot / path.name)

    db.set_trace_callback(copy)
    migrate(db, LATER)
    db.set_trace_callback(None)
    db.close()
    assert len(snapshots) > len(LATER[1])
    for snapshot in snapshots:
        with closing(sqlite3.connect(snapshot)) as found:
            version = version_of(found)
            assert tables_of(found) == (expected_tables(version, LATER) if version else {})
            assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with closing(file_with(snapshot, later=True).connect(check=True)) as done:
            assert version_of(done) == len(LATER)
    assert not file.moved


async def test_a_folder_that_can_not_be_written_is_told_and_recovers(tmp_path: Path) -> None:
    path = store_file(tmp_path)
    path.parent.write_text("a file is in the way")
    async with opened(tmp_path) as store:
        assert store.status().problem
        with pytest.raises(StoreUnavailable, match="exists|directory"):
            await store.put_response(turn("a"))
        path.parent.unlink()
        await store.put_response(turn("a"))
        assert store.status().problem == ""


@contextmanager
def not_root() -> Iterator[None]:
    """As somebody whom the rights of files bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_read_only_folder_is_told_and_recovers(tmp_path: Path) -> None:
    folder = store_file(tmp_path).parent
    folder.mkdir()
    for each in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in each.parents:
            each.chmod(0o755)
    folder.chmod(0o555)
    with not_root():
        store = make(tmp_path)
        await store.open()
        with pytest.raises(StoreUnavailable, match="permission denied"):
            await store.put_response(turn("a"))
        assert store.status().problem == "permission denied"
    folder.chmod(0o777)
    with not_root():
        await store.put_response(turn("a"))
        assert (await store.response(ME, "a")).state == "completed"
        assert store.status().problem == ""
        await store.close()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What a full disk looks like: a write that goes on fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_fails_what_can_not_be_kept_and_nothing_else(tmp_path: Path) -> None:
    kept: list[str] = []
    refused = 0
    async with opened(tmp_path) as store:
        with no_file_larger_than(2 * 1024 * 1024):
            for number in range(500):
                put = response(f"r{number}", input=(item(f"i{number}", "x" * 50_000),))
                try:
                    await store.put_response(put)
                    kept.append(put.id)
                except StoreUnavailable:
                    refused += 1
            assert store.status().problem
            assert await store.response(ME, kept[0])
        assert kept
        assert refused > 300
        await store.put_response(turn("after"))
        assert store.status().problem == ""
        assert store.status().responses == len(kept) + 1
    async with opened(tmp_path) as store:
        for name in kept:
            assert await store.response(ME, name)
    with closing(sqlite3.connect(store_file(tmp_path))) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_the_reserve_is_given_back_to_a_full_disk_until_something_is_deleted(
    tmp_path: Path,
) -> None:
    path, clock = store_file(tmp_path), FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        reserve = path.with_name(path.name + ".reserve")
        await store.put_response(turn("a"))
        assert reserve.stat().st_size == 1024 * 1024
        await store.sweep()
        assert reserve.exists()
        clock.pass_time(2 * TTL)
        with no_file_larger_than(100):
            await store.sweep()
            assert store.status().archived == 0
            assert not reserve.exists()
        await store.sweep()
        assert store.status().archived == 1
        assert reserve.exists()


def test_only_sqlites_own_words_for_damage_count_as_damage() -> None:
    made: list[tuple[Callable[[], object], bool]] = [
        (lambda: sqlite3.connect("/nowhere/at/all"), False),
        (lambda: sqlite3.connect(":memory:").execute("SELECT nothing"), False),
    ]
    for do, expected in made:
        with pytest.raises(sqlite3.Error) as caught:
            do()
        assert is_damage(caught.value) is expected
    assert not issubclass(Damaged, sqlite3.Error)
