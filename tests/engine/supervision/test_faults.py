"""The supervisor over processes that die, hang and talk nonsense, in every state."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from pathlib import Path

import pytest

from mlxd.engine.protocol import EngineLimits
from mlxd.engine.supervision.process import LINE_CHARS
from mlxd.engine.supervision.restarts import RestartPolicy
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import EngineCrashed, EngineFailed, EngineStalled, EngineStopped, MlxdError
from mlxd.events import Event
from tests.engine.supervision.fake_process import SECRET
from tests.engine.supervision.support import (
    Lab,
    leaving_nothing,
    outcome,
    say,
    until_active,
    until_ready,
)
from tests.engine.support import LIMIT, answer_of, read, until

pytestmark = pytest.mark.process

STATES = ("submitted", "queued", "prefill", "decode")
REASONS = {
    "kill": "killed by SIGKILL",
    "abort": "killed by SIGABRT: Aborted",
    "raise": "exit code 1: RuntimeError",
    "exit": "exit code 3: out of memory",
    "fork": "exit code 7",
    "garbage": "it sent a frame that can't be read",
    "close": "it closed its socket",
    "nonsense": "it reported a model that is not configured",
}
STALL = 0.5
"""Seconds without progress; more than a busy machine needs for a step of the fake."""
SEEDS = 50


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def assert_it_works(supervisor: Supervisor) -> None:
    assert (await answer_of(supervisor, say("say hello"))).text == "> hello "


async def until_it_works(supervisor: Supervisor) -> None:
    """As above, where the patience is so short that a busy machine may seem to hang."""
    while isinstance(error := await outcome(supervisor, say("say hello")), MlxdError):
        assert isinstance(error, EngineStalled)


def start(supervisor: Supervisor, *texts: str) -> list[asyncio.Task[list[Event] | MlxdError]]:
    return [asyncio.create_task(outcome(supervisor, say(text))) for text in texts]


async def test_a_process_that_dies_fails_the_requests_of_every_state(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        for fault, reason in REASONS.items():
            await until_ready(supervisor)
            tasks = start(supervisor, *(f"hold {state}" for state in STATES))
            await until_active(supervisor, len(STATES))
            tasks += start(supervisor, f"{fault} at decode")
            for error in await asyncio.gather(*tasks):
                assert isinstance(error, EngineCrashed)
                assert error.reason == reason
            await assert_it_works(supervisor)
        assert supervisor.status().restarts == len(REASONS)


async def test_a_process_that_talks_nonsense_is_replaced(lab: Lab) -> None:
    reasons = {
        "stray": "it answered a request that it had not accepted",
        "misfit": "it refused with facts that do not fit",
        "bored": "it ended a request for a reason that is none",
    }
    async with lab.running(lab.make()) as supervisor:
        for text, reason in reasons.items():
            error = await outcome(supervisor, say(text))
            assert isinstance(error, EngineCrashed)
            assert error.reason == reason
        await assert_it_works(supervisor)


@pytest.mark.parametrize("fault", ["kill", "abort", "garbage"])
async def test_a_process_that_dies_while_starting_or_loading_is_replaced(
    lab: Lab, fault: str
) -> None:
    lab.faults(f"start {fault}", f"load {fault}")
    async with lab.running(lab.make()) as supervisor:
        # One that waits for the process is served by the next; one that was sent is not repeated.
        first = await outcome(supervisor, say("say hello"))
        assert isinstance(first, EngineCrashed | list)
        await assert_it_works(supervisor)
        assert supervisor.status().restarts == 2


async def test_a_request_that_no_process_has_got_waits_for_the_next(lab: Lab) -> None:
    lab.faults("start kill", "start exit")
    async with lab.running(lab.make()) as supervisor:
        await assert_it_works(supervisor)


async def test_a_process_that_hangs_is_replaced_in_every_state(tmp_path: Path) -> None:
    async def hang(name: str, fault: str, *, load_timeout: float = 30.0) -> None:
        (folder := tmp_path / name).mkdir()
        lab = Lab(folder)
        lab.faults(fault)
        supervisor = lab.make(stall_timeout=STALL, load_timeout=load_timeout)
        async with lab.started(supervisor):
            if not fault:
                error = await outcome(supervisor, say(f"stall at {name}"))
                assert isinstance(error, EngineStalled)
                assert error.seconds >= STALL
            await until_it_works(supervisor)
            assert supervisor.status().restarts >= 1

    async with leaving_nothing(), asyncio.timeout(LIMIT):
        await asyncio.gather(
            hang("start", "start stall"),
            hang("load", "load stall", load_timeout=STALL),
            *(hang(state, "") for state in STATES),
        )


async def test_silence_about_what_runs_is_a_stall_even_if_the_process_answers(lab: Lab) -> None:
    async with lab.running(lab.make(stall_timeout=STALL)) as supervisor:
        await until_ready(supervisor)
        (held,) = start(supervisor, "hold decode")
        while not held.done():
            with contextlib.suppress(EngineStalled):
                await supervisor.count_tokens(say("a"))
        assert isinstance(await held, EngineStalled)


async def test_who_waits_for_another_models_memory_is_no_stall(lab: Lab) -> None:
    # A busy machine may keep a process waiting for some of it.
    patience = 4 * STALL
    async with lab.running(lab.make(stall_timeout=patience)) as supervisor:
        await until_ready(supervisor)
        async with supervisor.generate(say("endless")) as running:
            waiting = asyncio.create_task(answer_of(supervisor, say("postpone a")))
            begun = time.monotonic()
            async for _ in running:
                if time.monotonic() - begun > 2 * patience:
                    break
            lab.go()
            assert (await waiting).text == "> a "
        assert supervisor.status().restarts == 0


async def test_a_load_that_never_ends_is_a_stall(lab: Lab) -> None:
    async with lab.running(lab.make(load_timeout=8 * STALL)) as supervisor:
        await until_ready(supervisor)
        with pytest.raises(EngineStalled):
            await supervisor.load("stuck")
        await until_it_works(supervisor)


async def test_a_death_is_noticed_at_once(lab: Lab) -> None:
    async with lab.running(lab.make(stall_timeout=10 * LIMIT)) as supervisor:
        (held,) = start(supervisor, "endless")
        await until_active(supervisor, 1)
        os.kill(supervisor.status().pid, signal.SIGSEGV)
        # Whoever waits for the watchdog waits for much longer.
        async with asyncio.timeout(LIMIT):
            error = await held
        assert isinstance(error, EngineCrashed)
        assert error.reason == "killed by SIGSEGV: Segmentation fault"


async def test_what_the_process_says_is_logged_and_not_told_to_callers(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with lab.running(lab.make()) as supervisor:
            await supervisor.count_tokens(say("noise " + "x" * (3 * LINE_CHARS)))
            error = await outcome(supervisor, say("raise at decode"))
    assert isinstance(error, EngineCrashed)
    assert SECRET not in str(error)
    lines = [each.getMessage() for each in caplog.records if each.name == "mlxd.engine"]
    assert f"RuntimeError: {SECRET}" in lines
    assert {" 50%", "100%"} <= set(lines)
    (warning,) = [each for each in caplog.records if each.getMessage() == "done"]
    assert (warning.name, warning.levelno) == ("fake", logging.WARNING)
    assert max(map(len, lines)) == LINE_CHARS


async def test_too_many_failures_open_the_breaker(lab: Lab) -> None:
    lab.faults(*["start kill"] * 9)
    policy = RestartPolicy(base=0.0, longest=60.0, limit=3)
    async with lab.running(lab.make(restarts=policy)) as supervisor:
        waiting = await outcome(supervisor, say("say a"))
        for error in (waiting, await outcome(supervisor, say("say a"))):
            assert isinstance(error, EngineFailed)
            assert error.reason == REASONS["kill"]
            assert 50 < error.retry_after <= 60
        with pytest.raises(EngineFailed):
            await supervisor.count_tokens(say("a"))
        status = supervisor.status()
        assert (status.state, status.reason, status.restarts) == ("failed", REASONS["kill"], 2)


async def test_the_breaker_closes_when_a_process_has_its_models(lab: Lab) -> None:
    lab.faults(*["start kill"] * 3)
    policy = RestartPolicy(base=0.0, longest=0.05, limit=2)
    async with lab.running(lab.make(restarts=policy)) as supervisor:
        await until(lambda: supervisor.status().state == "failed")
        await until(lambda: supervisor.status().state == "ready")
        assert supervisor.status().reason == ""
        await assert_it_works(supervisor)


async def test_a_command_that_can_not_be_run_is_a_failure(tmp_path: Path) -> None:
    supervisor = Supervisor(
        (),
        EngineLimits(),
        preload=None,
        stall_timeout=1,
        load_timeout=1,
        command=(str(tmp_path / "none"),),
        restarts=RestartPolicy(base=0.0, limit=2),
    )
    async with leaving_nothing():
        await supervisor.start()
        await until(lambda: supervisor.status().state == "failed")
        assert supervisor.status().reason == "it could not be started: No such file or directory"
        await supervisor.stop(0)


@pytest.mark.parametrize("faults", [["start stall"], ["load stall"], ["start kill"] * 2])
async def test_stopping_is_right_while_starting_loading_and_waiting(
    lab: Lab, faults: list[str]
) -> None:
    lab.faults(*faults)
    policy = RestartPolicy(base=60.0)
    async with lab.running(lab.make(restarts=policy)) as supervisor, asyncio.timeout(LIMIT):
        (waiting,) = start(supervisor, "say a")
        starts = len(faults)
        await until(lambda: supervisor.status().pid > 0)
        await until(lambda: starts == 1 or supervisor.status().state == "restarting")
        await until(lambda: starts == 1 or supervisor.status().pid == 0)
        await supervisor.stop(60)
        assert isinstance(await waiting, EngineStopped)


async def test_a_process_that_hangs_is_killed_when_stopping(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor, asyncio.timeout(LIMIT):
        (held,) = start(supervisor, "stall at decode")
        await until(lambda: any(row.phase == "decode" for row in supervisor.status().requests))
        await supervisor.stop(0)
        assert isinstance(await held, EngineStopped)


async def test_a_crash_while_draining_ends_the_drain(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor, asyncio.timeout(LIMIT):
        (running,) = start(supervisor, "endless")
        await until_active(supervisor, 1)
        stopping = asyncio.create_task(supervisor.stop(60))
        await asyncio.sleep(0)
        os.kill(supervisor.status().pid, signal.SIGKILL)
        await stopping
        assert isinstance(await running, EngineCrashed)
        assert supervisor.status().restarts == 0


def test_a_loop_that_ends_without_a_stop_takes_the_process_with_it(tmp_path: Path) -> None:
    async def forget_to_stop() -> int:
        supervisor = Lab(tmp_path).make()
        await supervisor.start()
        await until_ready(supervisor)
        return supervisor.status().pid

    pid = asyncio.run(forget_to_stop())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_random_interleavings_end_every_request_once(lab: Lab) -> None:
    async with lab.running(lab.make(stall_timeout=5.0)) as supervisor:
        for seed in range(SEEDS):
            await asyncio.wait_for(interleave(supervisor, random.Random(seed)), LIMIT)
            assert not supervisor.status().requests, seed
        await until_ready(supervisor)
        await until_active(supervisor, 0)
        await assert_it_works(supervisor)


async def interleave(supervisor: Supervisor, dice: random.Random) -> None:
    """A handful of callers that come, read, leave and wait as the dice say, and a crash or none."""
    ends = await asyncio.gather(
        *(caller(supervisor, dice) for _ in range(dice.randint(1, 8))),
        crash(supervisor, dice),
    )
    assert all(ends)


async def caller(supervisor: Supervisor, dice: random.Random) -> bool:
    texts = ["say a b", "endless", "refuse", "refuse late", "kill at prefill", "garbage at queued"]
    texts += [f"hold {state}" for state in STATES]
    (text,) = dice.choices(texts, [9, 4, 1, 1, 0.3, 0.3, 1, 1, 1, 1])
    patience = dice.uniform(0, 0.03)
    await asyncio.sleep(dice.uniform(0, 0.01))
    try:
        async with asyncio.timeout(patience if "a b" not in text else LIMIT):
            async with supervisor.generate(say(text)) as generation:
                # `read` checks that there is exactly one terminal event.
                return bool(await read(generation))
    except (MlxdError, TimeoutError):
        return True


async def crash(supervisor: Supervisor, dice: random.Random) -> bool:
    await asyncio.sleep(dice.uniform(0, 0.03))
    if dice.random() < 0.15 and (pid := supervisor.status().pid):
        # It may be gone already, and the loop not know.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, dice.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
    return True
