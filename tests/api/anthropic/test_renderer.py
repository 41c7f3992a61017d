"""Messages answers, token counts and models: what the wire looks like where scripts don't say."""

import asyncio
import json
import re
from typing import Any

import pytest

from mlxd.api.wire.opaque_text import seal
from mlxd.engine.scripted.engine import Gate, ScriptItem
from mlxd.events import Finished, FinishReason, Usage
from mlxd.messages import Message, Reasoning, Text
from tests.api.faces import fold_messages
from tests.api.messages import BASE, CACHED, assistant, text, user
from tests.api.support import (
    DEMO,
    HELLO,
    LIMIT,
    MESSAGES,
    OTHER,
    bytes_of,
    front,
    settings_for,
    sse_frames,
)
from tests.scripts import SCRIPTS, STARTED, call, finished, reasoning
from tests.scripts import text as written

COUNT = "/v1/messages/count_tokens"
THOUGHT = (STARTED, *reasoning(0, "Hm", "."), *written(1, "Hello."), finished())
Json = dict[str, Any]


async def both(*script: ScriptItem, **fields: Any) -> Json:
    """The whole answer, which a stream of it must amount to."""
    whole = await front(*script).post(BASE | fields, MESSAGES)
    stream = await front(*script).post(BASE | fields | {"stream": True}, MESSAGES)
    message: Json = await whole.get_json()
    assert fold_messages(sse_frames(await bytes_of(stream))) == message
    return message


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
async def test_thinking_that_nobody_asked_for_is_not_shown(thinking: Any) -> None:
    message = await both(*THOUGHT, thinking=thinking)
    assert message["content"] == [text("Hello.")]


@pytest.mark.parametrize(
    "thinking", [{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}]
)
async def test_thinking_is_shown_and_signed(thinking: Any) -> None:
    message = await both(*THOUGHT, thinking=thinking)
    thought, said = message["content"]
    assert thought == {"type": "thinking", "thinking": "Hm.", "signature": seal()}
    assert said == text("Hello.")


async def test_thinking_that_is_omitted_comes_back_by_its_signature() -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    message = await both(*THOUGHT, thinking=thinking)
    thought = message["content"][0]
    assert thought["thinking"] == ""
    server = front(*THOUGHT)
    turns = [*HELLO, assistant(*message["content"]), user("Go on.")]
    await server.post(BASE | {"messages": turns, "thinking": thinking}, MESSAGES)
    (request,) = server.engine.requests
    assert request.messages[1] == Message("assistant", (Reasoning("Hm."), Text("Hello.")))


async def test_omitted_thinking_is_not_streamed() -> None:
    fields = {"thinking": {"type": "adaptive", "display": "omitted"}, "stream": True}
    data = await bytes_of(await front(*THOUGHT).post(BASE | fields, MESSAGES))
    assert b"Hm" not in data
    assert b"thinking_delta" not in data
    assert data.count(b"signature_delta") == 1


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        (" ", {}),
        ("{}", {}),
        ('{ "a" : [1, null, "\\u00e9"] }', {"a": [1, None, "\u00e9"]}),
        ('{"a": 123456789012345678901234567890, "b": 1e400}', None),
        ('{"a": 1, "a": 2}', None),
        ('{"a": ', {"INVALID_JSON": '{"a": '}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('"text"', {"INVALID_JSON": '"text"'}),
        ("{'a': 1}", {"INVALID_JSON": "{'a': 1}"}),
        ("{" * 5000, {"INVALID_JSON": "{" * 5000}),
        ('{"a":' * 5000 + "1" + "}" * 5000, {"INVALID_JSON": '{"a":' * 5000 + "1" + "}" * 5000}),
    ],
)
async def test_arguments_are_an_object_and_lose_nothing(arguments: str, given: Any) -> None:
    script = (STARTED, *call(0, "f", arguments), finished("tool_calls"))
    response = await front(*script).post(BASE, MESSAGES)
    data = await bytes_of(response)
    if given is None:
        assert f'"input":{arguments}'.encode() in data
        return
    (block,) = json.loads(data)["content"]
    assert block == {"type": "tool_use", "id": "toolu_0", "name": "f", "input": given}


@pytest.mark.parametrize(
    ("window", "reason"), [(False, "max_tokens"), (True, "model_context_window_exceeded")]
)
async def test_an_answer_cut_short_says_by_what(window: bool, reason: str) -> None:
    end = Finished("length", usage=Usage(prompt=12, completion=100), window=window)
    message = await both(STARTED, *written(0, "One"), end)
    assert message["stop_reason"] == reason


async def test_a_call_is_a_reason_to_stop_whatever_else_was() -> None:
    end = Finished("stop_sequence", stop_sequence="x")
    message = await both(STARTED, *call(0, "f", "{}"), end)
    assert (message["stop_reason"], message["stop_sequence"]) == ("tool_use", None)


async def test_usage_tells_the_cached_part_of_the_prompt_apart() -> None:
    end = finished(usage=Usage(prompt=12, cached=8, completion=7, reasoning=3))
    usage = (await both(STARTED, *written(0, "One"), end))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (4, 8)
    assert usage["cache_creation_input_tokens"] == 0
    assert (usage["output_tokens"], usage["output_tokens_details"]) == (7, {"thinking_tokens": 3})


async def test_a_stream_begins_before_its_turn_has_come() -> None:
    gate = asyncio.Event()
    server = front(STARTED, Gate(gate), *written(0, "One"))
    body = json.dumps(BASE | {"stream": True}).encode()
    async with asyncio.timeout(LIMIT):
        async with server.client.request(MESSAGES, method="POST") as client:
            await client.send(body)
            await client.send_complete()
            seen = await client.receive()
            events = [frame.event for frame in sse_frames(seen)]
            assert events == ["message_start", "ping"]
            await client.disconnect()


async def test_the_asked_name_is_echoed() -> None:
    message = await both(STARTED, *written(0, "One"), model="claude-opus-4-8")
    assert message["model"] == "claude-opus-4-8"


# Counting.


async def counted(**fields: Any) -> int:
    body = {"model": "demo", "messages": HELLO} | fields
    response = await front().post(body, f"{COUNT}?beta=true")
    assert response.status_code == 200, await response.get_data()
    answer = await response.get_json()
    assert set(answer) == {"input_tokens"}
    tokens: int = answer["input_tokens"]
    return tokens


async def test_counting_is_what_an_answer_would_be_billed_for() -> None:
    body = BASE | {"system": "Be brief.", "tools": [{"name": "f", "input_schema": {}}]}
    server = front(STARTED, *written(0, "One"))
    usage = (await (await server.post(body, MESSAGES)).get_json())["usage"]
    count = (await (await server.post(body, COUNT)).get_json())["input_tokens"]
    assert count == usage["input_tokens"] + usage["cache_read_input_tokens"]


async def test_counting_needs_no_limit_and_takes_every_field() -> None:
    plain = await counted()
    assert await counted(max_tokens=5, stream=True, cache_control=CACHED) == plain
    assert await counted(messages=[user(text("Hello", cache_control=CACHED))]) == plain
    assert await counted(thinking={"type": "adaptive"}, temperature=0.5) == plain
    assert await counted(system="Be brief.") > plain


async def test_counting_never_waits_for_an_answer() -> None:
    server = front(STARTED, Gate(asyncio.Event()), max_queue=0)
    body = json.dumps(BASE).encode()
    async with asyncio.timeout(LIMIT):
        async with server.client.request(MESSAGES, method="POST") as busy:
            await busy.send(body)
            await busy.send_complete()
            await server.engine.reaches(lambda engine: engine.running == 1)
            answers = await asyncio.gather(*(server.post(BASE, COUNT) for _ in range(25)))
            assert [answer.status_code for answer in answers] == [200] * 25
            assert len(server.engine.requests) == 1
            await busy.disconnect()


async def test_a_count_says_who_counted_and_what_was_ignored() -> None:
    body = {"model": "claude-x", "messages": HELLO, "colour": "blue"}
    response = await front().post(body, COUNT)
    assert response.headers["x-mlxd-model"] == "demo"
    assert response.headers["x-mlxd-ignored"] == "colour"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": "demo"}, "messages: Field required"),
        ({"model": 5, "messages": HELLO}, "model: Input should be a valid string"),
    ],
)
async def test_a_count_is_refused_like_a_request(body: dict[str, Any], message: str) -> None:
    response = await front().post(body, COUNT)
    assert response.status_code == 400
    assert (await response.get_json())["error"]["message"] == message


async def test_a_count_is_logged_as_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mlxd.request"):
        await counted()
    (record,) = caplog.records
    said = re.sub(r"ms=\d+ ", "", record.getMessage())
    assert "dialect=anthropic model=demo stream=false finish=counted" in said


# Models.


async def test_anthropics_clients_see_models_in_their_own_shape() -> None:
    server = front(models=(DEMO, OTHER))
    response = await server.get("/v1/models?limit=1000", anthropic_version="2023-06-01")
    demo = {
        "id": "demo",
        "type": "model",
        "display_name": "demo",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 8192,
        "max_tokens": 4096,
    }
    body = await response.get_json()
    assert body["data"][0] == demo
    assert [model["id"] for model in body["data"]] == ["demo", "gpt-4o", "other"]
    assert {key: value for key, value in body.items() if key != "data"} == {
        "first_id": "demo",
        "last_id": "other",
        "has_more": False,
    }
    one = await server.get("/v1/models/demo", anthropic_version="2026-10-21")
    assert await one.get_json() == demo


async def test_errors_about_models_have_the_shape_of_who_asks() -> None:
    server = front(settings=settings_for(api_keys=("right",)))
    for key, status in (("right", 404), ("wrong", 401)):
        for version, shape in (("2023-06-01", {"type", "error", "request_id"}), ("", {"error"})):
            headers = {"anthropic_version": version} if version else {}
            response = await server.get("/v1/models/nobody", x_api_key=key, **headers)
            assert response.status_code == status
            assert set(await response.get_json()) == shape


BROKEN = '{"text": "he wrote "yes" twice"}'
NO_OBJECTS = [BROKEN, '{"text": "C:\\', '{"text": "a"} {"text": "b"}', "[1]", '{"text": "a', "no"]


async def streamed(*script: ScriptItem) -> list[Json]:
    """The data of the frames of a stream."""
    reply = await front(STARTED, *script).post(BASE | {"stream": True}, MESSAGES)
    return [json.loads(frame.data) for frame in sse_frames(await bytes_of(reply))]


@pytest.mark.parametrize("arguments", NO_OBJECTS)
async def test_a_stream_with_a_call_that_is_no_object_ends_with_the_error(arguments: str) -> None:
    first = tuple(call(0, "save", arguments[:5], arguments[5:]))
    second = tuple(call(1, "save", "{}"))
    ends: tuple[FinishReason, ...] = ("tool_calls", "stop_sequence", "cancelled")
    for reason in ends:
        for script in (first, first + second):
            frames = await streamed(*script, finished(reason))
            kinds = [frame["type"] for frame in frames if frame["type"] != "ping"]
            assert kinds[:2] == ["message_start", "content_block_start"]
            assert set(kinds[2:-1]) == {"content_block_delta"}
            assert kinds[-1] == "error"
            assert frames[-1]["error"]["type"] == "api_error"
            assert "save" in frames[-1]["error"]["message"]


async def test_what_comes_before_a_broken_call_is_shown_as_ever() -> None:
    script = (*written(0, "Saving."), *call(1, "save", "{}"), *call(2, "save", BROKEN))
    frames = await streamed(*script, finished("tool_calls"))
    assert [frame["index"] for frame in frames if frame["type"] == "content_block_stop"] == [0, 1]


async def test_a_call_that_the_limit_cut_ends_as_cut() -> None:
    end = Finished("length", window=True)
    frames = await streamed(*call(0, "save", '{"text": "a'), end)
    kinds = [frame["type"] for frame in frames]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert frames[-2]["delta"]["stop_reason"] == "model_context_window_exceeded"


async def test_a_broken_call_is_whole_text_in_a_whole_answer() -> None:
    reply = await front(STARTED, *call(0, "save", BROKEN), finished("tool_calls")).post(
        BASE, MESSAGES
    )
    (block,) = (await reply.get_json())["content"]
    assert block["input"] == {"INVALID_JSON": BROKEN}


async def test_a_failure_leaves_a_broken_call_open() -> None:
    crash = SCRIPTS["failure_inside_a_block"][-1]
    frames = await streamed(*call(0, "save", BROKEN), crash)
    assert [frame["type"] for frame in frames][-2:] == ["content_block_delta", "error"]
