"""`mlxd top`: what it does to the server when told to."""

import pytest
from msgspec.structs import replace

from mlxd.tui.top.screens import ConfirmScreen, DetailScreen
from tests.tui.pictures import BUSY, MODELS, with_engine
from tests.tui.top.watching import seeing

CONFIRMING = "y: yes"


@pytest.mark.parametrize("pane", ["1", "2"])
async def test_a_request_is_cancelled_when_that_is_confirmed(pane: str) -> None:
    async with seeing(BUSY) as watch:
        await watch.press(pane, "c")
        await watch.until_shown(CONFIRMING, "Cancel request")
        assert watch.server.posted == []
        await watch.press("y")
        await watch.until(lambda: watch.server.posted != [])
        wanted = {"1": "req_00000000", "2": "req_dead0000"}[pane]
        assert watch.server.posted == [f"/admin/requests/{wanted}/cancel"]
        await watch.until_shown("Cancelled")


@pytest.mark.parametrize("key", ["n", "escape", "enter", "q"])
async def test_whatever_is_not_yes_cancels_nothing(key: str) -> None:
    async with seeing(BUSY) as watch:
        await watch.press("c")
        await watch.until_shown(CONFIRMING)
        await watch.press(key)
        await watch.until_gone(CONFIRMING)
        assert watch.server.posted == []
        assert watch.app.is_running


async def test_a_request_is_cancelled_from_its_details() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("enter")
        await watch.until(lambda: isinstance(watch.app.screen, DetailScreen))
        await watch.press("c")
        await watch.until(lambda: isinstance(watch.app.screen, ConfirmScreen))
        await watch.press("y")
        await watch.until(lambda: watch.server.posted != [])


async def test_a_refused_command_is_told_in_the_servers_words() -> None:
    async with seeing(BUSY) as watch:
        watch.server.refusal = (404, "No request of this id waits or runs.")
        await watch.press("c", "y")
        await watch.until_shown("No request of this id waits or runs.")


async def test_what_was_said_goes_after_a_while() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("3", "c")
        await watch.until_shown("Only a request")
        watch.now[0] += 10
        watch.app.second_passed()
        await watch.until_gone("Only a request")


async def test_models_are_loaded_at_once_and_unloaded_in_use_only_when_confirmed() -> None:
    used = with_engine(BUSY, models=(replace(MODELS[0], running=6), *MODELS[1:]))
    async with seeing(used) as watch:
        await watch.press("4", "down", "l")
        await watch.until(lambda: watch.server.posted == ["/admin/models/demo/load"])
        await watch.press("u")
        await watch.until(lambda: watch.server.posted[1:] == ["/admin/models/demo/unload"])
        await watch.press("up", "u")
        await watch.until_shown("Requests that it answers now: 6", CONFIRMING)
        await watch.press("y")
        await watch.until(lambda: watch.server.posted[2:] == ["/admin/models/qwen3-4b/unload"])


async def test_a_model_is_loaded_only_where_one_is_chosen() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("l", "u")
        await watch.until_shown("Choose a model")
        assert watch.server.posted == []


async def test_the_engine_is_restarted_when_that_is_confirmed() -> None:
    async with seeing(BUSY) as watch:
        await watch.press("R")
        await watch.until_shown("Restart the engine?", "error: 6")
        await watch.press("y")
        await watch.until(lambda: watch.server.posted == ["/admin/engine/restart"])
