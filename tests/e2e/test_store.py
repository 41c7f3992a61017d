"""`mlxd serve` and the file of its store."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.support import Served, serve

TOML = '[conversations]\npath = "{path}"\n'


def refused(folder: Path, toml: str) -> tuple[int, str]:
    """How a server ends that does not start, and what it says."""
    folder.mkdir()
    with serve(folder, "--scripted", "agent", toml=toml) as served:
        code = served.process.wait(timeout=20)
        lines = served.log.splitlines()
    return code, "\n".join(line for line in lines if "demo" not in line)


def open_store(tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "kept" / "store.sqlite3"
    return TOML.format(path=path), path


def test_a_second_server_on_the_same_file_ends_with_one_line(tmp_path: Path) -> None:
    toml, path = open_store(tmp_path)
    (tmp_path / "first").mkdir()
    with serve(tmp_path / "first", "--scripted", "agent", toml=toml) as first:
        assert str(path) in first.announcement
        code, said = refused(tmp_path / "second", toml)
    assert code == 3
    assert said.startswith("mlxd: ")
    assert str(first.process.pid) in said
    assert len(said.splitlines()) == 1
    assert path.exists()


def test_a_file_of_a_newer_version_ends_the_start_with_a_reason(tmp_path: Path) -> None:
    toml, path = open_store(tmp_path)
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE meta (version INTEGER)")
        db.execute("INSERT INTO meta VALUES (99)")
    code, said = refused(tmp_path / "server", toml)
    assert code == 2
    assert "newer mlxd" in said


def test_scripted_answers_leave_no_files_unless_they_are_to(tmp_path: Path) -> None:
    with serve(tmp_path, "--scripted", "agent") as served:
        assert "in memory" in served.announcement
        _stop(served)
    assert not list(tmp_path.rglob("*.sqlite3*"))


def test_the_file_is_closed_in_order_when_the_server_ends(tmp_path: Path) -> None:
    toml, path = open_store(tmp_path)
    with serve(tmp_path, "--scripted", "agent", toml=toml) as served:
        _stop(served)
    assert path.exists()
    assert not path.with_name(f"{path.name}-wal").exists()


def _stop(served: Served) -> None:
    served.terminate()
    assert served.process.wait(timeout=20) == 0
