"""Changing a file that is the user's, and back: whole or not at all."""

import json
import os
import stat
from pathlib import Path

import pytest

from mlxd.launch.edit import Edit, HasEntry, LeftAlone, WholeFile
from mlxd.launch.json_entry import JsonEntry
from mlxd.launch.user_file import COPY, add, undo

MINE = '{"theme":   "dark",\n\n "provider": {"other": [1,2]}}'


def edit(window: int = 1) -> JsonEntry:
    return JsonEntry(("provider", "mlxd"), {"window": window})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(MINE)
    path.chmod(0o640)
    return path


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The folder where the change is remembered."""
    return tmp_path / "state"


def test_what_was_changed_comes_back_byte_for_byte(file: Path, record: Path) -> None:
    assert add(file, edit(), record)
    assert not add(file, edit(), record)
    assert add(file, edit(2), record)
    assert json.loads(file.read_text())["provider"] == {"other": [1, 2], "mlxd": {"window": 2}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (record / COPY).read_text() == MINE
    assert stat.S_IMODE((record / COPY).stat().st_mode) == 0o600
    assert undo(edit(), record) == file
    assert file.read_text() == MINE
    assert list(record.iterdir()) == []
    assert undo(edit(), record) is None


def test_a_file_that_was_changed_since_loses_only_the_entry(file: Path, record: Path) -> None:
    add(file, edit(), record)
    for number, window in enumerate((1, 2)):
        file.write_text(file.read_text().replace('"theme"', f'"more{number}": 1, "theme"'))
        # Whether or not it is added anew in between.
        assert add(file, edit(window), record) == (window == 2)
    undo(edit(), record)
    assert file.read_text() == MINE.replace('"theme"', '"more0": 1, "more1": 1, "theme"')


def test_a_copy_that_was_damaged_is_not_taken(file: Path, record: Path) -> None:
    add(file, edit(), record)
    (record / COPY).write_text("{}")
    undo(edit(), record)
    assert file.read_text() == MINE


def test_a_new_file_goes_with_the_folders_that_were_made_for_it(
    tmp_path: Path, record: Path
) -> None:
    new = tmp_path / "a" / "b" / "config.json"
    for add_by_hand in (False, True):
        assert add(new, edit(), record)
        if add_by_hand:
            (tmp_path / "a" / "mine").touch()
            new.write_text(new.read_text() + "\n\n")
        undo(edit(), record)
        assert not new.exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "mine", "state"]


@pytest.mark.parametrize("entry", [edit(), WholeFile("a = 1\n")], ids=["entry", "whole"])
def test_a_file_that_is_gone_since_is_made_anew(entry: Edit, tmp_path: Path, record: Path) -> None:
    file = tmp_path / "config"
    for _ in range(2):
        assert add(file, entry, record)
        file.unlink()
    assert undo(entry, record) == file
    assert add(file, entry, record)
    undo(entry, record)
    assert not file.exists()


def test_a_file_that_is_all_ours_is_not_written_over_by_hand_made_changes(
    tmp_path: Path, record: Path
) -> None:
    file = tmp_path / "mlxd.toml"
    assert add(file, WholeFile("a = 1\n"), record)
    assert add(file, WholeFile("a = 2\n"), record)
    file.write_text("a = 2\nmine = 3\n")
    with pytest.raises(HasEntry, match="changed by hand"):
        add(file, WholeFile("a = 4\n"), record)
    with pytest.raises(LeftAlone, match="changed by hand"):
        undo(WholeFile(""), record)
    file.write_text("a = 2\n")
    undo(WholeFile(""), record)
    assert not file.exists()


def test_an_entry_that_is_somebodys_work_is_left_alone(file: Path, record: Path) -> None:
    file.write_text('{"provider": {"mlxd": {"mine": true}}}')
    with pytest.raises(HasEntry, match="not put there by this"):
        add(file, edit(), record)
    file.write_text(MINE)
    add(file, edit(), record)
    file.write_text(file.read_text().replace('"window": 1', '"window": 7'))
    with pytest.raises(HasEntry, match="changed by hand"):
        add(file, edit(), record)
    undo(edit(), record)
    assert file.read_text() == MINE


def test_a_link_stays_one(file: Path, record: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "config.json"
    link.symlink_to("../config.json")
    assert add(link, edit(), record)
    assert link.is_symlink()
    assert "mlxd" in file.read_text()
    undo(edit(), record)
    assert link.is_symlink()
    assert file.read_text() == MINE


def test_a_link_to_nothing_yet_gets_its_file(record: Path, tmp_path: Path) -> None:
    link = tmp_path / "config.json"
    link.symlink_to("dotfiles/config.json")
    assert add(link, edit(), record)
    assert (tmp_path / "dotfiles" / "config.json").is_file()
    undo(edit(), record)
    assert link.is_symlink()
    assert not (tmp_path / "dotfiles").exists()


def another_accounts_file(file: Path) -> Path:
    """Root may give files away; everybody else finds a folder of root's."""
    if os.geteuid():
        return Path("/mlxd-config.json")
    os.chown(file, 12345, -1)
    return file


def read_only(file: Path) -> Path:
    file.chmod(0o440)
    return file


def with_second_name(file: Path) -> Path:
    file.with_name("second.json").hardlink_to(file)
    return file


def a_folder(file: Path) -> Path:
    return file.parent


def below_a_file(file: Path) -> Path:
    return file / "config.json"


def in_a_ring(file: Path) -> Path:
    file.unlink()
    file.symlink_to(file)
    return file


def no_text(file: Path) -> Path:
    file.write_bytes(b"\xff\xfe{}")
    return file


def broken(file: Path) -> Path:
    file.write_text("{ // mine\n}")
    return file


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (another_accounts_file, "another account"),
        (read_only, "read-only"),
        (with_second_name, "second name"),
        (a_folder, "is no file"),
        (below_a_file, "can't be read"),
        (in_a_ring, "can't be read"),
        (no_text, "UTF-8"),
        (broken, "no plain JSON"),
    ],
)
def test_what_should_not_be_replaced_is_left_alone(
    prepare: object, reason: str, file: Path, record: Path
) -> None:
    assert callable(prepare)
    path = prepare(file)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LeftAlone, match=reason):
        add(path, edit(), record)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not record.exists()


def test_what_was_broken_since_is_not_undone(file: Path, record: Path) -> None:
    add(file, edit(), record)
    broken(file)
    with pytest.raises(LeftAlone, match="no plain JSON"):
        undo(edit(), record)
    # A later attempt, with the text repaired, still knows what to take out.
    file.write_text('{"provider": {"other": 3, "mlxd": {}}}')
    undo(edit(), record)
    assert file.read_text() == '{"provider": {"other": 3}}'
