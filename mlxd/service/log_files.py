"""The log of the service: where it is, its last lines, and those to come."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

import platformdirs

MAX_BYTES = 10_000_000
"""Bytes of a log file before the next one begins."""
FILES = 3
"""Log files that are kept, the one that is written among them."""
POLL = 0.25
"""Seconds between two looks for new lines."""

Wanted = Callable[[str], bool]


def server_log() -> Path:
    """The file that the service writes; older ones end in `.1` and so on."""
    return platformdirs.user_log_path("mlxd", appauthor=False) / "server.log"


def last_lines(path: Path, count: int, wanted: Wanted) -> tuple[list[str], IO[bytes] | None]:
    """The last lines that are wanted, and the newest file where its whole lines end."""
    opened = _opened(path)
    lines: deque[str] = deque(maxlen=count)
    if opened is not None:
        lines.extend(filter(wanted, _whole_lines(opened)))
    for number in range(1, FILES):
        if len(lines) == count:
            break
        older = _opened(path.with_name(f"{path.name}.{number}"))
        if older is None:
            continue
        with older:
            # Rotated since it was opened: these lines are there already.
            if opened is not None and _same(older, opened):
                continue
            found = [line for line in _whole_lines(older) if wanted(line)]
        room = count - len(lines)
        lines.extendleft(reversed(found[len(found) - min(room, len(found)) :]))
    return list(lines), opened


def coming_lines(
    path: Path, opened: IO[bytes] | None, wanted: Wanted
) -> Generator[str, None, None]:
    """What is written from now on, also into the files that come after this one."""
    try:
        while True:
            if opened is not None:
                yield from filter(wanted, _whole_lines(opened))
            newest = _opened(path)
            if newest is None or (opened is not None and _same(newest, opened)):
                if newest is not None:
                    newest.close()
                time.sleep(POLL)
                continue
            before, opened = opened, newest
            if before is not None:
                # What came between the last look and the rotation.
                late = _whole_lines(before)
                before.close()
                yield from filter(wanted, late)
    finally:
        if opened is not None:
            opened.close()


def _opened(path: Path) -> IO[bytes] | None:
    try:
        return path.open("rb")
    except OSError:
        return None


def _same(one: IO[bytes], other: IO[bytes]) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def _whole_lines(opened: IO[bytes]) -> list[str]:
    """The lines that are there; one that is still being written is left for the next time."""
    if os.fstat(opened.fileno()).st_size < opened.tell():
        # Someone has emptied the file.
        opened.seek(0)
    begin = opened.tell()
    data = opened.read()
    whole, _, rest = data.rpartition(b"\n")
    opened.seek(begin + len(data) - len(rest))
    return whole.decode("utf-8", "replace").split("\n") if whole else []
