"""An input that ends in a trigger is answered with a compaction of what stands before."""

import json
from typing import Any

import pytest

from mlxd.api.openai.responses.format.compaction import ASK
from mlxd.api.openai.responses.format.messages import SUMMARY
from mlxd.api.wire.opaque_text import unseal
from mlxd.errors import EngineCrashed
from mlxd.events import Failed
from mlxd.messages import NoTools, Text
from tests.api.responses import FUNCTION, user
from tests.api.stateful import serving, until
from tests.api.support import RESPONSES, Front, bytes_of, front, sse_frames
from tests.scripts import STARTED, finished, reasoning, text

Json = dict[str, Any]
TRIGGER: Json = {"type": "compaction_trigger"}
SCRIPT = (
    *(STARTED, *reasoning(0, "Hm."), *text(1, "Much ", "was"), *reasoning(2, "Well.")),
    *(*text(3, " said.\n"), finished()),
)
INPUT = [user("Hello"), {"role": "assistant", "content": "Hi"}, TRIGGER]
PATHS = (RESPONSES, "/openai/v1/responses", "/openai/deployments/demo/responses")


def summary(item: Json) -> str | None:
    assert set(item) == {"id", "type", "encrypted_content"}
    assert (item["type"], item["id"][:4]) == ("compaction", "cmp_")
    return unseal(item["encrypted_content"])


async def sent(server: Front, path: str = RESPONSES, **fields: Any) -> Any:
    response = await server.post({"model": "demo", "input": INPUT, **fields}, path)
    assert response.status_code == 200, await response.get_data()
    assert "x-mlxd-ignored" not in response.headers
    return response


@pytest.mark.parametrize("path", PATHS)
async def test_a_trigger_is_answered_with_a_compaction(path: str) -> None:
    server = front(*SCRIPT)
    fields: Json = {"tools": [FUNCTION], "tool_choice": "required", "temperature": 0.5}
    whole = await (await sent(server, path, **fields)).get_json()
    assert whole["status"] == "completed"
    (item,) = whole["output"]
    assert summary(item) == "Much was said."
    (request,) = server.heard()
    assert request.messages[-1].parts == (Text(ASK),)
    # The tools stay described, as the conversation before has them, and can't be called.
    assert [tool.name for tool in request.tools] == [FUNCTION["name"]]
    assert (request.tool_choice, request.sampling.temperature) == (NoTools(), 0.5)

    *frames, done = sse_frames(await bytes_of(await sent(server, path, stream=True)))
    events = [json.loads(frame.data) for frame in frames]
    assert done.data == b"[DONE]"
    assert [event["type"] for event in events] == [
        *("response.created", "response.in_progress", "response.output_item.added"),
        *("response.output_item.done", "response.completed"),
    ]
    assert summary(events[-2]["item"]) == "Much was said."
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


async def test_a_compaction_describes_the_tools_that_its_turns_had() -> None:
    server = front(*SCRIPT)
    other = {**FUNCTION, "name": "other"}
    named = {"type": "function", "name": "other"}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [named]}
    await sent(server, tools=[FUNCTION, other], tool_choice=choice)
    (request,) = server.heard()
    assert [tool.name for tool in request.tools] == ["other"]
    compact = {"model": "demo", "input": INPUT[:-1], "tools": [FUNCTION, other]}
    response = await server.post(compact, f"{RESPONSES}/compact")
    assert response.status_code == 200, await response.get_data()
    assert "x-mlxd-ignored" not in response.headers
    (request,) = server.heard()
    assert [tool.name for tool in request.tools] == [FUNCTION["name"], "other"]
    assert request.tool_choice == NoTools()


async def test_a_compaction_is_read_when_it_comes_back() -> None:
    server = front(*SCRIPT)
    (item,) = (await (await sent(server)).get_json())["output"]
    server.heard()
    await sent(server, input=[user("Hello"), item, user("Go on.")])
    (request,) = server.heard()
    assert request.messages[1].parts == (Text(f"{SUMMARY}Much was said."),)


async def test_a_trigger_in_the_background_and_behind_a_stored_history() -> None:
    server = serving(*SCRIPT)
    first = await (await sent(server, input="Hello")).get_json()
    fields: Json = {"previous_response_id": first["id"], "input": [TRIGGER], "background": True}
    name = (await (await sent(server, **fields)).get_json())["id"]
    (item,) = (await until(server, name, "completed"))["output"]
    assert summary(item) == "Much was said."
    history = server.heard()[-1].messages
    assert [message.role for message in history] == ["user", "assistant", "user"]


async def test_a_trigger_that_is_not_last_is_named_and_changes_nothing() -> None:
    server = front(*SCRIPT)
    body = {"model": "demo", "input": [user("Hello"), TRIGGER, user("Go on.")]}
    response = await server.post(body, RESPONSES)
    assert response.headers["x-mlxd-ignored"] == "input.compaction_trigger"
    types = [item["type"] for item in (await response.get_json())["output"]]
    assert "compaction" not in types


async def test_nothing_before_a_trigger_is_refused() -> None:
    response = await front(*SCRIPT).post({"model": "demo", "input": [TRIGGER]}, RESPONSES)
    assert response.status_code == 400


async def test_a_summary_that_broke_off_is_no_compaction() -> None:
    failed = Failed(EngineCrashed("gone").report())
    server = front(STARTED, *text(0, "Much"), failed)
    frames = sse_frames(await bytes_of(await sent(server, stream=True)))
    last = json.loads(frames[-2].data)
    assert last["type"] == "response.failed"
    assert last["response"]["output"] == []
