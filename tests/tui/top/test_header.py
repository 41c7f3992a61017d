"""What stands above the tables: the busiest keys, and prefixes on the disk where they are kept."""

from msgspec.structs import replace

from mlxd.status import (
    EngineFigures,
    EngineStatus,
    KeyStatus,
    PrefixDiskFigures,
    ServerStatus,
    Status,
)
from mlxd.tui.terminal import UNICODE
from mlxd.tui.toned_text import plain
from mlxd.tui.top.header import MOST_KEYS, heading
from tests.tui.pictures import IDLE
from tests.tui.top.watching import watching

DISK = PrefixDiskFigures(
    limit=20 * 10**9,
    bytes=3 * 10**9,
    entries=40,
    hits=2,
    hit_tokens=41_000,
    written_today=10**9,
    dropped=3,
)


async def shown(disk: PrefixDiskFigures) -> str:
    figures = EngineFigures(prefix_disk=disk)
    status = replace(IDLE, engine=replace(IDLE.engine, figures=figures))
    async with watching(status, (180, 44)) as watch:
        await watch.until_shown("live")
        return watch.text


async def test_the_disk_has_a_line_where_prefixes_are_kept_there() -> None:
    assert "disk" not in await shown(PrefixDiskFigures())
    text = await shown(DISK)
    (line,) = (line for line in text.splitlines() if "disk" in line)
    assert "disk 3.0 GB/20 GB in 40 files · 2 hits of 41k tokens" in line
    assert "1.0 GB written today · 3 dropped" in line


async def test_what_is_wrong_with_the_disk_is_said() -> None:
    text = await shown(replace(DISK, damaged=2, problem="another server uses the folder"))
    assert "2 damaged on the disk" in text
    assert "prefixes: another server uses the folder" in text


def heading_of(*keys: KeyStatus) -> str:
    server = ServerStatus(version="1", state="serving", health="ok")
    status = Status(server=server, engine=EngineStatus("ready", keys=keys))
    return "\n".join(plain(line) for line in heading(status, [], 200, UNICODE))


def test_the_keys_that_have_most_are_shown_with_their_shares() -> None:
    keys = [KeyStatus(name=f"key{n}", share=n / 10) for n in range(5)]
    assert "keys key4 40%, key3 30%, key2 20%" in heading_of(*keys)
    assert f"key{4 - MOST_KEYS}" not in heading_of(*keys)


def test_without_keys_nothing_is_said_of_them() -> None:
    assert "keys" not in heading_of()
    assert "keys" not in heading_of(KeyStatus(name="idle"))
