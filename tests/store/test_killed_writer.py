"""`kill -9` in the middle of writing, over and over, on one file."""

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.environment import ROOT
from tests.store.support import ME, names, opened, store_file

CYCLES = 10


def killed(folder: Path, name: str, after: int) -> list[str]:
    """What a writer had acknowledged when it was killed, after so many lines."""
    command = [sys.executable, "-m", "tests.store.writer", str(folder), name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        said = [writer.stdout.readline() for _ in range(after)]
        writer.kill()
        said += writer.stdout.readlines()
    return [line.strip() for line in said if line.endswith("\n")]


async def test_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    chance = random.Random(3)
    put: list[str] = []
    for cycle in range(CYCLES):
        talk, *acknowledged = killed(tmp_path, f"w{cycle}", chance.randrange(2, 60))
        put += acknowledged
        with closing(sqlite3.connect(store_file(tmp_path))) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        async with opened(tmp_path) as store:
            assert store.status().problem == ""
            for name in put:
                assert (await store.response(ME, name)).state == "completed"
            said = [each.split("_in")[0] for each in names(await store.items(ME, talk))[::2]]
        of_talk = [name for name in acknowledged if int(name.rpartition("_")[2]) % 2]
        # What was stored and not told any more may be there too.
        assert [name for name in said if name in of_talk] == of_talk
    assert len(put) > 10 * CYCLES
