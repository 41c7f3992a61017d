"""What is going on, gathered: rates, conversations, totals, and nothing of what anyone wrote."""

import asyncio
import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxd.api.admin.activity import Activity
from mlxd.api.admin.conversations import NAMES, SHOWN, WINDOW, ActiveConversations
from mlxd.api.admin.log_watch import log_watched
from mlxd.api.admin.rates import HISTORY, EventCounts
from mlxd.api.http.client_info import client_of
from mlxd.api.http.request_log import Record
from mlxd.config.settings import ServerSettings, Settings
from mlxd.engine.phase_times import PhaseTimes
from mlxd.engine.scripted.engine import Gate, ScriptedEngine, ScriptItem
from mlxd.errors import Cancelled, EngineCrashed
from mlxd.events import Failed, Finished, Usage
from mlxd.messages import GenerateRequest, Message, Role, Source, Text, ToolCall, ToolResult
from mlxd.status import RequestStatus, RowFigures
from tests.api.support import CHAT, DEMO, LIMIT, MESSAGES
from tests.api.watching import Watched, watched
from tests.memory_store import MemoryStore
from tests.scripts import STARTED, finished, text


class Time:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_averages_over_their_windows() -> None:
    time = Time()
    counts = EventCounts(time, time)
    time.now += 100
    counts.add("decode", 600)
    counts.add("requests", 3)
    rates = counts.rates()
    assert (rates["1s"].decode, rates["10s"].decode, rates["60s"].decode) == (600, 60, 10)
    assert rates["60s"].requests_per_minute == 3
    time.now += 5
    rates = counts.rates()
    assert (rates["1s"].decode, rates["10s"].decode, rates["60s"].decode) == (0, 60, 10)
    time.now += 1000
    assert counts.rates()["60s"].decode == 0


def test_a_young_server_averages_over_its_life() -> None:
    time = Time()
    counts = EventCounts(time, time)
    time.now += 2
    counts.add("decode", 100)
    assert counts.rates()["60s"].decode == 50


@given(
    steps=st.lists(st.tuples(st.floats(0, 400, allow_nan=False), st.integers(0, 1000)), max_size=40)
)
def test_the_history_has_every_token_of_the_last_ten_minutes_once(
    steps: list[tuple[float, int]],
) -> None:
    time = Time()
    counts = EventCounts(time, time)
    told: list[tuple[float, int]] = []
    for pause, tokens in steps:
        time.now += pause
        counts.add("decode", tokens)
        told.append((time.now, tokens))
    seconds = counts.history().seconds
    end = int(time.now)
    expected = sum(tokens for at, tokens in told if end - HISTORY <= int(at) < end)
    assert sum(second.decode for second in seconds) == expected
    assert len(seconds) <= HISTORY
    assert [second.at for second in seconds] == sorted(second.at for second in seconds)


numbers = count()


def said(*texts: str, key: str = "", **source: Any) -> GenerateRequest:
    """A request whose messages are these, user and assistant in turn."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = tuple(Message(roles[number % 2], (Text(each),)) for number, each in enumerate(texts))
    return GenerateRequest(
        f"req_{next(numbers)}", "demo", messages, source=Source("toy", key, **source)
    )


def conversations(time: Time | None = None) -> ActiveConversations:
    return ActiveConversations(time or Time(), show_text=False)


def test_a_prompt_that_begins_as_an_earlier_one_did_goes_on_from_it() -> None:
    known = conversations()
    first = known.joined(said("a long question"))
    assert known.joined(said("a long question", "answer", "more")) == first
    assert known.joined(said("a long question", "answer", "more", "yes", "and?")) == first
    assert known.joined(said("another question", "answer", "more")) != first
    assert known.joined(said("a long question", key="someone else")) != first
    (_, _, turns) = (part.turns for part in known.statuses({}))
    assert turns == 3


def test_a_branch_stays_with_the_conversation_it_left() -> None:
    known = conversations()
    first = known.joined(said("q", "a", "left"))
    assert known.joined(said("q", "a", "left", "b", "on")) == first
    assert known.joined(said("q", "a", "right")) != first


def test_names_go_before_beginnings() -> None:
    known = conversations()
    one = known.joined(said("hello", session="one"))
    other = known.joined(said("hello", session="other"))
    assert one != other
    assert known.joined(said("quite different", session="one")) == one
    conversation = known.joined(said("hello", conversation="conv_0123456789", session="one"))
    assert conversation == "conv_0123456789"
    kinds = {part.id: part.kind for part in known.statuses({})}
    assert kinds == {one: "session", other: "session", conversation: "conversation"}
    assert "one" not in one, "a caller's words are not told"


def test_a_chain_of_responses_is_one_conversation() -> None:
    known = conversations()
    root = known.joined(said("hello", conversation="resp_0123456789"))
    assert root == "resp_0123456789"
    assert known.joined(said("something", conversation="resp_0123456789")) == root
    stateless = known.joined(said("hello", "hi", "on", conversation="resp_9999999999"))
    assert stateless == root


def test_the_same_tool_result_counts_as_the_same_whatever_its_call_is_called() -> None:
    known = conversations()

    def asked(call: str, *more: Message) -> GenerateRequest:
        messages = (
            Message("user", (Text("q"),)),
            Message("assistant", (ToolCall(call, "f", "{}"),)),
            Message("tool", (ToolResult(call, (Text("found"),)),)),
        )
        return GenerateRequest("req", "demo", (*messages, *more))

    first = known.joined(asked("call_1"))
    assert known.joined(asked("call_2", Message("user", (Text("and?"),)))) == first


def test_what_rests_is_not_shown_and_what_runs_is() -> None:
    time = Time()
    known = conversations(time)
    done, running = known.joined(said("done")), known.joined(said("running"))
    known.ended(done, Usage(10, 4, 5))
    (_, part) = known.statuses({running: 7.0})
    assert (part.prompt_tokens, part.cached_tokens, part.completion_tokens) == (10, 4, 5)
    time.now += WINDOW
    (part,) = known.statuses({running: 7.0})
    assert (part.id, part.rate, part.idle) == (running, 7.0, 0.0)


def test_only_so_many_are_remembered() -> None:
    known = conversations()
    for number in range(NAMES + 10):
        known.ended(known.joined(said(f"question {number}")), Usage())
    assert len(known.statuses({})) == SHOWN


def test_what_runs_is_not_forgotten_for_what_rests() -> None:
    known = conversations()
    running = known.joined(said("running"))
    for number in range(SHOWN + 10):
        known.ended(known.joined(said(f"question {number}")), Usage())
    assert running in [part.id for part in known.statuses({})]
    for number in range(SHOWN + 10):
        known.joined(said(f"running {number}"))
    assert len(known.statuses({})) == SHOWN


def test_a_conversation_whose_name_was_forgotten_while_it_runs_stays_one() -> None:
    known = conversations()

    def turn() -> str:
        return known.joined(said("Hi", session="mine"))

    first = turn()
    with_names = known.joined(said("another"))
    for number in range(NAMES):
        assert known.joined(said("another", f"turn {number}")) == with_names
    assert turn() == first
    known.ended(first, Usage())
    known.ended(first, Usage())
    assert [part.running for part in known.statuses({}) if part.id == first] == [0]


def test_a_huge_prompt_is_looked_at_in_no_time() -> None:
    known = conversations()
    huge = "word " * 2_000_000
    first = known.joined(said(huge))
    assert known.joined(said(huge, "yes", "and?")) == first
    assert known.joined(said(f"{huge}.")) != first


FIGURES = RowFigures(prompt_tokens=5, cached_tokens=2, prefilled_tokens=5, completion_tokens=3)
ENDS = {
    "finished": Finished("stop", Usage(5, 2, 3)),
    "failed": Failed(EngineCrashed("x").report(), Usage(5, 2, 3)),
    "cancelled": Failed(Cancelled().report(), Usage(5, 2, 3)),
    "left": None,
}


class Life:
    """Requests that come, move and end in any order, and what must hold of the totals."""

    def __init__(self) -> None:
        time = Time()
        engine = ScriptedEngine(lambda _: (), models=(DEMO,))
        self.activity = Activity(engine, now=time, wall=time)
        self.running: dict[str, GenerateRequest] = {}
        self.accepted = self.refused = 0

    def status(self, request: GenerateRequest, *, decoding: bool = False) -> RequestStatus:
        times = PhaseTimes(Time())
        if decoding:
            times.decoding()
        return times.status(request, FIGURES)

    def begin(self, name: str) -> None:
        if name not in self.running:
            self.running[name] = GenerateRequest(name, "demo", (Message("user", (Text(name),)),))
            self.accepted += 1
        self.activity.moved(self.running[name], self.status(self.running[name]))

    def move(self, name: str) -> None:
        if (request := self.running.get(name)) is not None:
            self.activity.moved(request, self.status(request, decoding=True))
            self.activity.computed(0, 1)

    def end(self, name: str, how: str) -> None:
        request = self.running.pop(name, None) or GenerateRequest(name, "demo", ())
        self.activity.ended(request, self.status(request), ENDS[how])

    def refuse(self) -> None:
        record = Record("req_x")
        record.error = "QueueFull"
        self.activity.refused(record)
        self.refused += 1

    def check(self) -> None:
        totals = self.activity.totals
        ended = totals.finished + totals.failed + totals.cancelled
        assert totals.requests == self.accepted == ended + len(self.running)
        assert totals.errors == totals.failed + totals.refused
        assert totals.refused == self.refused
        assert totals.completion_tokens == 3 * ended
        assert set(self.activity.live) == set(self.running)
        shown = self.activity.conversations.statuses({})
        assert sum(part.running for part in shown) == len(self.running)


names = st.sampled_from("abcd")
steps = st.one_of(
    st.tuples(st.just("begin"), names),
    st.tuples(st.just("move"), names),
    st.tuples(st.just("end"), names, st.sampled_from(list(ENDS))),
    st.tuples(st.just("refuse")),
)


@given(st.lists(steps, max_size=60))
def test_what_was_accepted_has_finished_failed_or_was_cancelled(steps: list[Any]) -> None:
    life = Life()
    for step, *arguments in steps:
        getattr(life, step)(*arguments)
        life.check()


CANARY = "kanarienvogel"


def repeat(request: GenerateRequest) -> Iterator[ScriptItem]:
    yield STARTED
    yield from text(0, CANARY, f" {CANARY}")
    yield finished()


async def told_by(server: Watched) -> str:
    """Everything that the admin endpoints tell."""
    async with server.watching() as watch:
        heard = await watch.receive()
        await watch.next_status()
    pages = [heard.decode()]
    for path in ("/admin/status", "/admin/history", "/admin/config", "/metrics"):
        pages.append(await (await server.admin(path)).get_data(as_text=True))
    return "\n".join(pages)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_what_anyone_wrote_is_told_nowhere(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mlxd")
    server = watched(play=repeat, settings=Settings(server=ServerSettings(api_keys=(CANARY,))))
    hello = [{"role": "user", "content": CANARY}]
    tool = {"name": CANARY, "description": CANARY, "input_schema": {"type": "object"}}
    bodies: list[dict[str, Any]] = [
        {"messages": hello, "max_tokens": 9, "model": "demo", "system": CANARY, "tools": [tool]},
        {"messages": hello, "max_tokens": 9, "model": "demo", "prompt_cache_key": CANARY},
        {"messages": hello, "max_tokens": 9, "metadata": {"user_id": CANARY}, "model": "demo"},
        {"messages": CANARY},
        {"messages": hello, "max_tokens": CANARY, "model": "demo"},
    ]
    headers = {"x_api_key": CANARY, "x_session_id": CANARY, "x_other": CANARY}
    for body in bodies:
        await server.post(body, f"{path}?key={CANARY}", **headers)
        await server.post({**body, "stream": True}, path, **headers)
    await server.get(f"/v1/{CANARY}", **headers)
    await server.admin(f"/admin/models/{CANARY}/load", "POST")
    await server.admin(f"/admin/requests/{CANARY}/cancel", "POST")
    assert (await server.status()).totals.requests >= 4
    assert CANARY not in await told_by(server)
    assert CANARY not in caplog.text


async def test_what_was_refused_counts_once_and_what_failed_too() -> None:
    failing = watched(STARTED, Failed(EngineCrashed("killed by signal 9").report()))
    await failing.ask()
    await failing.ask(stream=True)
    await failing.ask(messages="wrong")
    totals = (await failing.status()).totals
    assert (totals.requests, totals.failed, totals.refused, totals.errors) == (2, 2, 1, 3)


async def test_what_is_refused_on_a_websocket_counts_as_well() -> None:
    server = watched(STARTED, Failed(EngineCrashed("killed").report()), store=MemoryStore())
    async with asyncio.timeout(LIMIT), server.client.websocket("/v1/responses") as socket:
        for message in ({"type": "wrong"}, {"type": "response.create", "input": "Hi"}):
            await socket.send_json(message)
            while (await socket.receive_json())["type"] not in ("error", "response.failed"):
                pass
    totals = (await server.status()).totals
    assert (totals.requests, totals.failed, totals.refused, totals.errors) == (1, 1, 1, 2)


async def test_what_is_cancelled_before_it_was_accepted_is_no_error() -> None:
    server = watched(Gate(asyncio.Event()))
    asking = asyncio.create_task(server.ask())
    await server.engine.reaches(lambda engine: engine.running == 1)
    (waiting,) = (await server.status()).waiting
    assert (await server.admin(f"/admin/requests/{waiting.id}/cancel", "POST")).status_code == 200
    assert (await asking).status_code >= 400
    totals = (await server.status()).totals
    assert (totals.requests, totals.refused, totals.errors) == (0, 0, 0)


async def test_a_client_that_leaves_has_cancelled_its_request() -> None:
    server = watched(STARTED, *text(0, "One"), Gate(asyncio.Event()), finished())
    async with server.connection(stream=True) as connection:
        await server.engine.reaches(lambda engine: engine.running == 1)
        await connection.receive()
        await connection.disconnect()
        await server.engine.reaches(lambda engine: engine.running == 0)
    totals = (await server.status()).totals
    assert (totals.cancelled, totals.errors) == (1, 0)


def test_clients_are_known_by_the_name_of_their_program() -> None:
    def agent(text: str) -> str:
        return client_of("", {"user-agent": text}).agent

    assert agent("OpenAI/Python 2.1.0") == "OpenAI"
    assert agent("claude-cli/2.1 (external, cli)") == "claude-cli"
    assert agent("") == agent("\x1b[31m/1") == agent("x" * 99) == agent("{}") == ""


async def test_warnings_of_the_log_are_told_and_what_libraries_print_is_not() -> None:
    activity = Life().activity
    with log_watched(activity.log):
        logging.getLogger("mlxd.server.lifecycle").warning("the disk is %s", "full\x1b[0m")
        logging.getLogger("mlxd.engine").warning("a line of a library")
        logging.getLogger("mlxd.server.lifecycle").info("not worth it")
        await asyncio.to_thread(logging.getLogger("mlxd.api").error, "from a thread")
        await asyncio.sleep(0)
    with activity.feed.reader() as reader:
        lines = [(line.message, line.level, line.request, line.model) for line in reader.take()]
    assert lines == [
        ("the disk is full?[0m", "warning", "", ""),
        ("from a thread", "error", "", ""),
    ]
