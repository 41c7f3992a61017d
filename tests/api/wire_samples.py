"""What goes over the wire, with the client's type and the published schemas that describe it."""

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Literal, get_args

import msgspec
from anthropic import types as anthropic
from openai.types import ErrorObject, Model, chat, conversations, responses
from pydantic import Field

from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.response_object import counted
from mlxd.events import Event
from tests.api.faces import ANTHROPIC, AZURE, OPENAI_CHAT, Face
from tests.api.responses import (
    CUSTOM,
    FUNCTION,
    SEARCH,
    SPACE,
    Json,
    bodies,
    call,
    compact,
    events_of,
    parsed,
    response_of,
    result,
    user,
)
from tests.api.stateful import CONVERSATIONS, RESPONSES, asked, got, serving
from tests.api.support import DEMO, OTHER, bytes_of, front, sse_frames
from tests.scripts import SCRIPTS, STARTED, Playing, finished
from tests.scripts import call as tool_call

OPENAI = "openai-openapi.json"
OPEN_RESPONSES = "openresponses.json"
EVENT = "the event of this type"
"""In place of a schema's name: its document says which one an event's type is for."""
ERROR = {OPENAI: "ErrorResponse"}


@dataclass(frozen=True)
class Sample:
    """A body, or the data of a frame."""

    shape: Any
    """The client's type."""
    value: Any
    schemas: Mapping[str, str] = field(default_factory=dict)
    """The name of its schema in each document that has one."""


PLAYING = Playing()
SERVER = front(play=PLAYING)
ANSWERS: dict[str, tuple[Any, Any, Mapping[str, str], Mapping[str, str]]] = {
    "openai_chat": (
        *(chat.ChatCompletion, chat.ChatCompletionChunk),
        *({OPENAI: "CreateChatCompletionResponse"}, {OPENAI: "CreateChatCompletionStreamResponse"}),
    ),
    "azure": (chat.ChatCompletion, chat.ChatCompletionChunk, {}, {}),
    "anthropic": (anthropic.Message, anthropic.RawMessageStreamEvent, {}, {}),
}
"""The types of a whole answer and of a stream's frames, and their schemas."""


async def answers(face: Face, script: Sequence[Event]) -> list[Sample]:
    """A whole answer and a stream."""
    whole, frame, whole_schemas, frame_schemas = ANSWERS[face.dialect.name]
    PLAYING.script = tuple(script)
    response = await SERVER.post(face.body, face.path)
    stream = await SERVER.post(face.body | face.live, face.path)
    frames = [frame.data for frame in sse_frames(await bytes_of(stream))]
    return [
        _or_error(Sample(whole, await response.get_json(), whole_schemas)),
        *(
            _or_error(Sample(frame, json.loads(data), frame_schemas))
            for data in frames
            if data != b"[DONE]"
        ),
    ]


def _or_error(sample: Sample) -> Sample:
    """The same, but for the shapes that can stand in place of any body or frame."""
    match sample.value:
        case {"type": "error"}:
            return Sample(anthropic.ErrorResponse, sample.value)
        case {"type": "ping"}:
            # Anthropic's client drops it by its name and has no type for it.
            return Sample(dict[Literal["type"], Literal["ping"]], sample.value)
        case {"error": _}:
            return replace(sample, shape=dict[Literal["error"], ErrorObject], schemas=ERROR)
    return sample


RESPONSES_EVENT: Any = Annotated[
    # Tried one after the other, dozens of types that hold a whole response are slow.
    get_args(responses.ResponseStreamEvent)[0], Field(discriminator="type")
]
REQUESTS: dict[str, Json] = {
    "plain": {},
    "echoed": {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "max_output_tokens": 100,
        "max_tool_calls": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "user": "me",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "service_tier": "auto",
        "truncation": "auto",
        "tools": [FUNCTION, {"type": "function", "name": "bare"}],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "parallel_tool_calls": False,
        "text": {"verbosity": "low", "format": {"type": "json_object"}},
        "reasoning": {"effort": "low", "summary": "auto"},
    },
    "summary": {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]},
    "logprobs": {"top_logprobs": 2, "background": True, "previous_response_id": "resp_1"},
    "schema": {
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    },
    "custom": {"tools": [{**CUSTOM, "name": "get_weather"}, SPACE, SEARCH]},
    "allowed": {
        "tools": [FUNCTION],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
    },
}
"""Responses requests of every kind."""
OPENAI_ALONE = ("custom", "schema")
"""Open Responses has neither custom tools nor namespaces, and echoes no schema."""


async def responses_answers(request: str, script: Iterable[Event]) -> list[Sample]:
    """A response, and the events of its stream."""
    fields, script = REQUESTS[request], tuple(script)
    both = [OPENAI] if request in OPENAI_ALONE else [OPENAI, OPEN_RESPONSES]
    names = {OPENAI: "Response", OPEN_RESPONSES: "ResponseResource"}
    response = response_of(script, **fields)
    return [
        Sample(responses.Response, response, {document: names[document] for document in both}),
        *(
            Sample(RESPONSES_EVENT, event, dict.fromkeys(_with(event, both), EVENT))
            for event in events_of(script, **fields)
        ),
    ]


def _with(event: Json, documents: Iterable[str]) -> Iterator[str]:
    """The documents among these that know the event."""
    thinking = "reasoning_text" in event["type"]
    return (document for document in documents if document == OPENAI or not thinking)


async def custom_tool_call() -> list[Sample]:
    calls = (*tool_call(0, "sql", '{"input":"select 1"}'), *tool_call(1, "get_time", "{}"))
    script = (STARTED, *calls, finished("tool_calls"))
    tool = {"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}
    body = await (await front(*script).ask(tools=[tool])).get_json()
    return [Sample(chat.ChatCompletion, body, {OPENAI: "CreateChatCompletionResponse"})]


async def models() -> list[Sample]:
    server = front(models=(DEMO, OTHER))
    every = await got(server, "/v1/models")
    one = await got(server, "/v1/models/demo")
    return [
        # The clients read the list page by page, with a type for each vendor's entries.
        *(Sample(shape, each) for each in every["data"] for shape in (Model, anthropic.ModelInfo)),
        Sample(dict[str, Any], every, {OPENAI: "ListModelsResponse"}),
        Sample(Model, one, {OPENAI: "Model"}),
        Sample(anthropic.ModelInfo, one),
    ]


async def input_items() -> list[Sample]:
    values: list[Any] = [
        user("Hello"),
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"role": "assistant", "content": "Hi"},
        {"type": "reasoning", "summary": []},
        call("f", id=None, status=None),
        result("42"),
        {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "1"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "1"},
        user("Look"),
    ]
    return [
        Sample(responses.ResponseItem, item, {OPENAI: "ItemResource"})
        for item in bodies(parsed(input=values).input)
    ]


async def counts() -> list[Sample]:
    request = {"model": "demo", "messages": ANTHROPIC.body["messages"]}
    response = await SERVER.post(request, "/v1/messages/count_tokens")
    return [
        Sample(responses.InputTokenCountResponse, counted(7), {OPENAI: "TokenCountsResource"}),
        Sample(anthropic.MessageTokensCount, await response.get_json()),
    ]


async def compaction() -> list[Sample]:
    renderer = compact(input=[user("Hello")]).resolve(Past()).renderer
    for event in SCRIPTS["reasoning_then_text"]:
        list(renderer.frames(0, event))
    body = json.loads(msgspec.json.encode(renderer.snapshot()))
    names = dict.fromkeys((OPENAI, OPEN_RESPONSES), "CompactResource")
    return [Sample(responses.CompactedResponse, body, names)]


async def stored() -> list[Sample]:
    server = serving()
    made = await asked(server, CONVERSATIONS, metadata={"a": "b"})
    path = f"{CONVERSATIONS}/{made['id']}"
    answer = await asked(server, conversation=made["id"])
    deleted = await (await server.client.delete(path)).get_json()
    return [
        Sample(conversations.Conversation, made, {OPENAI: "ConversationResource"}),
        Sample(conversations.ConversationDeletedResource, deleted),
        Sample(responses.Response, answer, {OPENAI: "Response"}),
        Sample(
            responses.ResponseItemList,
            await got(server, f"{RESPONSES}/{answer['id']}/input_items"),
            {OPENAI: "ResponseItemList"},
        ),
    ]


async def refusal() -> list[Sample]:
    body = await (await SERVER.post({"input": "x", "temperature": 3}, RESPONSES)).get_json()
    return [_or_error(Sample(None, body))]


SAMPLES: dict[str, Callable[[], Awaitable[list[Sample]]]] = {
    **{
        f"{face.dialect.name}-{name}": partial(answers, face, script)
        for face in (OPENAI_CHAT, AZURE, ANTHROPIC)
        for name, script in SCRIPTS.items()
    },
    **{
        f"openai_responses-{request}-{name}": partial(responses_answers, request, script)
        for request in REQUESTS
        for name, script in SCRIPTS.items()
    },
    **{
        each.__name__: each
        for each in (*(custom_tool_call, models, input_items, counts, compaction, stored, refusal),)
    },
}
"""All of it, in groups by name."""
