"""The folder of prefixes and its thread: limits, crashes, damage, other processes. No MLX."""

import os
import random
import resource
import stat
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import numpy as np
import pytest

from mlxd.engine.prefix_disk import folder
from mlxd.engine.prefix_disk.folder import clear, read_key, summary
from mlxd.engine.prefix_disk.index import LayerNeeds, Needed, Tokens
from mlxd.engine.prefix_disk.spill import PrefixDisk
from mlxd.engine.prefix_disk.spill_file import (
    ArrayForm,
    DamagedPrefix,
    SpillData,
    SpillFile,
    SpillHeader,
    packed,
    unpacked,
)
from mlxd.engine.protocol import PrefixDiskLimits

MODEL = "a" * 32
SECONDS = 30.0
PLENTY = 10**9
BLOCK = 16
BODY = 2000


def tokens(count: int, start: int = 0) -> Tokens:
    return np.arange(start, start + count, dtype=np.uint32)


class Kept:
    """A disk with blocks of `BLOCK` tokens, whose bytes say which tokens they are of."""

    def __init__(
        self,
        root: Path,
        *,
        most: int = PLENTY,
        daily: int = PLENTY,
        queued: int = PLENTY,
        now: Callable[[], float] = lambda: 1e9,
        free: int = 0,
    ) -> None:
        self.root = root
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        limits = PrefixDiskLimits(str(root), most, daily, free_bytes=free)
        self.disk = PrefixDisk(limits, queued, ["m"], self._posted.put, clock=now)
        self.disk.serve(MODEL, "m")
        assert self.disk.finish(SECONDS)

    def write(self, prompt: Tokens, owner: str = "me") -> None:
        where = self.disk.position(MODEL, owner)
        if where is None:
            return
        at, place = where
        for start in range(0, len(prompt), BLOCK):
            own = prompt[start : start + BLOCK].tobytes()
            end = at.after(own)
            file = SpillFile(place[0], place[1], "kv", end.id, at.id, len(own) // 4)
            body = own * (BODY // len(own))
            form = ArrayForm("uint8", (len(body),), len(body))
            header = SpillHeader(file.place, own, (form,), note=b"me")
            self._offer(file, header, body)
            at = end
        assert self.disk.finish(SECONDS)

    def _offer(self, file: SpillFile, header: SpillHeader, body: bytes) -> None:
        self.disk.offer(file, len(body), lambda: (header, [body]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disk.close()

    def known(self, prompt: Tokens, owner: str = "me") -> int:
        """The tokens of a prompt that are read back; wrong ones fail the test."""
        found = self.needed(prompt, owner)
        return self._read(found, prompt) if found else 0

    def needed(self, prompt: Tokens, owner: str = "me") -> Needed | None:
        """The files that serve a prompt."""
        where = self.disk.position(MODEL, owner)
        if where is None:
            return None
        return self.disk.ask(lambda index: index.longest(*where, prompt, LayerNeeds()))

    def call_posted(self) -> None:
        """As the main thread does."""
        self._posted.get(timeout=SECONDS)()

    def _read(self, needed: Needed, prompt: Tokens) -> int:
        for file, end in needed.files:
            own = prompt[end - file.length : end].tobytes()
            got: list[SpillData | None] = []
            self.disk.read(file, own, got.append)
            self.call_posted()
            if got[0] is None:
                return end - file.length
            assert bytes(got[0].arrays[0]) == own * (BODY // len(own))
            assert got[0].header.note == b"me"
        return needed.tokens


class Opened:
    """The files that were opened below a folder, while it is used."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.paths: list[str] = []
        # There is no way to take it off again.
        sys.addaudithook(self._saw)

    def _saw(self, event: str, details: tuple[object, ...]) -> None:
        if event == "open" and self._root and str(details[0]).startswith(self._root):
            self.paths.append(str(details[0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._root = ""


def paths(root: Path) -> list[Path]:
    return sorted(root / found.file.place for found in folder.scan(root))


def test_what_was_written_is_found_after_a_restart_by_its_owner_alone(tmp_path: Path) -> None:
    with Kept(tmp_path) as run:
        run.write(tokens(100))
    with Kept(tmp_path) as run:
        assert run.known(tokens(120)) == 100
        assert run.known(np.concatenate([tokens(40), tokens(40, 7)])) == 32, "whole blocks"
        assert run.known(tokens(120), "you") == 0
        assert run.known(tokens(100, 1)) == 0
    [model] = summary(tmp_path)
    assert (model.model, model.entries) == ("m", 7)


def test_files_and_folders_are_for_this_account_alone(tmp_path: Path) -> None:
    with Kept(tmp_path / "new") as run:
        run.write(tokens(20))
    for path in [tmp_path / "new", *(tmp_path / "new").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_of_a_damaged_file_nothing_is_ever_used(tmp_path: Path) -> None:
    key, own, body = os.urandom(32), tokens(4).tobytes(), os.urandom(60)
    header = SpillHeader("here", own, (ArrayForm("uint8", (60,), 60),), layers=[{"array": 0}])
    whole = b"".join(packed(key, header, [body]))
    assert bytes(unpacked(key, whole, "here", own).arrays[0]) == body
    rng, damaged = random.Random(5), [whole[:size] for size in range(len(whole))]
    damaged += [whole + b"\0", b"", whole[8:], whole * 2]
    for at in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        damaged.append(bytes(flipped))
    for _ in range(300):
        first, last = sorted(rng.sample(range(len(whole)), 2))
        damaged.append(whole[:first] + rng.randbytes(last - first) + whole[last:])
    for content in damaged:
        with pytest.raises(DamagedPrefix):
            unpacked(key, content, "here", own)
    for others in ((os.urandom(32), "here", own), (key, "there", own), (key, "here", own[::-1])):
        with pytest.raises(DamagedPrefix):
            unpacked(others[0], whole, others[1], others[2])


def damage(path: Path, other: Path, rng: random.Random) -> str:
    """Do something to a file; returns what."""
    content = bytearray(path.read_bytes())
    what = rng.choice(["flip", "cut", "replace", "remove"])
    if what == "remove":
        path.unlink()
        return what
    if what == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del content[rng.randrange(len(content)) :]
    path.write_bytes(other.read_bytes() if what == "replace" else content)
    return what


def test_damaged_and_missing_files_are_misses_and_are_written_anew(tmp_path: Path) -> None:
    rng, prompt, done = random.Random(1), tokens(3 * BLOCK), []
    with Kept(tmp_path) as run:
        run.write(prompt)
        for _ in range(100):
            one, other = rng.sample(paths(tmp_path), 2)
            done.append(damage(one, other, rng))
            assert run.known(prompt) in (0, BLOCK, 2 * BLOCK)
            assert not one.exists()
            run.write(prompt)
            assert run.known(prompt) == len(prompt)
        assert run.disk.figures.damaged == len(done) - done.count("remove")


def test_the_limit_is_passed_by_one_file_at_most_and_what_is_used_stays(tmp_path: Path) -> None:
    with Kept(tmp_path, most=40_000) as run:
        old = tokens(5 * BLOCK, 10**6)
        run.write(old)
        for talk in range(30):
            run.write(tokens(4 * BLOCK, 1000 * talk))
            assert run.known(old) == len(old)
            needed = run.needed(old)
            assert needed is not None
            run.disk.used([file for file, _ in needed.files], len(old))
            assert run.disk.finish(SECONDS)
            assert sum(path.stat().st_size for path in paths(tmp_path)) <= 40_000
        assert run.known(tokens(4 * BLOCK)) == 0
        assert run.known(tokens(4 * BLOCK, 29_000)) == 4 * BLOCK
    with Kept(tmp_path, most=20_000) as run:
        assert sum(path.stat().st_size for path in paths(tmp_path)) <= 20_000
        assert run.known(old) == len(old), "the order survives a restart"


def test_folders_of_models_that_are_not_served_go_first(tmp_path: Path) -> None:
    with Kept(tmp_path) as run:
        run.write(tokens(4 * BLOCK))
    changed = tmp_path / ("b" * 32)
    (tmp_path / MODEL).rename(changed)
    with Kept(tmp_path, most=25_000) as run:
        for talk in range(1, 3):
            run.write(tokens(4 * BLOCK, 1000 * talk))
        assert all(run.known(tokens(4 * BLOCK, 1000 * talk)) == 4 * BLOCK for talk in (1, 2))
        assert sum(MODEL not in path.parts for path in paths(tmp_path)) < 4


def test_a_day_has_a_limit_that_restarts_and_clocks_do_not_lift(tmp_path: Path) -> None:
    day = 86_400.0
    now = 1000 * day
    with Kept(tmp_path, daily=10_000, now=lambda: now) as run:
        run.write(tokens(20 * BLOCK))
        figures = run.disk.figures
        assert figures.written_today <= 10_000
        assert figures.problem == "as much as a day may have was written today"
        written = figures.entries
        assert figures.dropped == 20 - written > 0
    for then in (now, now - 40 * day, now - 41 * day):
        with Kept(tmp_path, daily=10_000, now=partial(float, then)) as run:
            run.write(tokens(2 * BLOCK, 5000))
            assert run.disk.figures.entries == written
    with Kept(tmp_path, daily=10_000, now=lambda: now + day) as run:
        run.write(tokens(2 * BLOCK, 5000))
        assert run.disk.figures.entries == written + 2


def test_nothing_is_written_to_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    with Kept(tmp_path, free=10 * 2**60) as run:
        run.write(tokens(2 * BLOCK))
        assert run.disk.figures.problem == "the disk has less than 10737418240 GiB free"
        assert not run.disk.writes
    assert paths(tmp_path) == []


def test_a_write_that_fails_leaves_nothing_and_is_said(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Kept(tmp_path) as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            run.write(tokens(2 * BLOCK))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        figures = run.disk.figures
        assert figures.problem == "writing failed: file too large"
        assert (figures.entries, figures.dropped) == (0, 2)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".kv")]


def test_a_full_queue_drops_or_says_when_there_is_room(tmp_path: Path) -> None:
    with Kept(tmp_path, queued=10) as run:
        run.write(tokens(3 * BLOCK))
        assert run.disk.figures.dropped == 3, "larger than all that may wait"
    goes_on = threading.Event()

    def now() -> float:
        goes_on.wait()
        return 1e9

    with Kept(tmp_path, queued=BODY, now=now) as run:
        files = [SpillFile(MODEL, MODEL, "kv", id_ * 32, "0" * 32, 1) for id_ in "123"]
        room: list[bool] = []

        def offer(file: SpillFile, emptied: Callable[[], None] | None = None) -> bool:
            header = SpillHeader(file.place, b"", ())
            return run.disk.offer(file, BODY - 100, lambda: (header, []), emptied=emptied)

        assert [offer(files[0]), offer(files[1])] == [True, False]
        assert not offer(files[2], lambda: room.append(True)), "it is not dropped"
        goes_on.set()
        run.call_posted()
        assert room
        assert run.disk.wait_for_room(BODY, SECONDS)
        assert offer(files[2])
        assert run.disk.finish(SECONDS)
        assert (run.disk.figures.dropped, run.disk.figures.entries) == (1, 2)


def test_a_second_server_uses_nothing_of_the_folder(tmp_path: Path) -> None:
    with Kept(tmp_path) as run, Kept(tmp_path) as second:
        run.write(tokens(2 * BLOCK))
        assert second.disk.figures.problem == "another server uses the folder"
        second.write(tokens(2 * BLOCK))
        assert second.known(tokens(2 * BLOCK)) == 0
        assert run.known(tokens(2 * BLOCK)) == 2 * BLOCK


def test_clearing_works_beside_a_server_which_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not ours")
    with Kept(tmp_path) as run:
        run.write(tokens(3 * BLOCK))
        key = read_key(tmp_path)
        clear(tmp_path)
        assert paths(tmp_path) == []
        assert run.known(tokens(3 * BLOCK)) == 0
        run.write(tokens(3 * BLOCK))
        assert run.known(tokens(3 * BLOCK)) == 3 * BLOCK
        assert read_key(tmp_path) != key
    assert (tmp_path / "notes.txt").exists()


def test_a_key_that_others_may_have_read_is_not_used(tmp_path: Path) -> None:
    with Kept(tmp_path) as run:
        run.write(tokens(BLOCK))
    (tmp_path / folder.KEY).chmod(0o644)
    with Kept(tmp_path) as run:
        assert run.known(tokens(BLOCK)) == 0
        assert run.disk.figures.problem == "the folder can't be used: its key can be read by others"


def test_a_start_reads_no_files_body(tmp_path: Path) -> None:
    with Kept(tmp_path) as run:
        run.write(tokens(40 * BLOCK))
    opened: list[str] = []
    watching = True

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(str(args[0]))

    sys.addaudithook(watch)
    with Kept(tmp_path) as run:
        assert run.disk.figures.entries == 40
        watching = False
    assert opened
    assert not [path for path in opened if path.endswith((".kv", ".window", ".state"))]


def test_a_start_with_ten_thousand_files_opens_none_of_them(tmp_path: Path) -> None:
    with Kept(tmp_path) as run:
        run.write(tokens(BLOCK))
    (written,) = paths(tmp_path)
    end, _, rest = written.name.split("-")
    for number in range(10_000):
        kind = "answer" if number % 4 == 0 else "kv"
        os.link(written, written.with_name(f"{number:032x}-{end}-{rest}").with_suffix(f".{kind}"))
    with Opened(tmp_path) as opened, Kept(tmp_path) as run:
        assert run.disk.figures.entries == 10_001
        assert not [path for path in opened.paths if Path(path).suffix in (".kv", ".answer")]
        assert run.known(tokens(BLOCK)) == BLOCK
        # The hook sees what is opened.
        assert [path for path in opened.paths if path.endswith(".kv")] == [str(written)]
