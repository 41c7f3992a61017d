"""The scripted engine keeps the contract of `Engine` and fills in what a script leaves out."""

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest
from msgspec.structs import replace

from mlxd.engine.interface import Engine
from mlxd.engine.phase_times import BATCH_FULL
from mlxd.engine.scripted.answers import IMAGE_TOKENS, block, prompt_tokens, tokens
from mlxd.engine.scripted.engine import (
    FIRST_PROMPT,
    REMEMBERED_TOKENS,
    Gate,
    Pause,
    ScriptedEngine,
    ScriptItem,
)
from mlxd.engine.scripted.playback import LARGEST_BATCH
from mlxd.errors import (
    ContextTooLong,
    EngineStopped,
    ErrorReport,
    ModelNotFound,
    OutOfMemory,
    QueueFull,
)
from mlxd.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    OrderError,
    Progress,
    Started,
    Usage,
)
from mlxd.messages import (
    GenerateRequest,
    Image,
    Message,
    Reasoning,
    Source,
    Text,
    Tool,
    ToolCall,
)
from mlxd.status import ModelInfo
from tests.engine.support import LIMIT, answer_of, ask, events_of, kinds, then, tool_result, user

pytestmark = pytest.mark.thorough

HELLO = (Started("", 0), *block(0, Text("Hello there")), Finished("stop"))


def playing(*items: ScriptItem) -> ScriptedEngine:
    return ScriptedEngine(lambda _: items)


def typed_as_engine(engine: ScriptedEngine) -> Engine:
    return engine


async def test_a_script_is_played_event_by_event() -> None:
    events = await events_of(playing(*HELLO), ask("Hi"))
    assert kinds(events) == ["Started", "BlockStart", *["BlockDelta"] * 2, "BlockEnd", "Finished"]
    assert (await answer_of(typed_as_engine(playing(*HELLO)), ask())).text == "Hello there"


async def test_what_a_script_leaves_out_is_filled_in() -> None:
    prompt = len(prompt_tokens(request := ask("one two three")))
    events = await events_of(playing(*block(0, Text("Hello there"))), request)
    assert events[0] == Started("scripted", prompt)
    assert events[-1] == Finished("stop", Usage(prompt, completion=3, cache_note=FIRST_PROMPT))


async def test_an_empty_script_is_an_empty_answer() -> None:
    assert kinds(await events_of(playing(), ask())) == ["Started", "Finished"]


async def test_a_script_with_a_tool_call_finishes_for_it() -> None:
    call = ToolCall("c1", "ls", '{"path":"."}')
    answer = await answer_of(playing(*block(0, call)), ask())
    assert answer.tool_calls == (call,)
    assert answer.finished.reason == "tool_calls"


async def test_usage_counts_thinking_text_calls_and_the_end_token() -> None:
    script = (
        *block(0, Reasoning("Let me see")),
        *block(1, Text("It is so.")),
        *block(2, ToolCall("c", "ls", "{}")),
    )
    usage = (await answer_of(playing(*script), ask())).finished.usage
    assert (usage.completion, usage.reasoning) == (3 + 4 + 3 + 1, 3)


async def test_written_usage_is_left_alone() -> None:
    written = Usage(prompt=1000, cached=500, completion=7)
    answer = await answer_of(playing(Started("m", 1000), Finished("length", written)), ask())
    assert answer.started == Started("m", 1000)
    assert answer.finished.usage == written


async def test_an_exact_repeat_of_a_prompt_is_cached_but_for_its_last_token() -> None:
    engine = playing(*HELLO)
    first = await answer_of(engine, ask("What is the capital of France?"))
    again = await answer_of(engine, ask("What is the capital of France?"))
    assert first.finished.usage.cached == 0
    assert again.finished.usage.cached == again.finished.usage.prompt - 1


async def test_the_shared_beginning_of_a_conversation_is_cached() -> None:
    engine = playing(*HELLO)
    turn = ask("What is the capital of France?")
    await answer_of(engine, turn)
    usage = (await answer_of(engine, then(turn, user("And of Spain?")))).finished.usage
    assert usage.cached == len(prompt_tokens(turn)) - 1


@pytest.mark.parametrize("other", [Source(key="b"), Source(key="")])
async def test_another_key_shares_no_prefix(other: Source) -> None:
    engine = playing(*HELLO)
    await answer_of(engine, replace(ask(), source=Source(key="a")))
    usage = (await answer_of(engine, replace(ask(), source=other))).finished.usage
    assert usage.cached == 0


def test_tokens_joined_are_the_text() -> None:
    for text in ("", "Hello, world!", "  a\n\tb  ", "日本語 naïve 🎉🎉", "supercalifragilistic"):
        assert "".join(tokens(text)) == text
    assert tokens("Hello, wonderful you") == ["Hello", ",", " wonder", "ful", " you"]


def test_everything_the_model_reads_counts() -> None:
    plain = ask("Hello")
    assert len(prompt_tokens(plain)) == 4
    assert len(prompt_tokens(replace(plain, tools=(Tool("ls", "List", "{}"),)))) == 4 + 6
    call = Message("assistant", (Reasoning("Hm"), ToolCall("c1", "ls", "{}")))
    assert len(prompt_tokens(then(plain, call))) == 4 + 6
    assert len(prompt_tokens(then(plain, tool_result("a b")))) == 4 + 4
    image = Message("user", (Image(b"", "image/png"),))
    assert len(prompt_tokens(then(plain, image))) == 4 + 2 + IMAGE_TOKENS


async def test_counting_tokens_is_what_the_answer_reports() -> None:
    engine = playing(*HELLO)
    request = ask("How many?")
    count = await engine.count_tokens(request)
    assert count == (await answer_of(engine, request)).started.prompt_tokens


async def test_events_before_a_pause_come_as_one_batch() -> None:
    script = (*HELLO[:3], Pause(0.0), *HELLO[3:5], Pause(0.001), *HELLO[5:])
    async with asyncio.timeout(LIMIT), playing(*script).generate(ask()) as generation:
        sizes = [len(batch) async for batch in generation]
    assert sizes == [3, 2, 1]


async def test_an_endless_script_comes_in_bounded_batches() -> None:
    def endless(_: GenerateRequest) -> Iterator[Event]:
        yield from HELLO[:2]
        while True:
            yield BlockDelta(0, "x")

    engine = ScriptedEngine(endless)
    async with asyncio.timeout(LIMIT), engine.generate(ask()) as generation:
        await anext(generation)
        assert len(await anext(generation)) == LARGEST_BATCH
    assert engine.running == 0


async def test_a_gate_holds_the_answer_until_it_opens() -> None:
    gate = asyncio.Event()
    engine = playing(*HELLO[:3], Gate(gate), *HELLO[3:])
    async with asyncio.timeout(LIMIT), engine.generate(ask()) as generation:
        assert len(await anext(generation)) == 3
        waiting = asyncio.create_task(anext(generation))
        done, _ = await asyncio.wait({waiting}, timeout=0.01)
        assert not done
        gate.set()
        assert kinds(await waiting)[-1] == "Finished"
        with pytest.raises(StopAsyncIteration):
            await anext(generation)


async def test_a_script_may_refuse_before_the_first_event() -> None:
    def refuse(_: GenerateRequest) -> Iterator[ScriptItem]:
        yield Pause(0.001)
        raise QueueFull(limit=1)

    engine = ScriptedEngine(refuse)
    with pytest.raises(QueueFull):
        await events_of(engine, ask())
    assert (engine.running, engine.cancelled) == (0, 0)


async def test_an_error_after_the_first_event_ends_the_stream_well() -> None:
    def fail(_: GenerateRequest) -> Iterator[Event]:
        yield from HELLO[:3]
        raise OutOfMemory("no room")

    *events, end, failed = await events_of(ScriptedEngine(fail), ask())
    assert end == BlockEnd(0, Text("Hello"))
    assert isinstance(failed, Failed)
    assert failed.error == ErrorReport("OutOfMemory", {"reason": "no room"})
    assert failed.usage.completion == 1


async def test_a_written_failure_is_played_with_usage() -> None:
    report = OutOfMemory("no room").report()
    events = await events_of(playing(*HELLO[:-1], Failed(report)), ask())
    assert events[-1] == Failed(report, Usage(prompt=4, completion=2, cache_note=FIRST_PROMPT))


async def test_a_script_out_of_order_is_an_error_of_its_writer() -> None:
    with pytest.raises(OrderError):
        await events_of(playing(BlockStart(1, Text("")), *HELLO[1:]), ask())


async def test_leaving_early_frees_the_slot_and_counts() -> None:
    engine = playing(*HELLO[:3], Gate(asyncio.Event()))
    async with engine.generate(ask()) as generation:
        await anext(generation)
        assert engine.running == 1
    assert (engine.running, engine.cancelled) == (0, 1)


async def test_tests_can_wait_for_a_cancellation() -> None:
    engine = playing(*HELLO[:3], Gate(asyncio.Event()))

    async def client() -> None:
        await events_of(engine, ask())

    task = asyncio.create_task(client())
    async with asyncio.timeout(LIMIT):
        await engine.reaches(lambda engine: engine.running == 1)
        task.cancel()
        await engine.reaches(lambda engine: engine.cancelled == 1)
    assert engine.running == 0


async def test_cancelling_while_entering_counts_too() -> None:
    engine = playing(Gate(asyncio.Event()))
    task = asyncio.create_task(events_of(engine, ask()))
    async with asyncio.timeout(LIMIT):
        await engine.reaches(lambda engine: engine.running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (engine.running, engine.cancelled) == (0, 1)


async def test_a_reader_that_stays_behind_after_leaving_is_released() -> None:
    engine = playing(*HELLO[:3], Gate(asyncio.Event()), *HELLO[3:])
    async with engine.generate(ask()) as generation:
        await anext(generation)
        reading = asyncio.create_task(anext(generation))
        await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT):
        with pytest.raises(StopAsyncIteration):
            await reading


async def test_a_finished_answer_is_not_cancelled() -> None:
    engine = playing(*HELLO)
    await answer_of(engine, ask())
    assert (engine.running, engine.cancelled) == (0, 0)


async def test_answers_past_the_slots_queue_and_those_past_the_queue_are_refused() -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine(lambda _: (Gate(gate), *HELLO), max_batch=1, max_queue=1)
    gate.set()
    async with (
        asyncio.timeout(LIMIT),
        engine.generate(ask()) as first,
        engine.generate(ask()) as second,
    ):
        assert kinds(await anext(second)) == ["Started", "Progress"]
        statuses = engine.status().requests
        assert [status.phase for status in statuses] == ["prefill", "queued"]
        assert [status.wait_note for status in statuses] == ["", BATCH_FULL]
        with pytest.raises(QueueFull, match="queue of 1 requests"):
            await events_of(engine, ask())
        rest = asyncio.create_task(anext(second))
        assert kinds(await anext(first))[-1] == "Finished"
        assert kinds(await rest)[-1] == "Finished"


async def test_a_queued_stream_tells_its_prompt() -> None:
    engine = ScriptedEngine(lambda _: HELLO, max_batch=1)
    async with engine.generate(ask()), engine.generate(ask()) as queued:
        assert (await anext(queued))[1] == Progress("queued", total=4)


async def test_an_unknown_model_is_named_with_those_there_are() -> None:
    engine = playing(*HELLO)
    with pytest.raises(ModelNotFound) as failure:
        await events_of(engine, ask(model="nope"))
    assert failure.value.available == ["scripted"]
    with pytest.raises(ModelNotFound):
        await engine.count_tokens(ask(model="nope"))
    with pytest.raises(ModelNotFound):
        await engine.load("nope")


async def test_a_prompt_past_the_window_is_refused() -> None:
    engine = ScriptedEngine(lambda _: HELLO, models=(ModelInfo("m", context_length=4),))
    with pytest.raises(ContextTooLong):
        await events_of(engine, ask("Hello", model="m"))


async def test_models_load_and_unload() -> None:
    engine = ScriptedEngine(lambda _: HELLO, models=(ModelInfo("a"), ModelInfo("b")))
    await engine.load("b")
    assert [model.state for model in engine.models()] == ["unloaded", "loaded"]
    await engine.unload("b")
    assert engine.status().models == engine.models() == (ModelInfo("a"), ModelInfo("b"))


async def test_stopping_waits_for_running_answers() -> None:
    gate = asyncio.Event()
    engine = playing(*HELLO[:3], Gate(gate), *HELLO[3:])
    await engine.start()
    async with asyncio.timeout(LIMIT), engine.generate(ask()) as generation:
        await anext(generation)
        stop = asyncio.create_task(engine.stop(LIMIT))
        await asyncio.sleep(0)
        assert engine.status().state == "stopping"
        with pytest.raises(EngineStopped):
            await events_of(engine, ask())
        gate.set()
        assert kinds(await anext(generation))[-1] == "Finished"
        await stop
    assert engine.status().state == "stopped"


@pytest.mark.parametrize("wait", [Gate(asyncio.Event()), Pause(60.0)])
async def test_stopping_fails_what_does_not_end_in_time(wait: ScriptItem) -> None:
    engine = playing(*HELLO[:3], wait, *HELLO[3:])
    async with asyncio.timeout(LIMIT), engine.generate(ask()) as generation:
        first = await anext(generation)
        rest = asyncio.create_task(anext(generation))
        await asyncio.sleep(0)
        await engine.stop(0)
        assert kinds([*first, *await rest])[-2:] == ["BlockEnd", "Failed"]


async def test_stopping_refuses_what_is_still_entering() -> None:
    engine = playing(Gate(asyncio.Event()))
    task = asyncio.create_task(events_of(engine, ask()))
    async with asyncio.timeout(LIMIT):
        await engine.reaches(lambda engine: engine.running == 1)
        await engine.stop(0)
        with pytest.raises(EngineStopped):
            await task


async def test_endless_prompts_are_not_remembered() -> None:
    engine = playing(*HELLO)
    endless = ask("so long " * (REMEMBERED_TOKENS // 2))
    await answer_of(engine, endless)
    again = await answer_of(engine, endless)
    assert again.finished.usage.cached == 0


async def test_the_requests_that_came_are_kept() -> None:
    engine = playing(*HELLO)
    await events_of(engine, ask("one"))
    await events_of(engine, ask("two"))
    assert [request.messages for request in engine.requests] == [(user("one"),), (user("two"),)]


def test_a_long_text_has_the_tokens_that_it_has_in_one_piece() -> None:
    rng = random.Random(5)
    pieces = ("word", " ", "\n\n", "longerwordthansix", ".", "\u00e9", " " * 40_000, "x" * 50_000)
    for _ in range(20):
        text = "".join(rng.choices(pieces, weights=[40, 40, 9, 20, 9, 9, 1, 1], k=6000))
        whole = re.findall(r" ?\w{1,6}|[^\w\s]|\s+", text)
        assert tokens(text) == whole


async def test_a_huge_prompt_does_not_keep_others_waiting() -> None:
    engine = playing(*HELLO)
    huge = ask("so long, " * 600_000)
    task = asyncio.create_task(answer_of(engine, huge))
    turns = 0
    with suppress(ContextTooLong):
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        await task
    assert turns > 20
