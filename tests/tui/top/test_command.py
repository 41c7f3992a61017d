"""`mlxd top` as a command: one snapshot, its exit codes, and how it leaves the terminal."""

import asyncio
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest

from mlxd.cli import main
from mlxd.status import Status
from mlxd.tui.base_app import Crash
from mlxd.tui.top.app import TopApp
from tests.server.support import until
from tests.tui.pictures import BUSY, IDLE
from tests.tui.terminal_process import Terminal
from tests.tui.top.fake_admin import TOKEN, FakeAdmin, fake_admin
from tests.tui.top.watching import SMALL, Watch


@pytest.fixture
async def server() -> AsyncIterator[FakeAdmin]:
    async with fake_admin(BUSY) as fake:
        yield fake


async def run(*arguments: str) -> int:
    """The exit code of `mlxd top`, beside the server of this test's loop."""
    return await asyncio.to_thread(main, ["top", *arguments])


async def test_once_prints_what_a_person_reads(
    server: FakeAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("--once", "--url", server.url, "--token", TOKEN) == 0
    out, err = capsys.readouterr()
    for words in ("serving", "Running (6)", "Queue (3)", "beef0001", "Models (3)"):
        assert words in out
    assert "\x1b" not in out
    assert err == ""


async def test_json_prints_the_status_for_scripts(
    server: FakeAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("--json", "--url", server.url, "--token", TOKEN) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=Status) == BUSY


async def test_a_token_comes_from_the_environment_too(
    server: FakeAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLXD_URL", server.url)
    monkeypatch.setenv("MLXD_ADMIN_TOKEN", TOKEN)
    assert await run("--json") == 0


async def test_a_wrong_token_ends_with_one_and_a_reason(
    server: FakeAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("--once", "--url", server.url, "--token", "wrong") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mlxd: ")
    assert "--token" in err
    assert "wrong --" not in err


async def test_no_server_ends_with_one_and_says_how_to_start_it(
    server: FakeAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    await server.stop()
    assert await run("--once", "--url", server.url) == 1
    assert "mlxd serve" in capsys.readouterr().err


def test_without_a_terminal_it_names_the_other_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top"]) == 2
    assert "--once" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--url", "ftp://x"], ["--frobnicate"]])
def test_wrong_usage_ends_with_two(arguments: list[str]) -> None:
    assert main(["top", "--once", *arguments]) == 2


def on_terminal(server: FakeAdmin) -> Terminal:
    return Terminal("top", "--url", server.url, "--token", TOKEN)


@pytest.mark.parametrize(("how", "code"), [("key", 0), ("ctrl+c", 0), ("SIGTERM", 143)])
async def test_the_terminal_is_left_clean(server: FakeAdmin, how: str, code: int) -> None:
    with on_terminal(server) as terminal:
        await terminal.read_until(b"live")
        match how:
            case "key":
                terminal.press(b"q")
            case "ctrl+c":
                terminal.press(b"\x03")
            case _:
                terminal.process.send_signal(signal.SIGTERM)
        assert await terminal.end() == code
        assert b"Traceback" not in terminal.output


async def test_ctrl_z_gives_the_terminal_back_until_fg(server: FakeAdmin) -> None:
    with on_terminal(server) as terminal:
        await terminal.read_until(b"live")
        terminal.press(b"\x1a")
        await terminal.until_stopped()
        terminal.output = b""
        terminal.process.send_signal(signal.SIGCONT)
        for shown in (b"\x1b[?1049h", b"serving", b"live", b"beef0001"):
            await terminal.read_until(shown)
        terminal.press(b"q")
        assert await terminal.end() == 0


async def test_input_that_is_not_utf_8_ends_nothing(server: FakeAdmin) -> None:
    with on_terminal(server) as terminal:
        await terminal.read_until(b"live")
        terminal.press(b"\x9b31m \xe9\xff")
        # What is read with it goes with it.
        await until(lambda: terminal.unread == 0)
        server.tell(IDLE)
        await terminal.read_until(b"no request runs")
        terminal.press(b"q")
        assert await terminal.end() == 0
        assert b"Error" not in terminal.output


async def test_keys_written_at_once_have_their_effects_in_order(server: FakeAdmin) -> None:
    with on_terminal(server) as terminal:
        await terminal.read_until(b"live")
        terminal.press(b"/queue c/x")
        await terminal.read_until(b"0 of 6: queue c/x")
        terminal.press(b"\x7f" * len("queue c/x") + b"beef0001\rcy?q")
        await until(lambda: server.posted == ["/admin/requests/req_beef0001/cancel"])
        terminal.press(b"2/zq\x1b[200~more\x1b[201~!")
        await terminal.read_until(b"0 of 3: zqmore!")
        assert terminal.process.poll() is None
        terminal.press(b"\rq")
        assert await terminal.end() == 0


async def test_a_crash_is_one_line_without_a_traceback(
    server: FakeAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(TopApp):
        def show_status(self, status: Status) -> None:
            raise ValueError("a bug\nof ours")

    app = Broken(server.client)
    with pytest.raises(Crash, match=r"unexpected ValueError: a bug of ours\. MLXD_DEBUG=1"):
        async with app.run_test(size=SMALL) as pilot:
            await Watch(app, server, pilot, [0.0]).until(lambda: not app.is_running)
    printed = "".join(capsys.readouterr())
    assert "a bug of ours" in printed
    assert "Traceback" not in printed
    assert app.return_code == 1
