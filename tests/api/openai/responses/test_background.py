"""Answers in the background: followed, cancelled, deleted, begun again, and always stored once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mlxd.api.app import create_app
from mlxd.api.dialect import Frame
from mlxd.api.openai.responses.background import FrameLog
from mlxd.api.openai.responses.resumed_stream import Differs, ResumedStream
from mlxd.api.wire.framing import SSE
from mlxd.config.settings import Settings
from mlxd.engine.interface import Generation
from mlxd.engine.scripted.engine import Gate, Play, ScriptedEngine
from mlxd.errors import EngineFailed, EngineStalled, MlxdError
from mlxd.events import BlockDelta, Event, Failed, TokenLogprob, check_order
from mlxd.messages import GenerateRequest
from tests.api.stateful import (
    CONVERSATIONS,
    RESPONSES,
    UNIQUE,
    Json,
    asked,
    gated,
    got,
    seen,
    serving,
    streamed,
    text_of,
    until,
)
from tests.api.support import DEMO, LIMIT, Front, error_of
from tests.memory_store import MemoryStore
from tests.scripts import CRASH, STARTED, call, finished, reasoning, text

FINAL = ("completed", "incomplete", "failed", "cancelled")
WHOLE = "One two three."


async def begun(server: Front, **fields: Any) -> str:
    """The id of a run that has told its first word."""
    made = await asked(server, background=True, **fields)
    assert (made["status"], made["output"]) == ("queued", [])
    await seen(server, b"output_text.delta", f"{RESPONSES}/{made['id']}?stream=true")
    name: str = made["id"]
    return name


async def test_a_run_goes_on_without_its_client_and_is_stored_whole() -> None:
    gate = asyncio.Event()
    server = serving(play=gated(gate))
    name = await begun(server)
    now = await got(server, f"{RESPONSES}/{name}")
    assert (now["status"], text_of(now)) == ("in_progress", "One")
    gate.set()
    body = await until(server, name, *FINAL)
    assert (body["status"], text_of(body)) == ("completed", WHOLE)


async def test_every_follower_reads_the_same_from_any_place_live_or_stored() -> None:
    gate = asyncio.Event()
    server = serving(play=gated(gate))
    name = await begun(server)
    path = f"{RESPONSES}/{name}?stream=true"
    places = range(-1, 40)
    live = [
        asyncio.create_task(streamed(server, f"{path}&starting_after={place}")) for place in places
    ]
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(LIMIT):
        told = await asyncio.gather(*live)
    whole = await streamed(server, path)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole[0]["type"] == "response.created"
    assert whole[-1]["type"] == "response.completed"
    for place, events in zip(places, told, strict=True):
        assert events == whole[place + 1 :]
        assert events == await streamed(server, f"{path}&starting_after={place}")


async def test_a_streamed_run_outlives_its_first_reader() -> None:
    gate = asyncio.Event()
    store = MemoryStore()
    server = serving(play=gated(gate), store=store)
    await seen(server, b"output_text.delta", RESPONSES, background=True, stream=True)
    gate.set()
    (name,) = store.responses
    assert text_of(await until(server, name, *FINAL)) == WHOLE


async def test_waiting_for_the_first_word_is_told_to_followers_and_not_kept() -> None:
    gate = asyncio.Event()
    server = serving(play=lambda _: [STARTED, Gate(gate), *text(0, WHOLE), finished()])
    name = (await asked(server, background=True))["id"]
    path = f"{RESPONSES}/{name}?stream=true"
    await seen(server, b": keep-alive\n\n: keep-alive\n\n", path)
    gate.set()
    await until(server, name, *FINAL)
    events = await streamed(server, path)
    assert [event["type"] for event in events].count("response.in_progress") == 1
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_cancelling_frees_the_slot_keeps_what_was_said_and_may_be_repeated() -> None:
    server = serving(play=gated(asyncio.Event()))
    name = await begun(server)
    first = await asked(server, f"{RESPONSES}/{name}/cancel")
    assert (first["status"], text_of(first)) == ("cancelled", "One")
    assert server.engine.running == 0
    assert (first["usage"]["input_tokens"], first["usage"]["output_tokens"]) == (4, 1)
    *_, told = await streamed(server, f"{RESPONSES}/{name}?stream=true")
    assert (told["type"], told["response"]) == ("response.incomplete", first)
    assert await asked(server, f"{RESPONSES}/{name}/cancel") == first
    assert await got(server, f"{RESPONSES}/{name}") == first


async def test_only_a_background_response_is_cancelled() -> None:
    server = serving()
    made = await asked(server)
    refused = await server.post({}, f"{RESPONSES}/{made['id']}/cancel")
    assert refused.status_code == 400
    assert (await error_of(refused))["message"] == "Cannot cancel a synchronous response."


async def test_deleting_a_run_ends_it() -> None:
    server = serving(play=gated(asyncio.Event()))
    name = await begun(server)
    follower = asyncio.create_task(streamed(server, f"{RESPONSES}/{name}?stream=true"))
    await asyncio.sleep(0)
    assert (await server.client.delete(f"{RESPONSES}/{name}")).status_code == 200
    await got(server, f"{RESPONSES}/{name}", 404)
    assert server.engine.running == 0
    async with asyncio.timeout(LIMIT):
        assert (await follower)[-1]["response"]["status"] == "cancelled"


async def test_what_still_runs_can_not_be_gone_on_from() -> None:
    gate = asyncio.Event()
    server = serving(play=gated(gate))
    name = await begun(server)
    body = {"model": "demo", "input": "More", "previous_response_id": name}
    refused = await server.post(body, RESPONSES)
    assert (await error_of(refused))["param"] == "previous_response_id"
    gate.set()
    await until(server, name, *FINAL)
    assert (await server.post(body, RESPONSES)).status_code == 200


async def test_a_run_appends_to_its_conversation_at_its_end() -> None:
    server = serving()
    held = await asked(server, CONVERSATIONS)
    made = await asked(server, background=True, conversation=held["id"])
    await until(server, made["id"], *FINAL)
    listed = await got(server, f"{CONVERSATIONS}/{held['id']}/items?order=asc")
    assert [item["role"] for item in listed["data"]] == ["user", "assistant"]


async def test_a_run_that_is_refused_at_once_is_an_error_and_leaves_nothing() -> None:
    store = MemoryStore()
    engine = ScriptedEngine(gated(asyncio.Event()), models=(DEMO,), max_batch=1, max_queue=0)
    server = Front(create_app(Settings(), engine, store=store, tuning=UNIQUE), engine, store)
    name = (await asked(server, background=True))["id"]
    refused = await server.post({"model": "demo", "input": "x", "background": True}, RESPONSES)
    assert refused.status_code == 503
    assert list(store.responses) == [name]
    await asked(server, f"{RESPONSES}/{name}/cancel")


async def test_a_run_that_can_not_be_stored_as_queued_does_not_begin() -> None:
    store = MemoryStore()
    store.full = True
    server = serving(play=gated(asyncio.Event()), store=store)
    refused = await server.post({"model": "demo", "input": "x", "background": True}, RESPONSES)
    assert refused.status_code == 503
    assert (await error_of(refused))["code"] == "store_unavailable"
    async with asyncio.timeout(LIMIT):
        await server.engine.reaches(lambda engine: not engine.running)


async def test_a_run_whose_end_can_not_be_stored_has_failed_and_says_so() -> None:
    store = MemoryStore()
    store.room = 1
    gate = asyncio.Event()
    server = serving(play=gated(gate), store=store)
    name = await begun(server)
    follower = asyncio.create_task(streamed(server, f"{RESPONSES}/{name}?stream=true"))
    gate.set()
    async with asyncio.timeout(LIMIT):
        assert (await follower)[-1]["type"] == "response.failed"
    body = await got(server, f"{RESPONSES}/{name}")
    assert body["status"] == "failed"
    assert "the disk is full" in body["error"]["message"]


async def test_only_background_responses_are_streamed_again() -> None:
    server = serving()
    made = await asked(server)
    refused = await got(server, f"{RESPONSES}/{made['id']}?stream=true", 400)
    assert refused["error"]["param"] == "stream"


async def test_a_run_that_the_server_ends_on_is_stored_as_failed() -> None:
    store = MemoryStore()
    server = serving(play=gated(asyncio.Event()), store=store)
    await server.app.startup()
    name = await begun(server)
    await server.engine.stop(0.0)
    await server.app.shutdown()
    body = await got(server, f"{RESPONSES}/{name}")
    assert (body["status"], text_of(body)) == ("failed", "One")
    assert "shutting down" in body["error"]["message"]


class Flaky(ScriptedEngine):
    """Refuses the second request a few times, as an engine does that is being replaced."""

    def __init__(self, play: Play, refusals: int) -> None:
        super().__init__(play, models=(DEMO,))
        self._refusals = refusals

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        if self.requests and self._refusals:
            self._refusals -= 1
            raise EngineFailed(retry_after=0.0, reason="it is starting")
        async with super().generate(request) as generation:
            yield generation


def crashing(*answers: list[Event]) -> Play:
    """One of these answers after the other, whatever is asked."""
    left = iter(answers)
    return lambda _: next(left)


def with_engine(engine: ScriptedEngine) -> Front:
    store = MemoryStore()
    return Front(create_app(Settings(), engine, store=store, tuning=UNIQUE), engine, store)


@pytest.mark.parametrize("error", [CRASH, EngineStalled(60.0)])
async def test_a_run_survives_the_engine_and_is_told_as_one(error: MlxdError) -> None:
    lost = [STARTED, *text(0, "One", " t"), Failed(error.report())]
    server = with_engine(
        Flaky(crashing(lost, lost, [STARTED, *text(0, "One two", " three."), finished()]), 3)
    )
    name = (await asked(server, background=True))["id"]
    body = await until(server, name, *FINAL)
    assert (body["status"], text_of(body)) == ("completed", WHOLE)
    events = await streamed(server, f"{RESPONSES}/{name}?stream=true")
    kinds = [event["type"] for event in events]
    assert kinds.count("response.created") == kinds.count("response.output_item.added") == 1
    assert "".join(event["delta"] for event in events if "delta" in event) == WHOLE
    asked_for = server.heard()
    assert len({each.sampling.seed for each in asked_for}) == 1
    assert asked_for[0].sampling.seed is not None


async def test_an_answer_that_comes_out_differently_has_failed_with_the_engines_error() -> None:
    lost = [STARTED, *text(0, "One", " two"), Failed(CRASH.report())]
    server = with_engine(Flaky(crashing(lost, [STARTED, *text(0, "Uno"), finished()]), 0))
    name = (await asked(server, background=True))["id"]
    body = await until(server, name, *FINAL)
    assert (body["status"], text_of(body)) == ("failed", "One two")
    assert body["error"]["message"] == str(CRASH)


async def test_a_request_that_the_engine_always_dies_of_is_given_up() -> None:
    server = with_engine(Flaky(lambda _: [STARTED, Failed(CRASH.report())], 0))
    name = (await asked(server, background=True))["id"]
    body = await until(server, name, *FINAL)
    assert (body["status"], len(server.heard())) == ("failed", 3)


Make = Callable[..., Iterator[Event]]
KINDS: tuple[Make, ...] = (text, reasoning, lambda index, *pieces: call(index, "f", *pieces))
BLOCKS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=4),
    ),
    max_size=3,
)


def script(blocks: list[tuple[Make, list[str]]]) -> list[Event]:
    events: list[Event] = [STARTED]
    for index, (make, pieces) in enumerate(blocks):
        events += make(index, *pieces)
    return [*map(with_logprob, events), finished()]


def with_logprob(event: Event) -> Event:
    if not isinstance(event, BlockDelta):
        return event
    return replace(event, logprobs=(TokenLogprob(event.text, -1.0, event.text.encode()),))


@given(BLOCKS, st.lists(st.integers(0, 20), max_size=3))
def test_an_answer_told_in_pieces_is_the_answer_told_at_once(
    blocks: list[tuple[Make, list[str]]], cuts: list[int]
) -> None:
    whole = script(blocks)
    resumed, told = ResumedStream(), []
    for cut in cuts:
        resumed.begin_again()
        told += list(resumed.new([*whole[: min(cut, len(whole) - 1)]]))
    resumed.begin_again()
    told += list(resumed.new(whole))
    assert list(check_order(told)) == whole


def test_another_answer_is_noticed() -> None:
    resumed = ResumedStream()
    list(resumed.new([STARTED, *text(0, "One")]))
    for other in (text(0, "On"), text(0, "One two"), text(0, "Two"), reasoning(0, "One"), ()):
        resumed.begin_again()
        with pytest.raises(Differs):
            list(resumed.new([STARTED, *other, finished()]))


def test_a_log_drops_its_beginning_when_it_is_full() -> None:
    log = FrameLog(SSE, limit=100)
    log.add(Frame(b"%d" % number) for number in range(30))
    assert log.first > 0
    assert log.since(29) == [b"data: 29\n\n"]
    assert log.whole([]) == ()


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["create", "follow", "cancel", "delete", "open", "drop"]),
        st.integers(0, 3),
        st.integers(-1, 9),
    ),
    max_size=14,
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(ACTS)
async def test_whatever_is_done_every_run_ends_once_and_all_followers_agree(
    acts: list[tuple[str, int, int]],
) -> None:
    gate = asyncio.Event()
    store = MemoryStore()
    server = serving(play=gated(gate), store=store)
    before = asyncio.all_tasks()
    runs: list[str] = []
    deleted: set[str] = set()
    followers: dict[asyncio.Task[list[Json]], tuple[str, int]] = {}
    for act, number, place in acts:
        if act == "create":
            runs.append((await asked(server, background=True))["id"])
        elif act == "open":
            gate.set()
        elif runs:
            name = runs[number % len(runs)]
            path = f"{RESPONSES}/{name}"
            if act == "delete":
                status = (await server.client.delete(path)).status_code
                assert status == (404 if name in deleted else 200)
                deleted.add(name)
            elif act == "cancel":
                status = (await server.post({}, f"{path}/cancel")).status_code
                assert status == (404 if name in deleted else 200)
            elif name not in deleted:
                task = asyncio.create_task(
                    streamed(server, f"{path}?stream=true&starting_after={place}")
                )
                if act == "follow":
                    followers[task] = (name, place)
                else:
                    task.cancel()
        await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(LIMIT):
        told = {task: await task for task in followers if not task.cancelled()}
        for name in runs:
            if name not in deleted:
                assert (await until(server, name, *FINAL))["status"] in FINAL
        while left := asyncio.all_tasks() - before:
            await asyncio.wait(left)
    ends = [name for name, state in store.puts if state in FINAL]
    assert len(ends) == len(set(ends))
    assert set(store.responses) == set(runs) - deleted
    assert server.engine.running == 0
    for task, (name, place) in followers.items():
        if name not in deleted:
            whole = await streamed(server, f"{RESPONSES}/{name}?stream=true")
            assert told[task] == whole[place + 1 :]
