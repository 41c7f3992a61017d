"""The log in files: rotated, read across files, followed."""

import logging
import stat
from itertools import islice
from pathlib import Path

import pytest

from mlxd.server.logs import LogFile
from mlxd.service.log_files import FILES, MAX_BYTES, coming_lines, last_lines, server_log


def all_lines(_line: str) -> bool:
    return True


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "state" / "log" / "server.log"


def write(handler: logging.Handler, *texts: str) -> None:
    for text in texts:
        handler.emit(logging.LogRecord("mlxd", logging.INFO, "", 0, text, None, None))


def last(path: Path, count: int) -> list[str]:
    lines, opened = last_lines(path, count, all_lines)
    if opened is not None:
        opened.close()
    return lines


def test_the_log_keeps_three_files_of_ten_megabytes_for_its_owner_alone(log: Path) -> None:
    handler = LogFile(log)
    megabyte = "x" * 999_999
    for number in range(45):
        write(handler, f"{number:02}{megabyte}")
    handler.close()
    files = sorted(log.parent.iterdir())
    assert [each.name for each in files] == ["server.log", "server.log.1", "server.log.2"]
    assert (FILES, MAX_BYTES) == (3, 10_000_000)
    assert all(each.stat().st_size <= MAX_BYTES for each in files)
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in log.parents[:2]} == {0o700}
    assert [line[:2] for line in last(log, 12)] == [str(number) for number in range(33, 45)]


def test_the_last_lines_are_found_across_files_in_their_order(log: Path) -> None:
    log.parent.mkdir(parents=True)
    log.with_name("server.log.2").write_text("a\nb\n")
    log.with_name("server.log.1").write_text("c\n")
    log.write_text("d\ne\nhalf")
    assert last(log, 100) == ["a", "b", "c", "d", "e"]
    assert last(log, 4) == ["b", "c", "d", "e"]
    assert last(log, 1) == ["e"]
    assert last(log, 0) == []
    assert last(log.with_name("none"), 5) == []
    lines, opened = last_lines(log, 2, lambda line: line in "ab")
    assert (lines, opened is not None) == (["a", "b"], True)
    assert opened is not None
    opened.close()


def test_followed_lines_come_whole_once_and_across_a_rotation(log: Path) -> None:
    log.parent.mkdir(parents=True)
    log.write_text("seen\nha")
    _, opened = last_lines(log, 1, all_lines)
    coming = coming_lines(log, opened, all_lines)
    with log.open("a") as file:
        file.write("lf\nsecond\n")
    assert list(islice(coming, 2)) == ["half", "second"]
    with log.open("a") as file:
        file.write("before\n")
    log.rename(log.with_name("server.log.1"))
    log.write_text("after\n")
    assert list(islice(coming, 2)) == ["before", "after"]
    # Emptied by someone; and taken away, which is no end.
    log.write_text("")
    log.write_text("n\n")
    assert next(coming) == "n"
    log.unlink()
    log.write_text("anew\n")
    assert next(coming) == "anew"
    coming.close()


def test_the_log_is_in_the_state_folder_or_where_a_mac_has_logs() -> None:
    assert server_log().name == "server.log"
    assert server_log().parent.name in ("log", "mlxd")
