"""`mlxd top`: servers that are not there, go, come back, or are not understood."""

import asyncio

import pytest
from msgspec.structs import replace

from mlxd.cli import main
from mlxd.status import Capacity, Status
from mlxd.tui.top.app import TopApp
from tests.tui.pictures import BUSY, IDLE, MODELS, crowded, event
from tests.tui.top.fake_admin import TOKEN, FakeAdmin, fake_admin
from tests.tui.top.watching import SMALL, Watch, seeing, watching


async def test_no_server_is_said_with_what_to_do_until_there_is_one() -> None:
    server = FakeAdmin(BUSY)
    await server.start()
    await server.stop()
    async with watching(IDLE, server=server) as watch:
        await watch.until_shown("No server answers", "refused", "mlxd serve", "not connected")
        await server.start()
        await watch.until_shown("live", "beef0001")
        assert "No server answers" not in watch.text
        await server.stop()


async def test_a_lost_server_leaves_an_old_picture_that_says_its_age() -> None:
    async with seeing(BUSY) as watch:
        await watch.server.stop()
        await watch.until_shown("No server answers")
        watch.now[0] += 65
        watch.app.second_passed()
        await watch.until_shown("gone 1m05s", "beef0001")
        await watch.until_gone("serving", "up 3h12m")
        assert watch.app.dashboard.running.stale
        assert {tone for line in watch.app.dashboard.head.lines[1:] for _, tone in line} == {"dim"}
        await watch.server.start()
        await watch.until_shown("live")
        assert not watch.app.dashboard.running.stale


async def test_the_reason_and_the_next_attempt_are_told() -> None:
    async with watching(BUSY) as watch:
        watch.server.refusal = (503, "The server is not ready.")
        await watch.until_shown("live")
        for writer in list(watch.server.watchers):
            writer.close()
        await watch.until_shown("The server is not ready.")


async def test_a_wrong_token_is_told_with_what_to_do() -> None:
    async with watching(BUSY, token="wrong") as watch:
        await watch.until_shown("The admin token is wrong.", "--token")


async def test_an_endpoint_that_is_off_is_told_with_what_to_do() -> None:
    async with watching(BUSY) as watch:
        watch.server.refusal = (404, "Nothing is here.")
        await watch.until_shown("live")
        await watch.server.stop()
        await watch.server.start()
        await watch.until_shown("admin.enabled")


async def test_a_status_that_is_not_understood_is_told() -> None:
    async with seeing(BUSY) as watch:
        watch.server.send("status", b'{"server": 3}')
        await watch.press("5")
        await watch.until_shown("top.disconnected")
        await watch.press("enter")
        await watch.until_shown("not as mlxd of this version")


async def test_events_that_are_not_known_are_passed_over() -> None:
    async with seeing(BUSY) as watch:
        watch.server.send("fireworks", b"!")
        await watch.tell(crowded(2))
        assert "live" in watch.text


async def test_silence_counts_as_a_lost_connection() -> None:
    server = FakeAdmin(BUSY)
    await server.start()
    app = TopApp(lambda: server.client(), backoff=(60.0,), silence=0.05)
    async with app.run_test(size=SMALL) as pilot:
        watch = Watch(app, server, pilot, [0.0])
        await watch.until_shown("nothing came for")
    await server.stop()


async def test_only_the_newest_of_many_statuses_is_shown() -> None:
    shown: list[Status] = []

    class Counting(TopApp):
        def show_status(self, status: Status) -> None:
            shown.append(status)
            super().show_status(status)

    server = FakeAdmin(BUSY)
    await server.start()
    app = Counting(lambda: server.client())
    async with app.run_test(size=SMALL) as pilot:
        watch = Watch(app, server, pilot, [0.0])
        await watch.until_shown("live")
        for number in range(200):
            server.tell(replace(BUSY, capacity=Capacity(max_queue=number)))
        await watch.until(lambda: shown[-1].capacity.max_queue == 199)
        assert len(shown) < 150
    await server.stop()


@pytest.mark.parametrize("size", [SMALL, (300, 60)])
async def test_no_words_of_a_server_reach_the_terminal_as_commands(size: tuple[int, int]) -> None:
    evil = "x\x1b]0;owned\x07\x9b2J\n"
    status = replace(
        BUSY,
        server=replace(BUSY.server, version=evil, reason=evil, url=evil),
        engine=replace(
            BUSY.engine,
            reason=evil,
            device=evil,
            blas=evil,
            models=(replace(MODELS[0], id=evil, reason=evil, source=evil),),
        ),
        store=replace(BUSY.store, problem=evil),
    )
    async with seeing(status, size) as watch:
        watch.server.happen(event("log", evil))
        watch.server.refusal = (400, evil)
        await watch.press("c", "y")
        await watch.until_shown("x ]0;owned")
        for key in ("4", "enter", "escape", "5", "enter"):
            assert all(line.isprintable() for line in watch.text.splitlines())
            await watch.press(key)


async def test_a_servers_words_are_harmless_on_stderr_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with fake_admin(BUSY) as server:
        server.refusal = (400, "x\x1b]0;owned\x07")
        arguments = ["top", "--once", "--url", server.url, "--token", TOKEN]
        assert await asyncio.to_thread(main, arguments) == 1
    assert capsys.readouterr().err == "mlxd: x ]0;owned\n"
