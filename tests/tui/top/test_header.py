"""What stands above the tables."""

from mlxd.status import EngineStatus, KeyStatus, ServerStatus, Status
from mlxd.tui.terminal import UNICODE
from mlxd.tui.toned_text import plain
from mlxd.tui.top.header import MOST_KEYS, heading


def shown(*keys: KeyStatus) -> str:
    server = ServerStatus(version="1", state="serving", health="ok")
    status = Status(server=server, engine=EngineStatus("ready", keys=keys))
    return "\n".join(plain(line) for line in heading(status, [], 200, UNICODE))


def test_the_keys_that_have_most_are_shown_with_their_shares() -> None:
    keys = [KeyStatus(name=f"key{n}", share=n / 10) for n in range(5)]
    assert "keys key4 40%, key3 30%, key2 20%" in shown(*keys)
    assert f"key{4 - MOST_KEYS}" not in shown(*keys)


def test_without_keys_nothing_is_said_of_them() -> None:
    assert "keys" not in shown()
    assert "keys" not in shown(KeyStatus(name="idle"))
