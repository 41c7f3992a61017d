"""The thread that keeps prefixes on the disk: bytes in, bytes out, within limits.

Other threads only queue work here and look into the index; none of them waits for the disk.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mlxd.engine.prefix_disk import folder
from mlxd.engine.prefix_disk.index import DiskIndex
from mlxd.engine.prefix_disk.spill_file import (
    Buffer,
    DamagedPrefix,
    PositionIds,
    SpillData,
    SpillFile,
    SpillHeader,
    packed,
    scope_id,
    unpacked,
)
from mlxd.engine.protocol import PrefixDiskLimits
from mlxd.status import PrefixDiskFigures

PAUSE = 60.0
"""Seconds without writing after the disk or a limit has refused a file."""
RETRY = 10.0
"""Seconds between two attempts to take a folder that another process holds."""
FORGET = 0.8
"""What earlier reads count for, with each new one, in the speed of the disk."""

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass
class _Counts:
    hits: int = 0
    hit_tokens: int = 0
    dropped: int = 0
    damaged: int = 0


@dataclass
class _Queue:
    """Files that wait to be written; `emptied` is told of room."""

    files: set[SpillFile] = field(default_factory=set)
    bytes: int = 0
    emptied: Callable[[], None] | None = None


class PrefixDisk:
    """The files of one engine process, which the folder belongs to as long as it lives.

    At most so many bytes are `queued`. `post` has the main thread call a function. `models` are the
    configured names: what lies there of others goes first.
    """

    def __init__(
        self,
        limits: PrefixDiskLimits,
        queued: int,
        models: Collection[str],
        post: Callable[[Callable[[], None]], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = Path(limits.path)
        self._limits, self._most_queued, self._models, self._post = limits, queued, models, post
        self._clock = clock
        self._commands: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        # Guards what both threads touch: index, queue, counts.
        self._changed = threading.Condition()
        self._index = DiskIndex()
        self._queue = _Queue()
        self._counts = _Counts()
        self._served: dict[str, str] = {}
        self._key: bytes | None = None
        self.opened = threading.Event()
        """Set once it was tried to open the folder."""
        self._lock = -1
        self._inode = 0
        self._day = folder.DayCount()
        self._stamp = 0
        self._tried = float("-inf")
        self._paused = float("-inf")
        self._problem = ""
        self._rate = 0.0
        self._thread = threading.Thread(target=self._run, name="prefixes", daemon=True)
        self._thread.start()
        self._commands.put(self._own)
        self._commands.put(self.opened.set)

    @property
    def figures(self) -> PrefixDiskFigures:
        """What is shown of it."""
        with self._changed:
            counts = self._counts
            return PrefixDiskFigures(
                limit=self._limits.bytes,
                bytes=self._index.nbytes,
                entries=len(self._index),
                hits=counts.hits,
                hit_tokens=counts.hit_tokens,
                written_today=self._day.at(self._clock()).written,
                dropped=counts.dropped,
                damaged=counts.damaged,
                problem=self._problem,
            )

    def serve(self, model: str, name: str) -> None:
        """A model is loaded whose files have the fingerprint `model`."""
        self._served[name] = model
        self._commands.put(self._label)

    def position(self, model: str, owner: str) -> tuple[PositionIds, tuple[str, str]] | None:
        """The first position of an owner's prompts, and where they lie; None while it is closed."""
        key = self._key
        if key is None:
            # Whoever held the folder may have ended.
            self._commands.put(self._own)
            return None
        scope = scope_id(key, owner)
        return PositionIds(key, model, scope), (model, scope)

    def ask(self, question: Callable[[DiskIndex], Result]) -> Result:
        """What the index says to a question, which must not change it."""
        with self._changed:
            return question(self._index)

    def seconds(self, nbytes: int) -> float:
        """How long reading so much is likely to take; 0 while that is not known."""
        return nbytes / self._rate if self._rate else 0.0

    @property
    def writes(self) -> bool:
        """Whether something may be written now."""
        return self._key is not None and time.monotonic() >= self._paused

    def offer(
        self,
        file: SpillFile,
        nbytes: int,
        content: Callable[[], tuple[SpillHeader, Sequence[Buffer]]],
        *,
        emptied: Callable[[], None] | None = None,
    ) -> bool:
        """Write a file that is not there yet; False, and it is dropped, where the queue is full.

        With `emptied` it is not dropped: that is called when there is room again.
        """
        with self._changed:
            if file in self._index or file in self._queue.files:
                return True
            if not self.writes or nbytes > self._most_queued:
                self._counts.dropped += emptied is None
                return True
            if self._queue.bytes + nbytes > self._most_queued:
                self._queue.emptied = emptied
                self._counts.dropped += emptied is None
                return False
            self._queue.files.add(file)
            self._queue.bytes += nbytes
            key = self._key
        header, arrays = content()

        def write() -> None:
            written = False
            try:
                # A name from before the folder was cleared could not be found again.
                written = self._own() and self._key == key and self._write(file, header, arrays)
            finally:
                self._leave_queue(file, nbytes, dropped=not written)

        self._commands.put(write)
        return True

    def wait_for_room(self, nbytes: int, seconds: float) -> bool:
        """Wait until so much more can be queued; whether that was in time."""

        def fits() -> bool:
            return self._queue.bytes + nbytes <= self._most_queued

        with self._changed:
            return self._changed.wait_for(fits, max(seconds, 0))

    def read(
        self, file: SpillFile, tokens: bytes, then: Callable[[SpillData | None], None]
    ) -> None:
        """Read a file of these tokens; `then` gets nothing if it is not there, or damaged."""
        self._commands.put(lambda: self._read(file, tokens, then))

    def load(self, file: SpillFile, tokens: bytes | None = None) -> SpillData | None:
        """Read a file in the calling thread, which waits for it; see `read`."""
        key = self._key
        try:
            if key is not None:
                content = folder.read_private(self._root / file.place)
                return unpacked(key, content, file.place, tokens)
        except DamagedPrefix as error:
            log.warning("a prefix on the disk is damaged and was removed: %s", error)
            with self._changed:
                self._counts.damaged += 1
            self._remove(file)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("a prefix on the disk can't be read: %s", folder.words_of(error))
            with self._changed:
                self._index.remove(file)
        return None

    def used(self, files: Sequence[SpillFile], tokens: int = 0) -> None:
        """These files were used, and have served so many tokens of a prompt."""
        with self._changed:
            self._counts.hits += bool(tokens)
            self._counts.hit_tokens += tokens
        self._commands.put(lambda: self._touch(files))

    def finish(self, seconds: float) -> bool:
        """Wait until all that was queued is done; whether that was in time."""
        done = threading.Event()
        self._commands.put(done.set)
        return done.wait(max(seconds, 0))

    def then(self, call: Callable[[], None]) -> None:
        """Have the main thread call a function once all that was queued is done."""
        self._commands.put(lambda: self._post(call))

    def close(self) -> None:
        """Let go of the folder, once all that was queued is done."""
        self._commands.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            try:
                command()
            except Exception:
                # The thread must live: prompts wait for what it reads.
                log.exception("keeping prefixes on the disk failed")
        if self._lock >= 0:
            os.close(self._lock)

    def _own(self) -> bool:
        """Whether the folder is this process's, with the key that it was opened with."""
        with suppress(OSError):
            if self._key is not None and os.stat(self._root / folder.KEY).st_ino == self._inode:
                return True
        now = time.monotonic()
        if self._key is None and now < self._tried + RETRY:
            return False
        self._tried = now
        # Someone has cleared the folder, or it was never opened.
        with self._changed:
            self._key, self._index = None, DiskIndex()
        try:
            self._open()
            self._label()
        except folder.FolderInUse:
            self._report("another server uses the folder")
        except OSError as error:
            self._report(f"the folder can't be used: {folder.words_of(error)}")
        return self._key is not None

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("prefixes are not written to the disk for now: %s", problem)
        self._problem = problem

    def _open(self) -> None:
        if self._lock < 0:
            self._lock = folder.take(self._root)
        key = folder.read_key(self._root)
        index = DiskIndex()
        for found in sorted(folder.scan(self._root), key=lambda found: found.used):
            index.add(found.file, found.size)
            self._stamp = max(self._stamp, found.used)
        self._inode = os.stat(self._root / folder.KEY).st_ino
        self._day = folder.DayCount.read(self._root)
        self._problem = ""
        with self._changed:
            self._key, self._index = key, index
        self._hold_limit()

    def _label(self) -> None:
        """Write which model is whose, and let the files that no model can use go first."""
        if self._key is None:
            return
        for name, model in self._served.items():
            # Without a label its files go early, which is no reason not to use them.
            with suppress(OSError):
                folder.label(self._root, model, name)
        for model, name in folder.labels(self._root).items():
            if name not in self._models or self._served.get(name, model) != model:
                with self._changed:
                    self._index.demote(model)

    def _leave_queue(self, file: SpillFile, nbytes: int, *, dropped: bool) -> None:
        with self._changed:
            self._counts.dropped += dropped
            self._queue.files.discard(file)
            self._queue.bytes -= nbytes
            emptied = None
            if 2 * self._queue.bytes <= self._most_queued:
                emptied, self._queue.emptied = self._queue.emptied, None
            self._changed.notify_all()
        if emptied is not None:
            self._post(emptied)

    def _write(self, file: SpillFile, header: SpillHeader, arrays: Sequence[Buffer]) -> bool:
        """Whether a file was written; why not is said, and nothing is written for a while."""
        assert self._key is not None, "the folder is not open"
        pieces = packed(self._key, header, arrays)
        size, day = sum(map(len, pieces)), self._day.at(self._clock())
        path = self._root / file.place
        try:
            if folder.free_bytes(self._root) < self._limits.free_bytes:
                least = self._limits.free_bytes >> 30
                return self._pause(f"the disk has less than {least} GiB free")
            if day.written + size > self._limits.daily_bytes:
                return self._pause("as much as a day may have was written today")
            if size > self._limits.bytes:
                return False
            # Counted first: whoever is killed while writing has written all the same.
            self._day = day._replace(written=day.written + size)
            self._day.write(self._root)
            for parent in (path.parent.parent, path.parent):
                parent.mkdir(exist_ok=True, mode=0o700)
            folder.write_private(path, pieces)
        except OSError as error:
            return self._pause(f"writing failed: {folder.words_of(error)}")
        self._problem = ""
        with self._changed:
            self._index.add(file, size)
        self._mark_used(file)
        self._hold_limit()
        return True

    def _pause(self, problem: str) -> bool:
        self._report(problem)
        self._paused = time.monotonic() + PAUSE
        return False

    def _hold_limit(self) -> None:
        while self._index.nbytes > self._limits.bytes:
            with self._changed:
                file = self._index.next_to_go()
            if file is None:
                return
            self._remove(file)

    def _remove(self, file: SpillFile) -> None:
        with suppress(OSError):
            (self._root / file.place).unlink()
        with self._changed:
            self._index.remove(file)

    def _read(
        self, file: SpillFile, tokens: bytes, then: Callable[[SpillData | None], None]
    ) -> None:
        data = None
        try:
            begun = time.perf_counter()
            if self._own() and (data := self.load(file, tokens)) is not None:
                nbytes = sum(map(len, data.arrays)) + len(data.header.tokens)
                speed = nbytes / max(time.perf_counter() - begun, 1e-6)
                self._rate = FORGET * self._rate + (1 - FORGET) * speed if self._rate else speed
        finally:
            self._post(lambda: then(data))

    def _touch(self, files: Sequence[SpillFile]) -> None:
        with self._changed:
            self._index.use(files)
        for file in reversed(files):
            self._mark_used(file)

    def _mark_used(self, file: SpillFile) -> None:
        # Never less than before: the order has to survive a clock that was set back.
        self._stamp = max(self._stamp + 1, int(self._clock() * 1e9))
        with suppress(OSError, OverflowError):
            os.utime(self._root / file.place, ns=(self._stamp, self._stamp))
