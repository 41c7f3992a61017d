"""A process that is killed while it writes prefixes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.prefix_disk.test_spill import Kept, tokens

pytestmark = pytest.mark.process


def test_killed_while_it_writes_a_process_leaves_whole_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.prefix_disk.writer", str(tmp_path)]
    for round_ in (1, 2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            done = [int(writer.stdout.readline()) for _ in range(5 * round_)]
            writer.kill()
        with Kept(tmp_path) as run:
            assert all(run.known(tokens(64, 100 * talk)) == 64 for talk in done)
            assert run.disk.figures.damaged == 0
        assert not list(tmp_path.rglob("*.tmp"))
