"""OpenAI's own client for what the server remembers: responses, conversations, background runs."""

import asyncio
from collections.abc import AsyncIterable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseInputParam, ResponseStreamEvent

from mlxd.api.http.framework import Tuning
from mlxd.config.settings import ServerSettings, Settings
from mlxd.engine.scripted.engine import Gate, ScriptItem
from tests.api.clients import talking
from tests.api.support import Front, front
from tests.scripts import SCRIPTS, STARTED, finished, text

pytestmark = pytest.mark.client

OVER = ("completed", "failed", "incomplete", "cancelled")


def serving(*script: ScriptItem) -> Front:
    return front(*(script or SCRIPTS["text"]), tuning=Tuning())


def numbered(count: int) -> ResponseInputParam:
    """So many messages, told apart by their numbers."""
    return [{"role": "user", "content": f"number {index}"} for index in range(count)]


def words(item: Any) -> str:
    """The text of a message."""
    return str(item.content[0].text)


async def test_a_response_is_found_again_until_it_is_deleted() -> None:
    async with talking(serving()) as client:
        made = await client.responses.create(model="demo", input="Hello")
        assert (await client.responses.retrieve(made.id)).to_dict() == made.to_dict()
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(made.id)


async def test_a_response_that_was_not_stored_can_not_be_gone_on_from() -> None:
    async with talking(serving()) as client:
        made = await client.responses.create(model="demo", input="Hello", store=False)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="demo", input="More", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"


async def test_a_history_forks() -> None:
    server = serving()
    async with talking(server) as client:
        root = await client.responses.create(model="demo", input="root")
        for branch in ("left", "right"):
            await client.responses.create(
                model="demo", input=branch, previous_response_id=root.id, instructions=branch
            )
    _, left, right = server.heard()
    told = [[getattr(m.parts[0], "text", "") for m in each.messages] for each in (left, right)]
    assert told == [[side, "root", "Hello there.", side] for side in ("left", "right")]


async def test_input_items_are_listed_page_by_page_in_both_orders() -> None:
    async with talking(serving()) as client:
        made = await client.responses.create(model="demo", input=numbered(5))
        ascending = client.responses.input_items.list(made.id, limit=2, order="asc")
        there = [words(item) async for item in ascending]
        back = [words(item) async for item in client.responses.input_items.list(made.id, limit=2)]
    assert there == [f"number {index}" for index in range(5)]
    assert back == there[::-1]


async def test_a_response_that_is_over_can_not_be_cancelled() -> None:
    async with talking(serving()) as client:
        made = await client.responses.create(model="demo", input="Hello")
        with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
            await client.responses.cancel(made.id)


async def test_another_keys_responses_are_not_found() -> None:
    settings = Settings(server=ServerSettings(api_keys=("ann", "bob")))
    server = front(*SCRIPTS["text"], settings=settings, tuning=Tuning())
    async with talking(server, key="ann") as client:
        made = await client.responses.create(model="demo", input="Hello")
        bob = client.with_options(api_key="bob")
        with pytest.raises(openai.NotFoundError):
            await bob.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError):
            await bob.responses.create(model="demo", input="x", previous_response_id=made.id)


async def polled(client: AsyncOpenAI, name: str) -> Response:
    """The response when it is over."""
    while True:
        response = await client.responses.retrieve(name)
        if response.status in OVER:
            return response


async def test_a_background_run_is_polled_until_it_is_over() -> None:
    gate = asyncio.Event()
    async with talking(serving(STARTED, Gate(gate), *text(0, "Done."), finished())) as client:
        made = await client.responses.create(model="demo", input="Hello", background=True)
        assert made.status == "queued"
        gate.set()
        response = await polled(client, made.id)
        again = await client.responses.cancel(made.id)
    assert (response.status, response.output_text) == ("completed", "Done.")
    assert again.status == "completed"


async def test_a_background_run_is_cancelled_and_keeps_what_it_has() -> None:
    server = serving(STARTED, *text(0, "Half"), Gate(asyncio.Event()))
    async with talking(server) as client:
        stream = await client.responses.create(
            model="demo", input="Hello", background=True, stream=True
        )
        made = await until(stream, "response.created")
        assert made.type == "response.created"
        await until(stream, "response.output_text.delta")
        cancelled = await client.responses.cancel(made.response.id)
        await server.engine.reaches(lambda engine: engine.running == 0)
        again = await client.responses.cancel(made.response.id)
        stored = await client.responses.retrieve(made.response.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Half")
    assert cancelled.to_dict() == again.to_dict() == stored.to_dict()


async def until(stream: AsyncIterable[ResponseStreamEvent], kind: str) -> ResponseStreamEvent:
    """The next event of a kind."""
    async for event in stream:
        if event.type == kind:
            return event
    raise AssertionError(f"the stream ended without {kind}")


async def test_a_stream_of_a_background_run_is_taken_up_where_it_was_left() -> None:
    gate = asyncio.Event()
    server = serving(STARTED, *text(0, "One", " two"), Gate(gate), *text(1, "three"), finished())
    async with talking(server) as client:
        stream = await client.responses.create(
            model="demo", input="Hello", background=True, stream=True
        )
        first: list[ResponseStreamEvent] = []
        async for event in stream:
            first.append(event)
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        begun = first[0]
        assert begun.type == "response.created"
        resumed = await client.responses.retrieve(
            begun.response.id, stream=True, starting_after=first[-1].sequence_number
        )
        gate.set()
        rest = [event async for event in resumed]
        replayed = await client.responses.retrieve(begun.response.id, stream=True)
        whole = [event async for event in replayed]
    assert [event.sequence_number for event in first + rest] == list(range(len(whole)))
    assert [event.to_dict() for event in first + rest] == [event.to_dict() for event in whole]
    assert whole[-1].type == "response.completed"


async def test_the_stream_helper_takes_up_a_background_run() -> None:
    async with talking(serving()) as client:
        made = await client.responses.create(model="demo", input="Hello", background=True)
        await polled(client, made.id)
        async with client.responses.stream(response_id=made.id, starting_after=0) as stream:
            kinds = [event.type async for event in stream]
    assert kinds[-1] == "response.completed"


async def test_a_conversation_is_made_changed_and_deleted() -> None:
    async with talking(serving()) as client:
        made = await client.conversations.create(metadata={"topic": "x"}, items=numbered(2))
        assert made.id.startswith("conv_")
        assert (await client.conversations.retrieve(made.id)).to_dict() == made.to_dict()
        changed = await client.conversations.update(made.id, metadata={"topic": "y"})
        assert changed.metadata == {"topic": "y"}
        gone = await client.conversations.delete(made.id)
        assert (gone.deleted, gone.object) == (True, "conversation.deleted")
        with pytest.raises(openai.NotFoundError, match="Conversation with id"):
            await client.conversations.retrieve(made.id)


async def test_items_of_a_conversation_are_added_listed_found_and_deleted() -> None:
    async with talking(serving()) as client:
        made = await client.conversations.create(items=numbered(2))
        added = await client.conversations.items.create(
            made.id, items=[{"type": "message", "role": "user", "content": "number 2"}]
        )
        (item,) = added.data
        assert item.id is not None
        found = await client.conversations.items.retrieve(item.id, conversation_id=made.id)
        assert words(found) == "number 2"
        listed = client.conversations.items.list(made.id, limit=1, order="asc")
        assert [words(each) async for each in listed] == [f"number {n}" for n in range(3)]
        back = client.conversations.items.list(made.id, limit=2)
        assert [words(each) async for each in back] == [f"number {n}" for n in (2, 1, 0)]
        left = await client.conversations.items.delete(item.id, conversation_id=made.id)
        assert left.id == made.id
        with pytest.raises(openai.NotFoundError):
            await client.conversations.items.retrieve(item.id, conversation_id=made.id)


async def test_responses_go_on_in_their_conversation() -> None:
    server = serving()
    async with talking(server) as client:
        made = await client.conversations.create()
        for question in ("one", "two"):
            answer = await client.responses.create(
                model="demo", input=question, conversation=made.id
            )
            assert answer.conversation is not None
            assert answer.conversation.id == made.id
        listed = client.conversations.items.list(made.id, order="asc")
        said = [words(item) async for item in listed]
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(
                model="demo", input="x", conversation=made.id, previous_response_id=answer.id
            )
    assert said == ["one", "Hello there.", "two", "Hello there."]
    roles = [message.role for message in server.heard()[1].messages]
    assert roles == ["user", "assistant", "user"]


async def test_what_is_stored_outlives_the_application() -> None:
    server = serving()
    async with talking(server) as client:
        made = await client.responses.create(model="demo", input="Hello")
    later = front(*SCRIPTS["text"], tuning=Tuning(), store=server.store)
    async with talking(later) as client:
        more = await client.responses.create(
            model="demo", input="More", previous_response_id=made.id
        )
    assert more.previous_response_id == made.id
    assert len(later.heard()[0].messages) == 3
