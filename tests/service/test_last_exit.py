"""Why the service ended for good, as the next command finds it."""

import os
import stat
from pathlib import Path

import pytest

from mlxd.service import last_exit


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_reason_is_there_until_a_start_works() -> None:
    assert last_exit.read() is None
    last_exit.clear()
    last_exit.write(3, "the port is taken")
    found = last_exit.read()
    assert found is not None
    assert (found.code, found.reason) == (3, "the port is taken")
    assert stat.S_IMODE(last_exit.file().stat().st_mode) == 0o600
    assert os.listdir(last_exit.file().parent) == ["service.json"]
    last_exit.clear()
    assert last_exit.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"code": "x"}', '{"code": 2}'])
def test_a_file_that_cannot_be_read_says_nothing(text: str) -> None:
    last_exit.file().parent.mkdir(parents=True)
    last_exit.file().write_text(text)
    assert last_exit.read() is None


def test_where_nothing_can_be_written_the_end_is_the_same() -> None:
    last_exit.file().parent.parent.write_text("a file where the folder should be")
    last_exit.write(2, "a reason")
    last_exit.clear()
    assert last_exit.read() is None


@pytest.mark.parametrize(
    ("code", "platform", "shown"),
    [(2, "darwin", 0), (3, "darwin", 0), (1, "darwin", 1), (2, "linux", 2), (3, "linux", 3)],
)
def test_launchd_is_told_of_no_failure_that_would_only_come_again(
    code: int, platform: str, shown: int
) -> None:
    assert last_exit.exit_code(code, platform) == shown
