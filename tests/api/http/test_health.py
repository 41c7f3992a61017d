"""Health: 200 while requests are taken, 503 with a word for why when they are not."""

from typing import Any

import pytest
from msgspec.structs import replace

from mlxd.api.app import create_app
from mlxd.api.http.health import health_of
from mlxd.engine.scripted.engine import ScriptedEngine
from mlxd.status import EngineState, EngineStatus, ModelInfo, ModelState
from tests.api.support import DEMO, Front, front, settings_for
from tests.scripts import SCRIPTS


def model(state: ModelState, name: str = "demo") -> ModelInfo:
    return replace(DEMO, id=name, state=state)


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (EngineStatus("starting"), "loading"),
        (EngineStatus("ready"), "ok"),
        (EngineStatus("ready", models=(model("unloaded"),)), "ok"),
        (EngineStatus("ready", models=(model("loading"),)), "loading"),
        (EngineStatus("ready", models=(model("loading"), model("loaded", "b"))), "ok"),
        (EngineStatus("ready", models=(model("loading"), model("failed", "b"))), "loading"),
        (EngineStatus("ready", models=(model("failed"),)), "failed"),
        (EngineStatus("ready", models=(model("failed"), model("loaded", "b"))), "ok"),
        (EngineStatus("ready", idle_seconds=59.0), "ok"),
        (EngineStatus("ready", idle_seconds=61.0), "stalled"),
        (EngineStatus("restarting", idle_seconds=61.0), "restarting"),
        (EngineStatus("failed", models=(model("loading"),)), "failed"),
        (EngineStatus("stopping"), "draining"),
        (EngineStatus("stopped"), "draining"),
    ],
)
def test_one_word_tells_the_state(status: EngineStatus, health: str) -> None:
    assert health_of(status, stall_timeout=60.0) == health


class Reporting(ScriptedEngine):
    """An engine that says of itself what it is told to say."""

    def __init__(self, status: EngineStatus) -> None:
        super().__init__(lambda _: SCRIPTS["text"])
        self._told = status

    def status(self) -> EngineStatus:
        return self._told


def serving(status: EngineStatus, **server: Any) -> Front:
    engine = Reporting(status)
    return Front(create_app(settings_for(**server), engine), engine)


FAILED = EngineStatus(
    "failed", reason="killed by signal 9", restarts=3, models=(model("loaded"),), device="cpu"
)


KNOWN = {"aliases": ["gpt-4o", "claude-*"], "context_length": 8192}


async def test_details_say_what_happened() -> None:
    response = await serving(FAILED).get("/health")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    body = await response.get_json()
    assert body["status"] == "failed"
    assert body["engine"]["state"] == "failed"
    assert (body["engine"]["reason"], body["engine"]["restarts"]) == ("killed by signal 9", 3)
    assert body["models"] == [{"id": "demo", "state": "loaded", **KNOWN}]


@pytest.mark.parametrize(
    ("status", "code"), [("ready", 200), ("starting", 200), ("restarting", 503), ("stopping", 503)]
)
async def test_the_status_code_says_whether_requests_are_taken(
    status: EngineState, code: int
) -> None:
    server = serving(EngineStatus(status))
    assert (await server.get("/health")).status_code == code
    assert (await server.client.head("/health")).status_code == code


async def test_a_model_that_failed_to_load_says_why() -> None:
    failed = replace(model("failed"), reason="config.json is missing")
    response = await serving(EngineStatus("ready", models=(failed,))).get("/health")
    assert response.status_code == 503
    told = (await response.get_json())["models"]
    assert told == [{"id": "demo", "state": "failed", "reason": "config.json is missing", **KNOWN}]


@pytest.mark.parametrize("headers", [{}, {"x_api_key": "wrong"}])
async def test_who_has_no_key_learns_the_word_and_nothing_else(headers: dict[str, str]) -> None:
    server = serving(FAILED, api_keys=("right",))
    stranger = await server.get("/health", **headers)
    assert (stranger.status_code, await stranger.get_json()) == (503, {"status": "failed"})
    known = await server.get("/health", x_api_key="right")
    assert "engine" in await known.get_json()


async def test_a_server_that_drains_says_so_and_takes_nothing() -> None:
    server = front(*SCRIPTS["text"])
    await server.engine.stop(0)
    assert (await server.get("/health")).status_code == 503
    response = await server.ask()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
