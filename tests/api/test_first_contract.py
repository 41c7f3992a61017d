"""What clients of the server before this one send, and count on: all of it is still answered."""

from typing import Any

import pytest
from quart import Response

from tests.api.stateful import asked, serving
from tests.api.support import (
    AZURE_CHAT,
    CHAT,
    HELLO,
    MESSAGES,
    RESPONSES,
    bytes_of,
    error_of,
    front,
)
from tests.scripts import SCRIPTS

Json = dict[str, Any]

AZURE_RESPONSES = "/openai/deployments/demo/responses"
COUNT = f"{MESSAGES}/count_tokens"
SERVER = front(*SCRIPTS["text"])
BODIES: dict[str, Json] = {
    CHAT: {"messages": HELLO, "max_tokens": 4},
    RESPONSES: {"input": "Hello", "max_output_tokens": 16},
    MESSAGES: {"messages": HELLO, "max_tokens": 4},
}
WEATHER: Json = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PAST_CALL: Json = {
    "id": "c1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}
TEXTS = [
    "Hello",
    [{"type": "text", "text": "Hello"}],
    [{"type": "input_text", "text": "Hello"}],
    [{"type": "output_text", "text": "Hello", "annotations": []}],
]


async def answered(path: str, body: Json) -> Response:
    """The answer, which is a good one and honours every field."""
    response = await SERVER.post(body, path)
    assert response.status_code == 200, await response.get_data()
    assert "x-mlxd-ignored" not in response.headers
    return response


@pytest.mark.parametrize("query", ["", "?api-version=2024-10-21"])
@pytest.mark.parametrize(
    ("path", "vendors", "kind", "end"),
    [
        (CHAT, CHAT, "chat.completion", b"data: [DONE]"),
        (AZURE_CHAT, CHAT, "chat.completion", b"data: [DONE]"),
        (RESPONSES, RESPONSES, "response", b"event: response.completed"),
        (AZURE_RESPONSES, RESPONSES, "response", b"event: response.completed"),
    ],
)
async def test_every_path_answers_whole_and_streamed(
    path: str, vendors: str, kind: str, end: bytes, query: str
) -> None:
    whole = await answered(path + query, BODIES[vendors])
    assert (await whole.get_json())["object"] == kind
    assert end in await bytes_of(await answered(path + query, BODIES[vendors] | {"stream": True}))


@pytest.mark.parametrize(
    ("requested", "shown"),
    [({}, "demo"), ({"model": None}, "demo"), ({"model": "some-other"}, "some-other")],
)
@pytest.mark.parametrize("path", BODIES)
async def test_the_loaded_model_answers_under_whatever_name(
    path: str, requested: Json, shown: str
) -> None:
    response = await answered(path, BODIES[path] | requested)
    assert response.headers["x-mlxd-model"] == "demo"
    assert (await response.get_json())["model"] == shown
    stream = await answered(path, BODIES[path] | requested | {"stream": True})
    assert f'"model":"{shown}"'.encode() in await bytes_of(stream)


@pytest.mark.parametrize("fields", [{}, {"max_tokens": None}])
async def test_messages_need_no_limit(fields: Json) -> None:
    SERVER.heard()
    await answered(MESSAGES, {"messages": HELLO} | fields)
    (request,) = SERVER.heard()
    # The engine's word for the configured default.
    assert request.max_tokens is None


async def test_tokens_are_counted_for_the_loaded_model() -> None:
    response = await answered(COUNT, {"messages": HELLO})
    assert response.headers["x-mlxd-model"] == "demo"


@pytest.mark.parametrize("path", [CHAT, AZURE_CHAT, "/openai/v1/chat/completions"])
@pytest.mark.parametrize("content", TEXTS)
@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant", "tool"])
async def test_text_in_chat_is_the_same_under_any_name(role: str, content: Any, path: str) -> None:
    message = {"role": role, "content": content}
    plain = {"role": role, "content": "Hello"}
    extra = {"tool_call_id": "c1"} if role == "tool" else {}
    SERVER.heard()
    await answered(path, {"messages": [message | extra, *HELLO]})
    await answered(path, {"messages": [plain | extra, *HELLO]})
    given, expected = SERVER.heard()
    assert given.messages == expected.messages


@pytest.mark.parametrize("path", [CHAT, AZURE_CHAT])
async def test_an_assistants_turn_in_chat_may_be_null(path: str) -> None:
    await answered(path, {"messages": [*HELLO, {"role": "assistant", "content": None}, *HELLO]})


@pytest.mark.parametrize("content", [*TEXTS, None])
async def test_a_turn_in_responses_is_text_parts_or_null(content: Any) -> None:
    turn = {"role": "user", "content": content}
    await answered(RESPONSES, {"input": [turn, *HELLO]})


@pytest.mark.parametrize("content", TEXTS[:2])
async def test_a_turn_in_messages_is_text_or_parts(content: Any) -> None:
    turn = {"role": "user", "content": content}
    await answered(MESSAGES, {"system": content, "messages": [turn]})


PARAMETERS: dict[str, list[tuple[str, Any]]] = {
    CHAT: [
        *(("temperature", value) for value in (0, 0.0, 2, 2.0)),
        *(("top_p", value) for value in (0.0, 0.5, 1.0)),
        *[("max_tokens", 1), ("stop", "x"), ("stop", ["x", "y"])],
        *[("repetition_penalty", 1.0), ("repetition_penalty", 1.2)],
        *[("presence_penalty", 0.5), ("frequency_penalty", 0.5)],
    ],
    RESPONSES: [
        *[("temperature", 0), ("temperature", 2.0), ("top_p", 0.0), ("top_p", 1.0)],
        *[("instructions", "Be brief."), ("presence_penalty", 0.5)],
    ],
    MESSAGES: [
        *[("temperature", 0), ("temperature", 1.0), ("top_p", 0.0), ("top_p", 1.0)],
        *[("stop_sequences", ["x"]), ("system", "Be brief.")],
    ],
}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [(path, name, value) for path, each in PARAMETERS.items() for name, value in each],
)
async def test_parameters_are_honoured_to_the_ends_of_their_ranges(
    path: str, name: str, value: Any
) -> None:
    await answered(path, BODIES[path] | {name: value})


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "none"}, {"tool_choice": "auto"}])
async def test_tools_are_offered(choice: Json) -> None:
    tools = [{"type": "function", "function": WEATHER}]
    await answered(CHAT, BODIES[CHAT] | {"tools": tools} | choice)


async def test_a_call_and_its_result_come_back() -> None:
    asked = {"role": "assistant", "content": None, "tool_calls": [PAST_CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "9 C"}
    tools: list[Json] = [{"type": "function", "function": WEATHER}]
    await answered(CHAT, {"messages": [*HELLO, asked, result], "tools": tools})
    call = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "9 C"}
    tools = [{"type": "function", **WEATHER}]
    await answered(RESPONSES, {"input": [*HELLO, call, output], "tools": tools})


async def test_a_response_goes_on_from_the_one_before() -> None:
    # Its answers have ids of their own, which those of the shared server have not.
    server = serving()
    first = await asked(server)
    await asked(server, input="And?", previous_response_id=first["id"])
    request = server.engine.requests[-1]
    assert [message.role for message in request.messages] == ["user", "assistant", "user"]


async def test_clients_can_look_around_first() -> None:
    models = await SERVER.get("/v1/models")
    assert (models.status_code, (await models.get_json())["object"]) == (200, "list")
    assert (await SERVER.get("/health")).status_code == 200


async def test_a_page_of_this_machine_may_ask() -> None:
    origin = "http://localhost:3000"
    headers = {"origin": origin, "access-control-request-method": "POST"}
    response = await SERVER.client.options(CHAT, headers=headers)
    assert response.status_code in (200, 204)
    assert response.headers["access-control-allow-origin"] == origin


async def test_what_is_wrong_is_an_error_and_what_is_unknown_is_not() -> None:
    wrong = await SERVER.post({"messages": "nope"})
    assert wrong.status_code == 400
    assert (await error_of(wrong))["param"] == "messages"
    more = {"zzz_unknown": 1, "user": "u", "store": True}
    response = await SERVER.post(BODIES[CHAT] | more)
    assert response.status_code == 200
    assert set(response.headers["x-mlxd-ignored"].split(",")) == set(more)
