"""The archive's files: readable, complete, private, and only where they belong."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from mlxd.config.settings import ConversationSettings
from mlxd.store.archive import write
from mlxd.store.conversations import archive_folder, store_path
from mlxd.store.database import MEMORY
from tests.store.support import ME, TTL, FakeClock, archive_of, item, items, opened, response, turn

HOSTILE = [
    *("../../escape", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\0b", "~", "-rf", "con.json"),
    *("." * 300, "x" * 5000, "ａ", "\N{RIGHT-TO-LEFT OVERRIDE}a", "a\nb", "a b", "$(id)", "%2e%2e"),
]


async def test_a_conversation_becomes_one_readable_file(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        made = await store.create_conversation(ME, metadata=b'{"topic":"x"}', items=items("hello"))
        await store.put_response(turn("a", conversation=made.id))
        await store.put_response(turn("b", previous="a"))
        clock.pass_time(2 * TTL)
        await store.sweep()
        assert store.status().archived == 1
    (path,) = archive_of(tmp_path).iterdir()
    assert path.name == f"{made.id}.json"
    told = msgspec.json.decode(path.read_bytes())
    assert (told["version"], told["id"], told["metadata"]) == (1, made.id, {"topic": "x"})
    assert [each["id"] for each in told["items"]] == ["hello", "a_in", "a_out"]
    assert path.read_text().startswith('{\n  "version": 1,\n')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_chain_is_archived_with_its_forks(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        await store.put_response(turn("a"))
        await store.put_response(turn("b", previous="a"))
        await store.put_response(turn("c", previous="a", root="a"))
        clock.pass_time(2 * TTL)
        await store.sweep()
    told = msgspec.json.decode((archive_of(tmp_path) / "a.json").read_bytes())
    chain = [(each["id"], each.get("previous")) for each in told["responses"]]
    assert chain == [("a", None), ("b", "a"), ("c", "a")]
    assert told["responses"][1]["input"][0]["id"] == "b_in"
    assert told["responses"][1]["response"]["object"] == "response"


async def test_any_text_survives_the_archive(tmp_path: Path) -> None:
    text = 'NUL \0, a bell \a, \u2028, \N{PILE OF POO}, </script>, \\, "quotes"'
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        await store.put_response(response("a", input=(item("i", text),)))
        clock.pass_time(2 * TTL)
        await store.sweep()
    told = msgspec.json.decode((archive_of(tmp_path) / "a.json").read_bytes())
    assert told["responses"][0]["input"][0]["text"] == text


async def test_without_an_archive_what_expires_is_only_removed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=False) as store:
        await store.put_response(turn("a"))
        clock.pass_time(2 * TTL)
        await store.sweep()
        assert (store.status().responses, store.status().archived) == (0, 0)
    assert not archive_of(tmp_path).exists()


async def test_what_its_owner_deletes_is_not_archived(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path, clock=clock, archive=True) as store:
        await store.put_response(turn("a"))
        await store.delete_response(ME, "a")
        clock.pass_time(2 * TTL)
        await store.sweep()
    assert not archive_of(tmp_path).exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_archive(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "outer" / "archive"
    written = write(folder, name, b"{}")
    assert [path.name for path in folder.iterdir()] == [written]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [written]
    assert written.endswith(".json")
    assert len(written) < 200


def test_a_symbolic_link_under_the_files_name_is_replaced_not_followed(tmp_path: Path) -> None:
    folder, victim = tmp_path / "archive", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    (folder / "conv_1.json").symlink_to(victim)
    (folder / f".conv_1.json.{os.getpid()}.tmp").symlink_to(victim)
    write(folder, "conv_1", b"{}")
    assert victim.read_text() == "precious"
    assert not (folder / "conv_1.json").is_symlink()


def test_a_symbolic_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "archive").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"(?i)not a directory|too many levels"):
        write(tmp_path / "archive", "conv_1", b"{}")
    assert not list(elsewhere.iterdir())


def test_a_file_that_can_not_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    (folder / "conv_1.json").mkdir(parents=True)
    with pytest.raises(OSError, match="(?i)directory"):
        write(folder, "conv_1", b"{}")
    assert [path.name for path in folder.iterdir()] == ["conv_1.json"]


def test_relative_paths_start_where_the_documentation_says(tmp_path: Path) -> None:
    config = tmp_path / "conf" / "mlxd.toml"
    path = store_path(ConversationSettings(path="kept/c.sqlite3"), config)
    assert path == tmp_path / "conf" / "kept" / "c.sqlite3"
    assert archive_folder(ConversationSettings(archive_dir="old"), path) == path.parent / "old"
    absolute = str(tmp_path / "old")
    assert archive_folder(ConversationSettings(archive_dir=absolute), path) == tmp_path / "old"
    assert archive_folder(ConversationSettings(archive=False), path) is None
    assert store_path(ConversationSettings(store="memory", path="x"), config) == MEMORY
    assert store_path(ConversationSettings(), config).name == "conversations.sqlite3"
