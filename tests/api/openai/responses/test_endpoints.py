"""What is remembered between requests: chains, forks, conversations, and what can't be stored."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mlxd.api.app import create_app
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import ScriptedEngine, ScriptItem
from mlxd.errors import ContextTooLong
from mlxd.events import Failed
from mlxd.history import ResponseState
from mlxd.messages import GenerateRequest, Text
from tests.api.stateful import (
    CONVERSATIONS,
    KEYS,
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
from tests.api.support import LIMIT, Front, bytes_of, error_of
from tests.memory_store import MemoryStore
from tests.scripts import CRASH, SCRIPTS, STARTED, text
from tests.store.support import opened


def said(request: GenerateRequest) -> list[str]:
    """The texts of a prompt, in order."""
    return [
        part.text
        for message in request.messages
        for part in message.parts
        if isinstance(part, Text)
    ]


async def test_a_response_is_there_to_be_read_and_goes_when_it_is_deleted() -> None:
    server = serving()
    made = await asked(server)
    path = f"{RESPONSES}/{made['id']}"
    assert await got(server, path) == made
    deleted = await server.client.delete(path)
    assert await deleted.get_json() == {"id": made["id"], "object": "response", "deleted": True}
    assert "not found" in (await got(server, path, 404))["error"]["message"]
    assert (await server.client.delete(path)).status_code == 404


async def test_a_chain_forks_and_each_branch_has_its_own_history() -> None:
    server = serving()
    first = await asked(server, input="A")
    left = await asked(server, input="B", previous_response_id=first["id"])
    await asked(server, input="C", previous_response_id=first["id"])
    await asked(server, input="D", previous_response_id=left["id"])
    answer = "Hello there."
    prompts = [said(request) for request in server.heard()]
    assert prompts == [
        ["A"],
        ["A", answer, "B"],
        ["A", answer, "C"],
        ["A", answer, "B", answer, "D"],
    ]


async def test_the_turns_of_a_chain_are_known_by_its_first_response() -> None:
    server = serving()
    first = await asked(server)
    second = await asked(server, previous_response_id=first["id"])
    await asked(server, previous_response_id=second["id"])
    assert {each.source.conversation for each in server.heard()} == {first["id"]}


async def test_a_streamed_answer_is_stored_before_its_end_is_told() -> None:
    store = MemoryStore()
    server = serving(store=store)
    await seen(server, b"response.completed", RESPONSES, stream=True)
    assert [state for _, state in store.puts] == ["completed"]


@pytest.mark.parametrize("live", [False, True])
async def test_what_can_not_be_stored_has_failed(live: bool) -> None:
    store = MemoryStore()
    store.full = True
    server = serving(store=store)
    body = {"model": "demo", "input": "Hello", "stream": live}
    response = await server.post(body, RESPONSES)
    if live:
        *_, error, end = events_of(await bytes_of(response))
        assert (error["type"], error["code"]) == ("error", "store_unavailable")
        assert end["type"] == "response.failed"
    else:
        assert response.status_code == 503
        assert (await error_of(response))["code"] == "store_unavailable"
    assert (await server.post({**body, "store": False}, RESPONSES)).status_code == 200


@pytest.mark.parametrize("live", [False, True])
async def test_a_failed_answer_leaves_its_conversation_as_it_was(live: bool) -> None:
    server = serving(STARTED, *text(0, "One"), Failed(CRASH.report()))
    conversation = await asked(server, CONVERSATIONS)
    body = {"model": "demo", "input": "Hi", "conversation": conversation["id"], "stream": live}
    response = await server.post(body, RESPONSES)
    assert response.status_code == (200 if live else 503)
    await bytes_of(response)
    items = await got(server, f"{CONVERSATIONS}/{conversation['id']}/items")
    assert items["data"] == []


async def test_an_id_that_nobody_made_is_not_repeated_at_length() -> None:
    for fields in ({"previous_response_id": "x" * 70_000}, {"input": [{"id": "x" * 70_000}]}):
        body = {"model": "demo", "input": "Hi", **fields}
        refused = await error_of(await serving().post(body, RESPONSES))
        assert "xxx…' not found." in refused["message"]
        assert len(refused["message"]) < 400


async def test_what_is_not_stored_can_neither_be_read_nor_gone_on_from() -> None:
    server = serving()
    made = await asked(server, store=False)
    await got(server, f"{RESPONSES}/{made['id']}", 404)
    refused = await server.post(
        {"model": "demo", "input": "More", "previous_response_id": made["id"]}, RESPONSES
    )
    assert refused.status_code == 400
    assert (await error_of(refused))["code"] == "previous_response_not_found"


@pytest.mark.parametrize("way", ["whole", "live", "background"])
@pytest.mark.parametrize("gone", ["previous_response_id", "conversation"])
async def test_an_answer_outlives_what_it_went_on_from(tmp_path: Path, way: str, gone: str) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        begun.set()
        yield from gated(gate)(request)

    async with asyncio.timeout(LIMIT), opened(tmp_path, "memory") as store:
        server = serving(play=play, store=store)
        gate.set()
        first = {"role": "user", "content": "First"}
        if gone == "conversation":
            origin, path = (await asked(server, CONVERSATIONS, items=[first]))["id"], CONVERSATIONS
        else:
            origin, path = (await asked(server, input=[first]))["id"], RESPONSES
        gate.clear()
        begun.clear()
        fields = {gone: origin, "stream": way == "live", "background": way == "background"}
        body = {"model": "demo", "input": "More", **fields}
        asking = asyncio.create_task(server.post(body, RESPONSES))
        await begun.wait()
        assert (await server.client.delete(f"{path}/{origin}")).status_code == 200
        gate.set()
        response = await asking
        assert response.status_code == 200
        data = await bytes_of(response)
        name = (events_of(data)[-1]["response"] if way == "live" else json.loads(data))["id"]
        told = await until(server, name, "completed", "failed")
        assert told["status"] == "completed"
        listed = await got(server, f"{RESPONSES}/{name}/input_items?order=asc")
        words = [item["content"][0]["text"] for item in listed["data"]]
        assert (words[0], words[-1]) == ("First", "More")


async def test_input_items_are_all_that_was_answered_newest_first() -> None:
    server = serving()
    first = await asked(server, input="A")
    second = await asked(server, input="B", previous_response_id=first["id"])
    listed = await got(server, f"{RESPONSES}/{second['id']}/input_items")
    texts = [item["content"][0]["text"] for item in listed["data"]]
    assert texts == ["B", "Hello there.", "A"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
    ],
)
async def test_a_wrong_page_is_refused_by_name(query: str, param: str) -> None:
    server = serving()
    made = await asked(server)
    refused = await got(server, f"{RESPONSES}/{made['id']}/input_items?{query}", 400)
    assert refused["error"]["param"] == param


async def test_a_page_after_nothing_is_not_found() -> None:
    server = serving()
    made = await asked(server)
    await got(server, f"{RESPONSES}/{made['id']}/input_items?after=msg_x", 404)


async def test_a_history_that_is_too_long_is_shortened_where_that_is_allowed() -> None:
    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        if len(request.messages) > 3:
            raise ContextTooLong(prompt_tokens=4 * len(request.messages), context_length=12)
        yield from SCRIPTS["text"]

    server = serving(play=play)
    first = await asked(server, input="A")
    second = await asked(server, input="B", previous_response_id=first["id"])
    body = {"model": "demo", "input": "C", "previous_response_id": second["id"]}
    refused = await server.post(body, RESPONSES)
    assert (await error_of(refused))["code"] == "context_length_exceeded"
    third = await asked(server, input="C", previous_response_id=second["id"], truncation="auto")
    assert text_of(third) == "Hello there."


async def test_tokens_are_counted_with_the_history() -> None:
    server = serving()
    first = await asked(server, input="A")
    path = f"{RESPONSES}/input_tokens"
    alone = await asked(server, path, model="demo", input="B")
    longer = await asked(server, path, model="demo", input="B", previous_response_id=first["id"])
    assert longer["input_tokens"] > alone["input_tokens"]


@pytest.mark.parametrize("state", ["failed", "completed", "cancelled"])
async def test_a_stream_whose_events_are_lost_still_has_its_end(state: ResponseState) -> None:
    store = MemoryStore()
    server = serving(store=store)
    made = await asked(server)
    kept = store.responses[made["id"]]
    body = json.dumps({**made, "status": state}).encode()
    store.responses[made["id"]] = replace(kept, state=state, body=body, background=True)
    path = f"{RESPONSES}/{made['id']}?stream=true&starting_after=6"
    (event,) = await streamed(server, path)
    assert event["sequence_number"] == 7
    assert event["type"] == f"response.{'incomplete' if state == 'cancelled' else state}"
    assert event["response"]["status"] == state


async def test_a_compaction_is_not_stored() -> None:
    store = MemoryStore()
    server = serving(store=store)
    made = await asked(server, f"{RESPONSES}/compact", model="demo", input="A long story")
    assert made["object"] == "response.compaction"
    assert store.responses == {}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_nothing_of_another_keys_owner_is_found(method: str) -> None:
    server = serving(keys=KEYS)
    mine = {"authorization": f"Bearer {KEYS[0]}"}
    made = await (
        await server.post({"model": "demo", "input": "secret"}, RESPONSES, **mine)
    ).get_json()
    held = await (await server.post({}, CONVERSATIONS, **mine)).get_json()
    path = f"{RESPONSES}/{made['id']}"
    talk = f"{CONVERSATIONS}/{held['id']}"
    paths = {
        "GET": [path, f"{path}?stream=true", f"{path}/input_items", talk, f"{talk}/items"],
        "DELETE": [path, talk, f"{talk}/items/msg_x"],
        "POST": [f"{path}/cancel", talk, f"{talk}/items"],
    }
    theirs = {"authorization": f"Bearer {KEYS[1]}"}
    for each in paths[method]:
        call = getattr(server.client, method.lower())
        body: dict[str, Any] = {} if method != "POST" else {"json": {"metadata": {}, "items": []}}
        assert (await call(each, headers=theirs, **body)).status_code == 404
    assert (await server.get(path, **mine)).status_code == 200
    for field, name, status in (
        ("previous_response_id", made["id"], 400),
        ("conversation", held["id"], 404),
    ):
        refused = await server.post(
            {"model": "demo", "input": "x", field: name}, RESPONSES, **theirs
        )
        assert refused.status_code == status
    assert all("secret" not in said(each) for each in server.heard()[1:])


async def test_without_a_store_there_are_no_paths_that_need_one() -> None:
    server = serving()
    bare = Front(create_app(Settings(), server.engine), server.engine)
    assert (await bare.post({"model": "demo", "input": "x"}, RESPONSES)).status_code == 404
    assert (await bare.ask()).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", RESPONSES),
        ("POST", f"{RESPONSES}/input_tokens"),
        ("POST", f"{RESPONSES}/compact"),
        ("GET", f"{RESPONSES}/resp_1"),
        ("POST", "/openai/v1/responses/input_tokens"),
        ("POST", "/v1/conversations"),
    ],
)
async def test_without_a_store_what_needs_one_is_not_there(method: str, path: str) -> None:
    for dialects in (("openai_responses",), ("anthropic", "openai_responses", "azure")):
        app = create_app(Settings(dialects=dialects), ScriptedEngine(lambda _: ()))
        body = {"model": "scripted", "input": "Hi"} if method == "POST" else None
        response = await app.test_client().open(path, method=method, json=body)
        assert response.status_code == 404
        assert "Unknown request URL" in (await response.get_json())["error"]["message"]
