"""How answers end: what is stored of each, and what a server that is ending still takes on."""

import asyncio
from collections.abc import Iterator

import pytest

from mlxd.api.openai.responses.background import UNSTORED
from mlxd.engine.scripted.engine import Gate, ScriptItem
from mlxd.events import Failed
from mlxd.history import RUNNING, StoredResponse
from mlxd.messages import GenerateRequest
from tests.api.stateful import (
    CONVERSATIONS,
    RESPONSES,
    asked,
    events_of,
    gated,
    got,
    seen,
    serving,
    streamed,
    text_of,
    until,
)
from tests.api.support import LIMIT, bytes_of, error_of
from tests.memory_store import MemoryStore
from tests.scripts import CRASH, STARTED, call, finished, reasoning, text

pytestmark = pytest.mark.thorough

FAILURES: dict[str, list[ScriptItem]] = {
    "before any text": [STARTED, Failed(CRASH.report())],
    "in its text": [STARTED, *text(0, "One"), Failed(CRASH.report())],
    "in its thinking": [STARTED, *reasoning(0, "Hm"), Failed(CRASH.report())],
    "in a call": [STARTED, *text(0, "One"), *call(1, "f", "{"), Failed(CRASH.report())],
}


@pytest.mark.parametrize("place", FAILURES)
async def test_a_stream_that_fails_leaves_its_response_to_be_read(place: str) -> None:
    server = serving(*FAILURES[place])
    response = await server.post({"model": "demo", "input": "Hi", "stream": True}, RESPONSES)
    end = events_of(await bytes_of(response))[-1]
    assert end["type"] == "response.failed"
    stored = await got(server, f"{RESPONSES}/{end['response']['id']}")
    assert stored == end["response"]
    assert (stored["status"], stored["error"]["message"]) == ("failed", str(CRASH))
    items = await got(server, f"{RESPONSES}/{stored['id']}/input_items")
    assert [each["content"][0]["text"] for each in items["data"]] == ["Hi"]


@pytest.mark.parametrize("place", FAILURES)
async def test_a_whole_answer_that_fails_has_no_id_and_is_not_stored(place: str) -> None:
    store = MemoryStore()
    server = serving(*FAILURES[place], store=store)
    response = await server.post({"model": "demo", "input": "Hi"}, RESPONSES)
    assert response.status_code == 503
    assert store.puts == []


async def test_a_stream_that_is_not_to_be_stored_leaves_nothing_when_it_fails() -> None:
    store = MemoryStore()
    server = serving(*FAILURES["in its text"], store=store)
    body = {"model": "demo", "input": "Hi", "stream": True, "store": False}
    events = events_of(await bytes_of(await server.post(body, RESPONSES)))
    assert events[-1]["type"] == "response.failed"
    assert store.puts == []


async def test_a_failure_that_can_not_be_stored_either_is_told_as_the_first_one() -> None:
    store = MemoryStore()
    store.full = True
    server = serving(*FAILURES["in its text"], store=store)
    response = await server.post({"model": "demo", "input": "Hi", "stream": True}, RESPONSES)
    end = events_of(await bytes_of(response))[-1]
    assert (end["type"], end["response"]["error"]["message"]) == ("response.failed", str(CRASH))


@pytest.mark.parametrize("live", [False, True])
async def test_an_answer_that_is_not_stored_outlives_the_conversation_it_was_for(
    live: bool,
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        begun.set()
        yield from gated(gate)(request)

    store = MemoryStore()
    server = serving(play=play, store=store)
    name = (await asked(server, CONVERSATIONS))["id"]
    body = {"model": "demo", "input": "Hi", "conversation": name, "store": False, "stream": live}
    async with asyncio.timeout(LIMIT):
        asking = asyncio.create_task(server.post(body, RESPONSES))
        await begun.wait()
        assert (await server.client.delete(f"{CONVERSATIONS}/{name}")).status_code == 200
        gate.set()
        response = await asking
    assert response.status_code == 200
    data = await response.get_json() if not live else None
    told = data or events_of(await bytes_of(response))[-1]["response"]
    assert (told["status"], text_of(told)) == ("completed", "One two three.")
    assert (store.puts, store.conversations) == ([], {})


async def test_a_server_that_is_ending_takes_on_no_run_in_the_background() -> None:
    store = MemoryStore()
    server = serving(play=gated(asyncio.Event()), store=store)
    await server.app.startup()
    await server.app.shutdown()
    body = {"model": "demo", "input": "Hi", "background": True}
    for fields in (body, {**body, "stream": True}):
        refused = await server.post(fields, RESPONSES)
        assert refused.status_code == 503
        assert "shutting down" in (await error_of(refused))["message"]
    assert (store.puts, server.heard()) == ([], [])


async def test_a_run_that_is_begun_while_others_are_ended_is_refused_or_ends_too() -> None:
    server = serving(play=gated(asyncio.Event()))
    await server.app.startup()
    for _ in range(3):
        await asked(server, background=True)
    ending = asyncio.create_task(server.app.shutdown())
    taken = []
    async with asyncio.timeout(LIMIT):
        while not ending.done():
            response = await server.post(
                {"model": "demo", "input": "Hi", "background": True}, RESPONSES
            )
            if response.status_code == 200:
                taken.append(await response.get_json())
        await ending
    for each in taken:
        assert (await got(server, f"{RESPONSES}/{each['id']}"))["status"] == "failed"
    assert server.engine.running == 0


@pytest.mark.parametrize("place", FAILURES)
async def test_a_run_that_fails_is_followed_from_its_beginning_to_its_end(place: str) -> None:
    server = serving(*FAILURES[place])
    name = (await asked(server, background=True))["id"]
    failed = await until(server, name, "failed")
    events = await streamed(server, f"{RESPONSES}/{name}?stream=true")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds.count("response.created")) == ("response.created", 1)
    assert (kinds[-1], kinds.count("response.failed")) == ("response.failed", 1)
    assert events[-1]["response"] == failed


async def test_a_run_that_fails_before_it_began_is_told_from_its_beginning_too() -> None:
    """The engine has taken it, and dies of it each time before it says anything."""
    server = serving(Failed(CRASH.report()))
    name = (await asked(server, background=True))["id"]
    await until(server, name, "failed")
    kinds = [event["type"] for event in await streamed(server, f"{RESPONSES}/{name}?stream=true")]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.failed")


LONG = [f"{number:04} " + "x" * 4000 for number in range(200)]


async def test_the_events_of_a_long_answer_can_be_read_again_from_anywhere() -> None:
    """Live with all but its end there, and from the store when it is over."""
    gate = asyncio.Event()
    said = list(text(0, *LONG))
    server = serving(play=lambda _: [STARTED, *said[:-1], Gate(gate), said[-1], finished()])
    name = (await asked(server, background=True))["id"]
    path = f"{RESPONSES}/{name}?stream=true"
    await seen(server, LONG[-1].encode(), path)
    live = asyncio.create_task(streamed(server, path))
    late = asyncio.create_task(streamed(server, f"{path}&starting_after=100"))
    await asyncio.sleep(0)
    gate.set()
    await until(server, name, "completed")
    async with asyncio.timeout(LIMIT):
        whole = await live
        assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
        assert "".join(event["delta"] for event in whole if "delta" in event) == "".join(LONG)
        assert await late == whole[101:]
        assert await streamed(server, path) == whole
        assert await streamed(server, f"{path}&starting_after=100") == whole[101:]


async def test_what_a_run_no_longer_holds_is_refused_with_where_its_events_begin() -> None:
    gate, said = asyncio.Event(), asyncio.Event()

    def play(_: GenerateRequest) -> Iterator[ScriptItem]:
        yield STARTED
        yield from text(0, *["x" * 1024 * 1024] * 34)
        said.set()
        yield Gate(gate)
        yield finished()

    server = serving(play=play)
    name = (await asked(server, background=True))["id"]
    async with asyncio.timeout(LIMIT):
        await said.wait()
        await soon_idle()
        refused = await got(server, f"{RESPONSES}/{name}?stream=true&starting_after=0", 400)
        assert refused["error"]["param"] == "starting_after"
        assert "no longer kept" in refused["error"]["message"]
        gate.set()
        await server.engine.reaches(lambda engine: not engine.running)


async def test_the_first_reason_to_end_a_run_is_the_one_it_ends_for() -> None:
    server = serving(play=gated(asyncio.Event()))
    await server.app.startup()
    name = (await asked(server, background=True))["id"]
    await seen(server, b"output_text.delta", f"{RESPONSES}/{name}?stream=true")
    async with asyncio.timeout(LIMIT):
        cancelled, _ = await asyncio.gather(
            server.post({}, f"{RESPONSES}/{name}/cancel"), server.app.shutdown()
        )
    assert (await cancelled.get_json())["status"] == "cancelled"
    assert (await got(server, f"{RESPONSES}/{name}"))["status"] == "cancelled"


class SlowStore(MemoryStore):
    """Takes the end of a response only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def put_response(self, response: StoredResponse) -> None:
        if response.state not in RUNNING:
            self.asked.set()
            await self.let.wait()
        await super().put_response(response)


async def test_a_response_whose_end_is_being_stored_is_shown_when_it_is() -> None:
    store = SlowStore()
    server = serving(store=store)
    name = (await asked(server, background=True))["id"]
    async with asyncio.timeout(LIMIT):
        await store.asked.wait()
        reading = asyncio.create_task(got(server, f"{RESPONSES}/{name}"))
        following = asyncio.create_task(streamed(server, f"{RESPONSES}/{name}?stream=true"))
        await soon_idle()
        assert not reading.done()
        assert not following.done()
        store.full = True
        store.let.set()
        # It could not be stored after all: nobody has seen it as completed.
        assert (await reading)["status"] == "failed"
        assert (await following)[-1]["type"] == "response.failed"


async def soon_idle() -> None:
    """Let every task that can go on do so."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_only_the_latest_runs_that_could_not_be_stored_are_held_in_memory() -> None:
    gate = asyncio.Event()
    store = MemoryStore()
    server = serving(play=gated(gate), store=store, max_queue=100)
    names = [(await asked(server, background=True))["id"] for _ in range(UNSTORED + 2)]
    store.full = True
    gate.set()
    async with asyncio.timeout(LIMIT):
        for name in names[2:]:
            failed = await until(server, name, "failed")
            assert "the disk is full" in failed["error"]["message"]
    # What the store has of the others is all that is left of them.
    states = [(await got(server, f"{RESPONSES}/{name}"))["status"] for name in names[:2]]
    assert states == ["queued", "queued"]
