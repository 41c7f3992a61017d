"""Health: 200 while requests are taken, 503 with a word for why when they are not."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from mlxd.api.health import health_of
from mlxd.engine.handle import EngineState, EngineStatus, ModelInfo, ModelState
from mlxd.engine.scripted import ScriptItem, ScriptedEngine
from mlxd.messages import GenerateRequest
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
        super().__init__(self._script)
        self._status = status

    def status(self) -> EngineStatus:
        return self._status

    def _script(self, _: GenerateRequest) -> Iterable[ScriptItem]:
        return SCRIPTS["text"]
"""
