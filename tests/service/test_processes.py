"""Signals reach the process that left the file, and no other."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mlxd.admin_token import Access
from mlxd.service.processes import birth, lives, send

pytestmark = pytest.mark.process


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this account."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_is_told_by_its_number_and_its_birth(
    bystander: subprocess.Popen[bytes],
) -> None:
    own = birth(os.getpid())
    assert own
    assert own == birth(os.getpid())
    other = birth(bystander.pid)
    assert other
    bystander.kill()
    os.waitid(os.P_PID, bystander.pid, os.WEXITED | os.WNOWAIT)
    # It is over, though its number is still taken.
    assert birth(bystander.pid) == ""
    for number in (0, -1, 2**40):
        assert birth(number) == ""


def test_what_was_left_by_another_process_signals_nobody(
    bystander: subprocess.Popen[bytes],
) -> None:
    access = Access("http://127.0.0.1:1", "t", bystander.pid, 1.0, birth(bystander.pid))
    for stale in (
        replace(access, birth="1"),
        replace(access, birth=""),
        replace(access, pid=0),
        replace(access, pid=-1, birth=""),
        replace(access, pid=0, birth=""),
    ):
        assert not lives(stale)
        assert not send(stale, signal.SIGTERM)
    assert lives(access)
    assert bystander.poll() is None
    assert send(access, signal.SIGTERM)
    assert bystander.wait(30) == -signal.SIGTERM
