"""The supervisor over a healthy process: it routes, cancels, refuses, counts, loads and stops."""

import asyncio
import gc
import sys
import weakref
from pathlib import Path

import pytest
from msgspec.structs import replace

from mlxd.engine.interface import Engine, Markup
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.protocol import EngineLimits
from mlxd.engine.supervision.event_buffer import Unread
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.errors import (
    ContextTooLong,
    DeadlineExceeded,
    EngineStopped,
    InternalError,
    InvalidBody,
    OutOfMemory,
    QueueFull,
)
from mlxd.events import (
    BlockDelta,
    Event,
    Finished,
    Progress,
    Started,
    TokenLogprob,
    Usage,
)
from mlxd.messages import GenerateRequest, Reasoning, ReasoningOptions, Sampling, Tool
from tests.engine.supervision.fake_process import FIGURES, SHARED
from tests.engine.supervision.support import Lab, outcome, say, until_active, until_ready
from tests.engine.support import LIMIT, answer_of, events_of, kinds, until

pytestmark = pytest.mark.process


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def as_engine(supervisor: Supervisor) -> Engine:
    return supervisor


async def test_an_answer_comes_as_one_stream(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        events = await events_of(as_engine(supervisor), say("say hello there"))
    assert events[:3] == [
        Started("small", 3),
        Progress("queued", total=3),
        Progress("prefill", done=1, total=3, cached=1),
    ]
    deltas = [event.text for event in events if isinstance(event, BlockDelta)]
    assert "".join(deltas) == "> hello there "
    finished = events[-1]
    assert isinstance(finished, Finished)
    usage = Usage(3, 1, 4, cache_note=SHARED.cache_note)
    assert (finished.reason, finished.usage) == ("stop", usage)
    assert (finished.timings.prefill, finished.timings.decode) == (2.0, 3.0)


async def test_the_wait_for_the_process_counts_as_queueing(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        waited = (await answer_of(supervisor, say("say a"))).finished.timings.queue
        prompt = (await answer_of(supervisor, say("say a"))).finished.timings.queue
    assert waited > prompt >= 1.0


async def test_the_markup_of_the_model_and_the_mode_of_the_request_are_used(lab: Lab) -> None:
    request = say("say <think> hm </think> yes")
    stripping = replace(request, reasoning=ReasoningOptions(mode="strip"))
    async with lab.running(lab.make()) as supervisor:
        separate = await answer_of(supervisor, request)
        stripped = await answer_of(supervisor, stripping)
    assert separate.reasoning.strip() == "hm"
    assert separate.finished.usage.reasoning > 0
    assert not any(isinstance(part, Reasoning) for part in stripped.parts)


async def test_a_request_for_one_call_ends_with_it(lab: Lab) -> None:
    request = replace(say("call"), tools=(Tool("ls"),), parallel_tools=False)
    async with lab.running(lab.make()) as supervisor:
        answer = await answer_of(supervisor, request)
        await until_active(supervisor, 0)
    assert [call.name for call in answer.tool_calls] == ["ls"]
    assert answer.finished.reason == "tool_calls"
    assert answer.finished.timings.decode > 0


async def test_many_answers_run_together(lab: Lab) -> None:
    said = ["".join(f"{n} " for n in range(count)) for count in range(20)]
    async with lab.running(lab.make()) as supervisor:
        answers = await asyncio.gather(
            *(answer_of(supervisor, say(f"say {words}")) for words in said)
        )
    assert [answer.text for answer in answers] == [f"> {words}" for words in said]


async def test_what_an_engine_may_say_twice_or_late_is_let_pass(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        events = await events_of(supervisor, say("odd"))
    assert [event.phase for event in events if isinstance(event, Progress)] == [
        *("queued", "prefill")
    ]


async def test_refusals_before_and_after_acceptance(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        with pytest.raises(ContextTooLong) as refusal:
            await events_of(supervisor, say("refuse"))
        assert (refusal.value.prompt_tokens, refusal.value.context_length) == (9000, 4096)
        assert isinstance(await outcome(supervisor, say("refuse late")), OutOfMemory)


async def test_leaving_frees_the_row_in_every_state(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        for cancels, state in enumerate(("submitted", "queued", "prefill", "decode")):
            task = asyncio.create_task(events_of(supervisor, say(f"hold {state}")))
            await until_active(supervisor, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not supervisor.status().requests
            await until_active(supervisor, 0)
            assert await supervisor.count_tokens(say("cancels")) == cancels + 1


async def test_leaving_before_the_process_is_ready_never_reaches_it(lab: Lab) -> None:
    supervisor = lab.make()
    task = asyncio.create_task(events_of(supervisor, say("endless")))
    await until(lambda: bool(supervisor.status().requests))
    task.cancel()
    await asyncio.wait({task})
    async with lab.running(supervisor):
        assert await supervisor.count_tokens(say("active")) == 0
        assert await supervisor.count_tokens(say("cancels")) == 0


async def test_a_reader_that_stays_behind_after_leaving_is_released(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        async with supervisor.generate(say("hold queued")) as generation:
            await anext(generation)
            reading = asyncio.create_task(anext(generation))
            await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT):
            with pytest.raises(StopAsyncIteration):
                await reading


async def test_nothing_holds_on_to_a_request_that_is_over(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        async with supervisor.generate(say("endless")) as generation:
            over = weakref.ref(generation)
        del generation
        await until_active(supervisor, 0)
        gc.collect()
        assert over() is None


async def test_a_finished_row_is_not_cancelled_again(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await events_of(supervisor, say("say a"))
        assert await supervisor.count_tokens(say("cancels")) == 0


async def test_a_slow_reader_gets_large_batches(lab: Lab) -> None:
    supervisor = lab.make()
    async with (
        lab.running(supervisor),
        supervisor.generate(say("say " + "word " * 30)) as generation,
    ):
        await until(lambda: not supervisor.status().requests)
        (batch,) = [batch async for batch in generation]
    assert kinds(batch)[-2:] == ["BlockEnd", "Finished"]


async def test_a_reader_that_stops_reading_loses_its_row_and_no_other(lab: Lab) -> None:
    unread = Unread(events=20, seconds=0.05)
    async with lab.running(lab.make(unread=unread)) as supervisor:
        async with supervisor.generate(say("endless")) as generation:
            await until(lambda: not supervisor.status().requests)
            await until_active(supervisor, 0)
            events = [event async for batch in generation for event in batch]
        assert kinds(events)[-2:] == ["BlockEnd", "Failed"]
        assert (await answer_of(supervisor, say("say a"))).text == "> a "


async def test_a_reader_that_reads_in_time_keeps_its_row(lab: Lab) -> None:
    supervisor = lab.make(unread=Unread(events=2, seconds=0.05))
    async with (
        asyncio.timeout(LIMIT),
        lab.running(supervisor),
        supervisor.generate(say("endless")) as generation,
    ):
        seen = 0
        while seen < 100:
            seen += len(await anext(generation))
        assert len(supervisor.status().requests) == 1


async def test_a_request_past_its_deadline_fails_and_frees_its_row(lab: Lab) -> None:
    supervisor = lab.make(limits=EngineLimits(request_seconds=0.1))
    async with lab.running(supervisor):
        await until_ready(supervisor)
        texts = ("hold submitted", "hold queued", "endless")
        for error in await asyncio.gather(*(outcome(supervisor, say(text)) for text in texts)):
            assert isinstance(error, DeadlineExceeded)
            assert error.seconds == 0.1
        await until_active(supervisor, 0)


async def test_requests_past_slots_and_queue_are_refused(lab: Lab) -> None:
    supervisor = lab.make(limits=EngineLimits(max_batch=1, max_queue=2))
    async with lab.running(supervisor):
        tasks = [asyncio.create_task(events_of(supervisor, say("endless"))) for _ in range(3)]
        await until(lambda: len(supervisor.status().requests) == 3)
        with pytest.raises(QueueFull) as refusal:
            await events_of(supervisor, say("say a"))
        assert refusal.value.limit == 2
        assert await supervisor.count_tokens(say("one two")) == 2
        tasks[0].cancel()
        await asyncio.wait({tasks[0]})
        assert (await answer_of(supervisor, say("say a"))).text == "> a "
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize(
    "request_",
    [
        replace(say("say a"), sampling=Sampling(seed=1 << 70)),
        replace(say("say a"), stop=("\ud800",)),
    ],
)
async def test_a_request_that_can_not_be_sent_harms_no_other(
    lab: Lab, request_: GenerateRequest
) -> None:
    supervisor = lab.make()
    early = asyncio.create_task(outcome(supervisor, request_))
    async with lab.running(supervisor):
        await until_ready(supervisor)
        for error in (await early, await outcome(supervisor, request_)):
            assert isinstance(error, InvalidBody)
        with pytest.raises(InvalidBody):
            await supervisor.count_tokens(request_)
        assert not supervisor.status().requests
        assert supervisor.status().restarts == 0


async def test_requests_wait_while_the_process_starts(lab: Lab) -> None:
    supervisor = lab.make()
    waiting = asyncio.create_task(answer_of(supervisor, say("say early")))
    counting = asyncio.create_task(supervisor.count_tokens(say("one two")))
    await until(lambda: bool(supervisor.status().requests))
    assert supervisor.status().state == "starting"
    assert [row.wait_note for row in supervisor.status().requests] == ["the engine is not ready"]
    async with lab.running(supervisor):
        assert (await waiting).text == "> early "
        assert await counting == 2


async def test_status_tells_what_runs(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        task = asyncio.create_task(events_of(supervisor, say("endless")))
        await until(
            lambda: any(row.figures.completion_tokens > 5 for row in supervisor.status().requests)
        )
        status = supervisor.status()
        task.cancel()
        await asyncio.wait({task})
        assert supervisor.status().idle_seconds == 0
    (row,) = status.requests
    assert (row.id, row.model, row.phase, row.age > 0) == ("req", "small", "decode", True)
    assert replace(row.figures, completion_tokens=0) == SHARED
    assert (status.state, status.device, status.blas) == ("ready", "fake", "no blas")
    assert (status.memory_limit, status.figures) == (1 << 30, FIGURES)
    assert (status.step_seconds, status.restarts) == (0.001, 0)
    assert status.pid > 0
    assert status.uptime > 0


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting, seen in /proc")
async def test_the_engine_process_asks_for_huge_pages(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await until_ready(supervisor)
        environment = await asyncio.to_thread(environment_of, supervisor.status().pid)
    assert b"glibc.malloc.hugetlb=1" in environment


async def test_stopping_waits_for_what_runs_and_refuses_what_is_new(lab: Lab) -> None:
    supervisor = lab.make()
    async with lab.running(supervisor):
        await until_ready(supervisor)
        running = asyncio.create_task(answer_of(supervisor, say("pause a")))
        await until(lambda: any(row.phase == "decode" for row in supervisor.status().requests))
        stopping = asyncio.create_task(supervisor.stop(LIMIT))
        await asyncio.sleep(0)
        assert supervisor.status().state == "stopping"
        with pytest.raises(EngineStopped):
            await events_of(supervisor, say("say a"))
        with pytest.raises(EngineStopped):
            await supervisor.count_tokens(say("a"))
        lab.go()
        assert (await running).text == "> a "
        await stopping
        assert supervisor.status().pid == 0


async def test_stopping_fails_what_does_not_end_in_time(lab: Lab) -> None:
    supervisor = lab.make()
    async with lab.running(supervisor):
        await until_ready(supervisor)
        tasks = [
            asyncio.create_task(outcome(supervisor, say(text)))
            for text in ("endless", "hold queued", "hold submitted")
        ]
        await until_active(supervisor, 3)
        await supervisor.stop(0.02)
        assert [type(each) for each in await asyncio.gather(*tasks)] == [EngineStopped] * 3


async def test_a_shorter_stop_overtakes_a_longer_one(lab: Lab) -> None:
    supervisor = lab.make()
    async with lab.running(supervisor), asyncio.timeout(LIMIT):
        running = asyncio.create_task(outcome(supervisor, say("endless")))
        await until_active(supervisor, 1)
        patient = asyncio.create_task(supervisor.stop(60))
        await asyncio.sleep(0)
        await supervisor.stop(0)
        await patient
        assert isinstance(await running, EngineStopped)


async def test_the_process_is_asked_to_end(lab: Lab) -> None:
    async with lab.running(lab.make()) as supervisor:
        await until_ready(supervisor)
        await supervisor.stop(0)
        assert (lab.folder / "ended").exists()


async def test_stopping_is_right_at_any_moment_of_the_start(lab: Lab) -> None:
    for moments in range(12):
        async with lab.running(lab.make()):
            for _ in range(moments):
                await asyncio.sleep(0)


async def test_stopping_before_or_without_a_start_is_right(lab: Lab) -> None:
    supervisor = lab.make()
    waiting = asyncio.create_task(outcome(supervisor, say("say a")))
    await until(lambda: bool(supervisor.status().requests))
    await supervisor.stop(60)
    assert isinstance(await waiting, EngineStopped)
    async with lab.running(supervisor):
        assert supervisor.status().pid == 0
    with pytest.raises(EngineStopped):
        await events_of(supervisor, say("say a"))


async def test_a_bug_in_reading_the_text_costs_one_request(lab: Lab) -> None:
    class Faulty(BlockBuilder):
        def text(
            self, text: str, *, tokens: int, logprobs: tuple[TokenLogprob, ...] = ()
        ) -> list[Event]:
            events = super().text(text, tokens=tokens, logprobs=logprobs)
            assert "bug" not in text
            return events

    async with lab.running(lab.make(blocks=Faulty)) as supervisor:
        other = asyncio.create_task(answer_of(supervisor, say("pause a")))
        error = await outcome(supervisor, say("say a bug endless"))
        assert isinstance(error, InternalError)
        await until_active(supervisor, 1)
        lab.go()
        assert (await other).text == "> a "


async def test_a_bug_in_opening_an_answer_refuses_it(lab: Lab) -> None:
    def faulty(markup: Markup, request: GenerateRequest, **_: object) -> BlockBuilder:
        raise RuntimeError(f"{markup} {request}")

    async with lab.running(lab.make(blocks=faulty)) as supervisor:
        with pytest.raises(InternalError):
            await events_of(supervisor, say("endless"))
        await until_active(supervisor, 0)
