"""Messages requests that are refused, and the words and headers that go with it."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from mlxd.engine.scripted.engine import ScriptItem
from mlxd.errors import (
    ContextTooLong,
    EngineCrashed,
    InvalidField,
    MlxdError,
    ModelUnusable,
    OutOfMemory,
    QueueFull,
)
from mlxd.messages import GenerateRequest
from tests.api.messages import BASE, PNG_SOURCE, SERVER, text, user
from tests.api.support import HELLO, MESSAGES, Front, front, settings_for
from tests.scripts import SCRIPTS, STARTED


async def refusal(body: Any, status: int = 400, server: Front | None = None) -> dict[str, Any]:
    """The `error` of the envelope that `body` is refused with."""
    response = await (server or SERVER).post(body, MESSAGES)
    assert response.status_code == status
    envelope = await response.get_json()
    assert set(envelope) == {"type", "error", "request_id"}
    assert envelope["type"] == "error"
    assert envelope["request_id"] == response.headers["request-id"]
    error: dict[str, Any] = envelope["error"]
    return error


async def test_missing_messages_are_named() -> None:
    assert await refusal({"model": "demo"}) == {
        "type": "invalid_request_error",
        "message": "messages: Field required",
    }


def picture(**source: Any) -> dict[str, Any]:
    return {"messages": [user({"type": "image", "source": source})]}


def paper(**source: Any) -> dict[str, Any]:
    return {"messages": [user({"type": "document", "source": source})]}


def said(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


USE = {"type": "tool_use", "id": "x", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "x"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": "hot"}, "temperature: Input should be a valid number"),
        ({"temperature": True}, "temperature: Input should be a valid number"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"temperature": -1}, "temperature: Input should be greater than or equal to 0"),
        ({"top_p": 2}, "top_p: Input should be less than or equal to 1"),
        ({"top_k": 0.5}, "top_k: Input should be a valid integer"),
        ({"top_k": -1}, "top_k: Input should be greater than or equal to 0"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"model": 5}, "model: Input should be a valid string"),
        ({"messages": {}}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [user("")], "system": "Hi"}, "messages: At least one message must have"),
        ({"messages": ["Hi"]}, "messages.0: Input should be an object"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role: Field required"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages.0.role: Input should be 'user"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "messages.0.content: Input should be a string or an array of content blocks",
        ),
        (said("Hi"), "messages.0.content.0: Input should be an object"),
        (said({"text": "Hi"}), "messages.0.content.0.type: Field required"),
        (said({"type": "text"}), "messages.0.content.0.text: Field required"),
        (said({"type": "audio"}), "messages.0.content.0: Input tag 'audio' found using 'type' doe"),
        (said({"type": 5}), "messages.0.content.0: Input tag '5' found using 'type' does not matc"),
        (said(USE | {"input": "{}"}, role="assistant"), "messages.0.content.0.input: Input should"),
        (said(USE), "messages.0.content.0: `tool_use` and `thinking` blocks can only be in"),
        (said(RESULT, role="assistant"), "messages.0.content.0: `tool_result` and `image` blocks"),
        (
            {"messages": [*HELLO, *said(RESULT | {"content": [USE]})["messages"]]},
            "messages.1.content.0.content.0: Input tag 'tool_use' found using 'type' does not",
        ),
        ({"system": 5}, "system: Input should be a string or an array of content blocks"),
        ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
        ({"stop_sequences": "stop"}, "stop_sequences: Input should be a valid list"),
        ({"stop_sequences": ["x"] * 65}, "stop_sequences: List should have at most 64 items"),
        ({"stop_sequences": ["x" * 257]}, "stop_sequences.0: String should have at most 256"),
        ({"thinking": {"type": "some"}}, "thinking: Input tag 'some' found using 'type' does not"),
        ({"thinking": {"budget_tokens": 1}}, "thinking.type: Field required"),
        ({"thinking": True}, "thinking: Input should be an object"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens: Input sh"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be 'low', 'me"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type: Input should"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema: Field required"),
        (picture(type="url", url="https://x"), "messages.0.content.0.source: nothing is fetched f"),
        (picture(type="file", file_id="f"), "messages.0.content.0.source: nothing is fetched from"),
        (picture(type="base64", data="?"), "messages.0.content.0.source: the image is not valid B"),
        (
            picture(**PNG_SOURCE | {"data": base64.b64encode(b"GIF").decode()}),
            "messages.0.content.0.source: the data is not a PNG, JPEG, GIF or WebP image.",
        ),
        (
            paper(type="base64", media_type="application/pdf", data=""),
            "messages.0.content.0.source: documents of type 'application/pdf' are not read here",
        ),
        (
            paper(type="base64", media_type="text/plain", data="/w=="),
            "messages.0.content.0.source: the document is not UTF-8 text in Base64.",
        ),
        (paper(type="url", url="https://x"), "messages.0.content.0.source: nothing is fetched"),
        (paper(type="text"), "messages.0.content.0.source.data: Field required"),
    ],
)
async def test_a_wrong_field_is_named_in_pydantics_words(
    fields: dict[str, Any], message: str
) -> None:
    error = await refusal(BASE | fields)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(message)
    assert "#" not in error["message"]


@pytest.mark.parametrize("status", [400, 422])
async def test_the_status_of_malformed_requests_can_be_set(status: int) -> None:
    server = front(settings=settings_for(validation_status=status))
    await refusal({}, status, server)


@pytest.mark.parametrize(
    "thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}, {}]
)
@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
async def test_threads_are_refused_so_that_clients_send_everything(
    thread: dict[str, Any], path: str
) -> None:
    server = front(*SCRIPTS["text"], settings=settings_for(validation_status=422))
    response = await server.post(BASE | {"thread": thread, "messages": 5}, path)
    assert response.status_code == 400
    error = (await response.get_json())["error"]
    assert error["type"] == "invalid_request_error"
    assert error["details"] == {
        "error_code": "thread_unsupported_request",
        "unsupported": ["inference_hooks"],
    }
    assert not server.engine.requests


def raising(error: MlxdError) -> Front:
    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        raise error
        yield STARTED

    return front(play=play)


@pytest.mark.parametrize(
    ("error", "status", "kind", "message"),
    [
        (
            ContextTooLong(9000, 4096),
            400,
            "invalid_request_error",
            "prompt is too long: 9000 tokens > 4096 maximum",
        ),
        (QueueFull(retry_after=1.5, limit=64), 529, "overloaded_error", "The server is busy"),
        (OutOfMemory("a prompt of 9 tokens"), 529, "overloaded_error", "There is not enough mem"),
        (EngineCrashed("gone"), 500, "api_error", "The inference engine stopped"),
        (ModelUnusable("demo", "no weights"), 500, "api_error", "Model 'demo' can't be used"),
        (
            InvalidField("messages.0.content", "unsupported", "The model 'demo' sees no images."),
            400,
            "invalid_request_error",
            "messages.0.content: The model 'demo' sees no images.",
        ),
        (
            InvalidField("response_format", "value", "Nothing can satisfy it."),
            400,
            "invalid_request_error",
            "output_config.format: Nothing can satisfy it.",
        ),
    ],
)
async def test_refusals_of_the_engine_have_anthropics_statuses_and_types(
    error: MlxdError, status: int, kind: str, message: str
) -> None:
    told = await refusal(BASE, status, raising(error))
    assert told["type"] == kind
    assert told["message"].startswith(message)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (QueueFull(retry_after=1.5, limit=64), {"retry-after": "2", "retry-after-ms": "1500"}),
        (OutOfMemory("x"), {"retry-after": "5"}),
        (EngineCrashed("x"), {"retry-after": "1"}),
        (ModelUnusable("demo", "x"), {"x-should-retry": "false"}),
    ],
)
async def test_headers_say_when_to_come_back(error: MlxdError, headers: dict[str, str]) -> None:
    response = await raising(error).post(BASE, MESSAGES)
    assert {name: response.headers[name] for name in headers} == headers


async def test_an_unknown_model_is_named() -> None:
    server = front(settings=settings_for(unknown_model="refuse"))
    error = await refusal(BASE | {"model": "nobody"}, 404, server)
    assert error == {"type": "not_found_error", "message": "model: nobody"}


async def test_a_wrong_key_is_said_in_anthropics_words() -> None:
    server = front(settings=settings_for(api_keys=("right",)))
    response = await server.post(BASE, MESSAGES, x_api_key="wrong")
    assert response.status_code == 401
    error = (await response.get_json())["error"]
    assert error == {"type": "authentication_error", "message": "invalid x-api-key"}


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/messages/msg_1"])
async def test_what_is_not_there_is_not_found(path: str) -> None:
    response = await front().post({}, path)
    assert response.status_code == 404
    assert (await response.get_json())["error"]["type"] == "not_found_error"


async def test_a_prompt_that_is_too_long_is_refused_before_a_stream_begins() -> None:
    long = [user(text("word " * 20_000))]
    error = await refusal(BASE | {"messages": long, "stream": True})
    assert error["message"].startswith("prompt is too long: ")
    assert error["message"].endswith(" tokens > 8192 maximum")
