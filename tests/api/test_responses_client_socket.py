"""OpenAI's own client for Responses over a WebSocket."""

from typing import Any

import pytest
from openai.resources.responses.responses import AsyncResponsesConnection

from mlxd.api.http.framework import Tuning
from tests.api.clients import talking
from tests.api.support import Front, front
from tests.scripts import SCRIPTS

pytestmark = pytest.mark.client

OVER = ("response.completed", "response.failed", "response.incomplete", "error")


def serving() -> Front:
    return front(*SCRIPTS["text"], tuning=Tuning())


async def read(connection: AsyncResponsesConnection) -> list[Any]:
    """The events of one answer."""
    events: list[Any] = []
    async for event in connection:
        events.append(event)
        if event.type in OVER:
            break
    return events


async def test_answers_go_on_from_one_another_though_nothing_is_stored() -> None:
    server = serving()
    async with talking(server) as client, client.responses.connect() as connection:
        await connection.response.create(model="demo", input="one", store=False)
        first = await read(connection)
        await connection.response.create(
            model="demo", input="two", store=False, previous_response_id=first[-1].response.id
        )
        second = await read(connection)
    for events in (first, second):
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == "Hello there."
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == (
            "Hello there."
        )
    assert [message.role for message in server.heard()[1].messages] == ["user", "assistant", "user"]


async def test_after_an_error_the_connection_goes_on() -> None:
    async with talking(serving()) as client, client.responses.connect() as connection:
        await connection.response.create(model="demo", input="one", temperature=9)
        (error,) = await read(connection)
        await connection.response.create(model="demo", input="two")
        events = await read(connection)
    assert error.type == "error"
    assert error.error.param == "temperature"
    assert events[-1].type == "response.completed"


async def test_an_event_that_is_not_known_is_refused_by_name() -> None:
    async with talking(serving()) as client, client.responses.connect() as connection:
        await connection.response.create(model="demo", input="one")
        events = await read(connection)
        await connection.response.steer(
            input=[{"role": "user", "content": "two", "type": "message"}],
            previous_response_id=events[-1].response.id,
        )
        (error,) = await read(connection)
    assert error.type == "error"
    assert "'response.steer'" in error.error.message


async def test_what_is_ignored_is_named_in_the_first_event() -> None:
    async with talking(serving()) as client, client.responses.connect() as connection:
        await connection.response.create(model="demo", input="one", service_tier="scale")
        events = await read(connection)
    assert events[0].type == "response.created"
    assert events[0].model_extra == {"x-mlxd-ignored": "service_tier"}
    assert events[0].response.status == "in_progress"
    assert events[-1].response.output_text == "Hello there."
