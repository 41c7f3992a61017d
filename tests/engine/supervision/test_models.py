"""The supervisor loads and unloads models, and has them again after a restart."""

import asyncio
from pathlib import Path

import pytest

from mlxd.engine.protocol import ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import EngineCrashed, MlxdError, ModelNotFound, ModelUnusable, OutOfMemory
from tests.engine.supervision.fake_process import SLOW_LOAD
from tests.engine.supervision.support import (
    LIMITS,
    MODELS,
    NAMES,
    Lab,
    outcome,
    say,
    until_active,
    until_ready,
)
from tests.engine.support import answer_of, events_of, until

pytestmark = pytest.mark.process


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def loaded(supervisor: Supervisor) -> list[str]:
    return [model.id for model in supervisor.models() if model.state == "loaded"]


async def test_an_unknown_model_is_refused_without_the_process(lab: Lab) -> None:
    supervisor = lab.make()
    for refused in (
        events_of(supervisor, say("say a", model="gpt")),
        supervisor.count_tokens(say("a", model="gpt")),
        supervisor.load("gpt"),
        supervisor.unload("gpt"),
    ):
        with pytest.raises(ModelNotFound) as refusal:
            await refused
        assert refusal.value.available == list(NAMES)


async def test_models_load_and_unload(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await supervisor.load("large")
        assert loaded(supervisor) == ["small", "large"]
        await supervisor.unload("small")
        small = supervisor.models()[0]
        assert (small.state, small.context_length, small.bytes) == ("unloaded", 4096, 1000)


async def test_a_model_that_can_not_be_loaded_says_why(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        with pytest.raises(ModelUnusable, match="no weights"):
            await supervisor.load("broken")
        broken = supervisor.models()[2]
        assert (broken.state, broken.reason) == ("failed", "no weights")


async def test_a_refused_load_is_over_even_if_the_process_does_not_say_so(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        with pytest.raises(OutOfMemory):
            await supervisor.load("huge")
        (huge,) = [model for model in supervisor.models() if model.id == "huge"]
        assert huge.state == "failed"
        assert "full" in huge.reason


async def test_a_load_may_take_longer_than_a_step(lab: Lab) -> None:
    async with lab.running(lab.make(stall_timeout=SLOW_LOAD / 2)) as supervisor:
        await supervisor.load("slow")
        assert loaded(supervisor) == ["small", "slow"]


async def test_a_request_may_wait_for_its_model_longer_than_for_a_step(lab: Lab) -> None:
    async with lab.running(lab.make(stall_timeout=SLOW_LOAD / 2)) as supervisor:
        assert (await answer_of(supervisor, say("say a", model="slow"))).text == "> a "


async def test_the_models_that_were_loaded_are_loaded_again(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await supervisor.load("large")
        await outcome(supervisor, say("kill at decode"))
        assert loaded(supervisor) == []
        await until(lambda: loaded(supervisor) == ["small", "large"])
        await supervisor.unload("small")
        await outcome(supervisor, say("kill at decode"))
        await until(lambda: loaded(supervisor) == ["large"])
        await until_ready(supervisor)
        assert loaded(supervisor) == ["large"]


async def test_a_model_that_the_process_died_of_loading_is_not_loaded_again(lab: Lab) -> None:
    lab.faults("load abort")
    async with lab.running(lab.make(preload=None)) as supervisor:
        with pytest.raises(EngineCrashed):
            await supervisor.load("large")
        await answer_of(supervisor, say("say a"))
        assert supervisor.status().restarts == 1


async def test_a_model_that_is_fatal_to_load_again_is_left_alone(lab: Lab) -> None:
    lab.faults("", "load kill")
    async with lab.running(lab.make(preload=None)) as supervisor:
        await supervisor.load("large")
        await outcome(supervisor, say("kill at decode"))
        await until(lambda: supervisor.status().restarts == 2)
        await until_ready(supervisor)
        await answer_of(supervisor, say("say a"))
        (large,) = [model for model in supervisor.models() if model.id == "large"]
        assert (large.state, "SIGKILL" in large.reason) == ("failed", True)
        assert loaded(supervisor) == []


async def test_a_model_that_is_configured_no_more_leaves_with_its_last_answer(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await supervisor.load("large")
        running = asyncio.create_task(outcome(supervisor, say("pause a", model="large")))
        await until_active(supervisor, 1)
        added = ModelSpec("new", source="new", aliases=("fresh",))
        supervisor.configure((MODELS[0], added), LIMITS, preload="small")
        assert [(model.id, model.aliases) for model in supervisor.models()] == [
            ("small", ()),
            ("new", ("fresh",)),
        ]
        with pytest.raises(ModelNotFound) as refusal:
            await events_of(supervisor, say("say a", model="large"))
        assert refusal.value.available == ["small", "new"]
        assert [each.model for each in supervisor.status().requests] == ["large"]
        lab.go()
        assert not isinstance(await running, MlxdError)
        await supervisor.load("new")
        # It comes back as what it is: gone from memory.
        supervisor.configure(MODELS, LIMITS, preload="small")
        await until(lambda: loaded(supervisor) == ["small"])
        assert (await answer_of(supervisor, say("say a"))).text


async def test_a_process_that_is_replaced_has_what_is_configured_now(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await until_ready(supervisor)
        supervisor.configure((ModelSpec("new", source="new"),), LIMITS, preload="new")
        supervisor.restart("a test")
        await until_ready(supervisor)
        assert loaded(supervisor) == []
        assert (await answer_of(supervisor, say("say a", model="new"))).text
