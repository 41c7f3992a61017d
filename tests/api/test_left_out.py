"""What is no text ends no session: it is left out of a history, and refused only when it is new."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mlxd.engine.scripted.engine import ScriptItem
from mlxd.errors import InvalidField
from mlxd.messages import GenerateRequest, Image, Message, Text, ToolResult
from tests.api.messages import PNG_SOURCE
from tests.api.support import (
    AZURE_CHAT,
    CHAT,
    MESSAGES,
    PNG_URL,
    RESPONSES,
    Front,
    error_of,
    front,
)
from tests.scripts import SCRIPTS

Json = dict[str, Any]
PDF = base64.b64encode(b"%PDF-1.7 \xff\xfe").decode()
STAND_IN = "[image left out: this model reads text only]"
AT_AN_ADDRESS = {"type": "url", "url": "https://example.com/a.png"}
BROKEN = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo"}


def text_only(request: GenerateRequest) -> Iterator[ScriptItem]:
    """An engine that refuses images as one with a model of text alone does."""
    for message in request.messages:
        for part in message.parts:
            inner = part.parts if isinstance(part, ToolResult) else (part,)
            for each in inner:
                if isinstance(each, Image):
                    raise InvalidField(each.place, "unsupported", "The model sees no images.")
    yield from SCRIPTS["text"]


def server() -> Front:
    return front(play=text_only)


def texts(messages: tuple[Message, ...]) -> list[str]:
    """Everything that is said, results of tools included."""
    parts = [part for message in messages for part in message.parts]
    inner = [each for part in parts if isinstance(part, ToolResult) for each in part.parts]
    return [part.text for part in (*parts, *inner) if isinstance(part, Text)]


def chat_image(url: str = PNG_URL) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def said(text: str, role: str = "user") -> Json:
    return {"role": role, "content": text}


CHAT_CALL: Json = {
    "role": "assistant",
    "tool_calls": [{"id": "u1", "function": {"name": "look", "arguments": "{}"}}],
}
MESSAGES_CALL: Json = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "u1", "name": "look", "input": {}}],
}
CALL: Json = {"type": "function_call", "call_id": "u1", "name": "look", "arguments": "{}"}


def chat_result(*parts: Json) -> Json:
    return {"role": "tool", "tool_call_id": "u1", "content": list(parts)}


def messages_result(*parts: Json) -> Json:
    content = [{"type": "tool_result", "tool_use_id": "u1", "content": list(parts)}]
    return {"role": "user", "content": content}


def output(*parts: Json) -> Json:
    return {"type": "function_call_output", "call_id": "u1", "output": list(parts)}


def image(source: Json = PNG_SOURCE) -> Json:
    return {"type": "image", "source": source}


def document(source: Json) -> Json:
    return {"type": "document", "source": source}


PICTURE: Json = {"type": "input_image", "image_url": PNG_URL}
PDF_SOURCE = {"type": "base64", "media_type": "application/pdf", "data": PDF}

BROUGHT: list[tuple[str, str, list[Json], list[str], str]] = [
    (CHAT, "messages", [CHAT_CALL, chat_result(chat_image())], ["[2].content[0]"], "image"),
    (
        AZURE_CHAT,
        "messages",
        [CHAT_CALL, chat_result({"type": "text", "text": "a"}, chat_image(), chat_image())],
        ["[2].content[1]", "[2].content[2]"],
        "image",
    ),
    (
        CHAT,
        "messages",
        [CHAT_CALL, chat_result(chat_image("https://example.com/a.png"))],
        ["[2].content[0]"],
        "image",
    ),
    (
        CHAT,
        "messages",
        [CHAT_CALL, chat_result({"type": "file", "file": {"file_id": "f"}})],
        ["[2].content[0]"],
        "file",
    ),
    (
        MESSAGES,
        "messages",
        [MESSAGES_CALL, messages_result(image())],
        ["[2].content[0].content[0]"],
        "image",
    ),
    (
        MESSAGES,
        "messages",
        [MESSAGES_CALL, messages_result(image(AT_AN_ADDRESS), image(BROKEN))],
        ["[2].content[0].content[0]", "[2].content[0].content[1]"],
        "image",
    ),
    (
        MESSAGES,
        "messages",
        [MESSAGES_CALL, messages_result(document(PDF_SOURCE))],
        ["[2].content[0].content[0]"],
        "document",
    ),
    (
        MESSAGES,
        "messages",
        [
            MESSAGES_CALL,
            messages_result(document({"type": "content", "content": [image()]})),
        ],
        ["[2].content[0].content[0].source.content[0]"],
        "image",
    ),
    (RESPONSES, "input", [CALL, output(PICTURE)], ["[2].output[0]"], "image"),
    (
        RESPONSES,
        "input",
        [CALL, output({"type": "input_text", "text": "a"}, {**PICTURE, "image_url": "data:x"})],
        ["[2].output[1]"],
        "image",
    ),
    (
        RESPONSES,
        "input",
        [CALL, output({"type": "input_image", "file_id": "f"})],
        ["[2].output[0]"],
        "image",
    ),
    (
        RESPONSES,
        "input",
        [CALL, output({"type": "input_file", "file_data": PDF})],
        ["[2].output[0]"],
        "file",
    ),
]


@pytest.mark.parametrize(("path", "field", "turns", "places", "what"), BROUGHT)
async def test_what_a_tool_brings_is_left_out_now_and_ten_turns_later(
    path: str, field: str, turns: list[Json], places: list[str], what: str
) -> None:
    face = server()
    history = [said("Look at it."), *turns]
    stand_in = STAND_IN.replace("image", what)
    first: tuple[Message, ...] = ()
    for number in range(10):
        response = await face.post({"model": "demo", "max_tokens": 9, field: history}, path)
        assert response.status_code == 200, await response.get_data()
        ignored = response.headers["x-mlxd-ignored"].split(",")
        assert [f"{field}{place}" for place in places] == [
            each for each in ignored if each.startswith(f"{field}[")
        ]
        (request,) = face.heard()
        assert texts(request.messages).count(stand_in) == len(places)
        # The same words in every turn, so that the prompt keeps its beginning.
        first = first or request.messages
        assert request.messages[: len(first)] == first
        history += [said("I can't see it.", "assistant"), said(f"Go on, {number}.")]


SHOWN: list[tuple[str, str, Json, str]] = [
    (CHAT, "messages", {"role": "user", "content": [chat_image()]}, "messages[2].content[0]"),
    (MESSAGES, "messages", {"role": "user", "content": [image()]}, "messages.2.content.0"),
    (
        MESSAGES,
        "messages",
        {"role": "user", "content": [{"type": "text", "text": "a"}, document(PDF_SOURCE)]},
        "messages.2.content.1",
    ),
    (RESPONSES, "input", {"role": "user", "content": [PICTURE]}, "input[2].content[0]"),
    (AZURE_CHAT, "messages", {"role": "user", "content": [chat_image()]}, "messages[2].content[0]"),
]


@pytest.mark.parametrize(("path", "field", "message", "place"), SHOWN)
async def test_what_the_user_shows_now_is_refused_by_its_place_and_later_left_out(
    path: str, field: str, message: Json, place: str
) -> None:
    face = server()
    history = [said("Hello"), said("Hi.", "assistant"), message]
    body = {"model": "demo", "max_tokens": 9, field: history}
    for live in (False, True):
        response = await face.post({**body, "stream": live}, path)
        assert response.status_code == 400
        error = (await response.get_json())["error"]
        assert place in (error.get("param") or error["message"])
    face.heard()
    history += [said("I can't see it.", "assistant"), said("Go on without it.")]
    response = await face.post(body, path)
    assert response.status_code == 200
    assert f"{field}[2].content[" in response.headers["x-mlxd-ignored"]
    (request,) = face.heard()
    assert any("left out: this model reads text only]" in text for text in texts(request.messages))


async def test_an_agent_goes_on_from_a_result_behind_what_the_user_has_shown() -> None:
    face = server()
    for path, turns in (
        (CHAT, [CHAT_CALL, chat_result({"type": "text", "text": "a"})]),
        (MESSAGES, [MESSAGES_CALL, messages_result({"type": "text", "text": "a"})]),
    ):
        shown = chat_image() if path == CHAT else image()
        history = [{"role": "user", "content": [shown]}, *turns]
        response = await face.post({"model": "demo", "max_tokens": 9, "messages": history}, path)
        assert response.status_code == 200
        assert response.headers["x-mlxd-ignored"] == "messages[0].content[0]"


async def test_stored_pictures_are_left_out_of_every_later_turn() -> None:
    face = server()
    first = await face.post({"model": "demo", "input": [CALL, output(PICTURE)]}, RESPONSES)
    previous = (await first.get_json())["id"]
    for _ in range(3):
        response = await face.post(
            {"model": "demo", "input": "Go on.", "previous_response_id": previous}, RESPONSES
        )
        assert response.status_code == 200
        assert response.headers["x-mlxd-ignored"] == "previous_response_id"
        previous = (await response.get_json())["id"]
        assert STAND_IN in texts(face.heard()[-1].messages)
    # What is stored is what was sent.
    items = await face.get(f"{RESPONSES}/{previous}/input_items?order=asc")
    (_, kept, *_) = (await items.get_json())["data"]
    assert kept["output"] == [PICTURE]


async def test_pictures_of_a_conversation_are_left_out_too() -> None:
    face = server()
    shown = {"role": "user", "content": [PICTURE]}
    made = await face.post({"items": [shown, CALL, output(PICTURE)]}, "/v1/conversations")
    name = (await made.get_json())["id"]
    response = await face.post({"input": "Go on.", "conversation": name}, RESPONSES)
    assert response.status_code == 200
    assert response.headers["x-mlxd-ignored"] == "conversation"


async def test_tokens_are_counted_with_the_same_words() -> None:
    face = server()
    for path, field, turns, name in (
        (f"{MESSAGES}/count_tokens", "messages", [MESSAGES_CALL, messages_result(image())], "["),
        (f"{RESPONSES}/input_tokens", "input", [CALL, output(PICTURE)], "["),
    ):
        history = [said("Look at it."), *turns]
        response = await face.post({"model": "demo", field: history}, path)
        assert response.status_code == 200
        assert response.headers["x-mlxd-ignored"].startswith(f"{field}{name}2")
        assert json.loads(await response.get_data())["input_tokens"] > 0


async def test_a_file_whose_text_can_be_read_is_read() -> None:
    face = server()
    data = base64.b64encode(b"The text.").decode()
    file = {"type": "input_file", "filename": "a.txt", "file_data": data}
    response = await face.post({"input": [CALL, output(file), said("x")]}, RESPONSES)
    assert "x-mlxd-ignored" not in response.headers
    assert '<file name="a.txt">\nThe text.\n</file>' in texts(face.heard()[0].messages)


async def test_an_image_that_is_broken_is_refused_when_it_is_new() -> None:
    content = [{"type": "text", "text": "See"}, chat_image("data:image/png;base64,!")]
    response = await server().ask(messages=[{"role": "user", "content": content}])
    assert response.status_code == 400
    error = await error_of(response)
    assert error["param"] == "messages[0].content[1].image_url.url"
