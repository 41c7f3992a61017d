"""OpenAI's own client for Responses against the real listener: answers, streams, tools, errors."""

import asyncio
import json
from collections.abc import AsyncIterable, Iterator
from typing import Any, TypeVar

import openai
import pytest
from openai import OpenAI
from openai.types.responses import (
    FunctionToolParam,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseInputParam,
    ResponseReasoningItem,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
)
from pydantic import BaseModel

from mlxd.api.http.framework import Tuning
from mlxd.api.openai.errors import error_body
from mlxd.engine.scripted.agent import agent
from mlxd.engine.scripted.engine import Gate, Play, ScriptItem
from mlxd.errors import ContextTooLong, EngineCrashed, MlxdError, QueueFull
from mlxd.messages import GenerateRequest, Reasoning, ToolCall, ToolResult
from tests.api.clients import talking
from tests.api.support import LIMIT, Front, front, listening, raising, settings_for
from tests.scripts import SCRIPTS, STARTED, finished, reasoning, text
from tests.scripts import call as tool_call

pytestmark = pytest.mark.client

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


T = TypeVar("T")


class Person(BaseModel):
    name: str
    age: int


def serving(*script: ScriptItem, play: Play | None = None) -> Front:
    return front(*script, play=play, tuning=Tuning())


def meteorologist(request: GenerateRequest) -> Iterator[ScriptItem]:
    """Thinks and calls a tool, then answers with what it said."""
    yield STARTED
    results = [part for part in request.messages[-1].parts if isinstance(part, ToolResult)]
    if results:
        (said,) = results[0].parts
        yield from text(0, f"It is {getattr(said, 'text', '')}.")
        yield finished()
    else:
        yield from reasoning(0, "I need a tool.")
        yield from tool_call(1, "get_weather", '{"city":"Paris"}')
        yield finished("tool_calls")


def parts_of(request: GenerateRequest, kind: type) -> list[Any]:
    return [part for message in request.messages for part in message.parts if type(part) is kind]


async def test_a_whole_answer_is_read() -> None:
    async with talking(serving(*SCRIPTS["reasoning_then_text"])) as client:
        answer = await client.responses.create(
            model="demo", input="Hello", instructions="Be brief.", metadata={"topic": "x"}
        )
    assert answer.output_text == "Hello."
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert (answer.status, answer.model, answer.instructions) == ("completed", "demo", "Be brief.")
    assert (answer.metadata, answer.error) == ({"topic": "x"}, None)
    assert answer.incomplete_details is None
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 4
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer._request_id is not None


async def test_a_stream_is_read_event_by_event() -> None:
    async with talking(serving(*SCRIPTS["reasoning_then_text"])) as client:
        stream = await client.responses.create(model="demo", input="Hello", stream=True)
        events = [event async for event in stream]
    kinds = [event.type for event in events]
    assert kinds[:3] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    assert kinds.count("response.output_item.done") == 2
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = [event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)]
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert "".join(said) == last.response.output_text == "Hello."


@pytest.mark.parametrize("name", ["two_tool_calls", "reasoning_then_text", "text"])
async def test_the_stream_helper_ends_with_the_answer_that_is_stored(name: str) -> None:
    async with talking(serving(*SCRIPTS[name])) as client:
        async with client.responses.stream(model="demo", input="Hello", tools=[WEATHER]) as stream:
            kinds = [event.type async for event in stream]
            answer = await stream.get_final_response()
        stored = await client.responses.retrieve(answer.id)
    assert kinds[0] == "response.created"
    assert stored.to_dict()["output"] == unparsed(answer.to_dict()["output"])


def unparsed(value: Any) -> Any:
    """Without what the helper makes of texts and arguments."""
    match value:
        case dict():
            return {key: unparsed(each) for key, each in value.items() if "parsed" not in key}
        case list():
            return [unparsed(each) for each in value]
    return value


async def test_an_answer_that_was_cut_short_says_so() -> None:
    async with talking(serving(*SCRIPTS["length"])) as client:
        answer = await client.responses.create(model="demo", input="Hello", max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


async def test_a_schema_is_parsed_whole_and_streamed() -> None:
    async with talking(serving(play=agent)) as client:
        whole = await client.responses.parse(model="demo", input="Who?", text_format=Person)
        async with client.responses.stream(
            model="demo", input="Who?", text_format=Person
        ) as stream:
            streamed = await stream.get_final_response()
    assert isinstance(whole.output_parsed, Person)
    assert streamed.output_parsed == whole.output_parsed


async def test_logprobs_are_there_for_who_asks() -> None:
    async with talking(serving(*SCRIPTS["logprobs"])) as client:
        answer = await client.responses.create(
            model="demo", input="Hi", top_logprobs=2, include=["message.output_text.logprobs"]
        )
    (item,) = answer.output
    assert item.type == "message"
    (part,) = item.content
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert [token.logprob for token in part.logprobs] == [-0.25, -0.5, -9999.0]


@pytest.mark.parametrize("live", [False, True])
async def test_a_tool_loop_goes_round_with_the_history_in_the_input(live: bool) -> None:
    server = serving(play=meteorologist)
    history: ResponseInputParam = [{"role": "user", "content": "How is the weather?"}]
    async with talking(server) as client:
        if live:
            async with client.responses.stream(
                model="demo", input=history, tools=[WEATHER]
            ) as stream:
                first: Any = await stream.get_final_response()
        else:
            first = await client.responses.create(model="demo", input=history, tools=[WEATHER])
        thought, asked = first.output
        history += first.output
        history.append(
            {"type": "function_call_output", "call_id": asked.call_id, "output": "sunny"}
        )
        second = await client.responses.create(model="demo", input=history, tools=[WEATHER])
    assert isinstance(thought, ResponseReasoningItem)
    assert isinstance(asked, ResponseFunctionToolCall)
    assert json.loads(asked.arguments) == {"city": "Paris"}
    assert second.output_text == "It is sunny."
    _, request = server.heard()
    assert [part.text for part in parts_of(request, Reasoning)] == ["I need a tool."]
    assert [part.id for part in parts_of(request, ToolCall)] == [asked.call_id]


async def test_a_tool_loop_goes_round_from_the_previous_response() -> None:
    server = serving(play=meteorologist)
    async with talking(server) as client:
        first = await client.responses.create(model="demo", input="Weather?", tools=[WEATHER])
        asked = first.output[1]
        assert isinstance(asked, ResponseFunctionToolCall)
        second = await client.responses.create(
            model="demo",
            previous_response_id=first.id,
            input=[{"type": "function_call_output", "call_id": asked.call_id, "output": "sunny"}],
            tools=[WEATHER],
        )
    assert second.output_text == "It is sunny."
    assert second.previous_response_id == first.id
    roles = [message.role for message in server.heard()[1].messages]
    assert roles == ["user", "assistant", "tool"]


async def test_sealed_reasoning_is_understood_when_it_comes_back() -> None:
    server = serving(play=meteorologist)
    async with talking(server) as client:
        first = await client.responses.create(
            model="demo",
            input="Weather?",
            tools=[WEATHER],
            store=False,
            include=["reasoning.encrypted_content"],
            reasoning={"summary": "auto"},
        )
        thought, asked = first.output
        assert isinstance(thought, ResponseReasoningItem)
        assert isinstance(asked, ResponseFunctionToolCall)
        assert thought.encrypted_content
        result: Any = {
            "type": "function_call_output",
            "call_id": asked.call_id,
            "output": "sunny",
        }
        called: Any = asked.to_dict()
        sealed: Any = {**thought.to_dict(), "summary": [], "content": None}
        await client.responses.create(
            model="demo",
            input=[{"role": "user", "content": "Weather?"}, sealed, called, result],
            store=False,
        )
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
    assert [part.text for part in parts_of(server.heard()[1], Reasoning)] == ["I need a tool."]


async def test_tokens_are_counted_without_an_answer() -> None:
    server = serving(*SCRIPTS["text"])
    async with talking(server) as client:
        counted = await client.responses.input_tokens.count(model="demo", input="one two three")
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens > 0


async def test_a_compacted_history_is_understood_when_it_comes_back() -> None:
    server = serving(*SCRIPTS["text"])
    history: ResponseInputParam = [
        {"role": "user", "content": "The code word is slate."},
        {"role": "assistant", "content": "OK."},
    ]
    async with talking(server) as client:
        compacted = await client.responses.compact(model="demo", input=history)
        server.heard()
        items: Any = [item.to_dict() for item in compacted.output]
        await client.responses.create(
            model="demo", input=[*items, {"role": "user", "content": "Which?"}]
        )
    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output].count("compaction") == 1
    (request,) = server.heard()
    # What the script said, whatever it was asked for, is the summary.
    assert "Hello there." in str(request.messages)


@pytest.mark.parametrize(
    ("error", "raised", "code"),
    [
        (ContextTooLong(9000, 4096), openai.BadRequestError, "context_length_exceeded"),
        (QueueFull(limit=64), openai.InternalServerError, "queue_full"),
        (EngineCrashed("gone"), openai.InternalServerError, "engine_crashed"),
    ],
)
@pytest.mark.parametrize("live", [False, True])
async def test_refusals_are_exceptions_with_code_and_message(
    error: MlxdError, raised: type[openai.APIStatusError], code: str, live: bool
) -> None:
    async with talking(serving(play=raising(error))) as client:
        with pytest.raises(raised) as caught:
            await client.responses.create(model="demo", input="Hello", stream=live)
    assert caught.value.code == code
    words = error_body(error, prompt="input")["error"]["message"]
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": 9}, "temperature", "decimal_above_max_value"),
        ({"input": []}, "input", None),
        ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
        ({"background": True, "store": False}, "background", None),
    ],
)
async def test_a_wrong_field_is_a_bad_request_that_names_it(
    fields: dict[str, Any], param: str, code: str | None
) -> None:
    async with talking(serving()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**{"model": "demo", "input": "Hello", **fields})
    assert caught.value.param == param
    assert code in (None, caught.value.code)


async def test_a_wrong_key_is_an_authentication_error() -> None:
    server = front(settings=settings_for(api_keys=("right",)))
    async with talking(server, key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.responses.create(model="demo", input="Hello")


async def read_into(seen: list[T], stream: AsyncIterable[T]) -> None:
    async for event in stream:
        seen.append(event)


async def test_an_error_inside_a_stream_is_an_exception_after_what_came_before() -> None:
    async with talking(serving(*SCRIPTS["failure_inside_a_block"])) as client:
        stream = await client.responses.create(model="demo", input="Hello", stream=True)
        seen: list[ResponseStreamEvent] = []
        with pytest.raises(openai.APIError, match="stopped unexpectedly"):
            await read_into(seen, stream)
    said = [event.delta for event in seen if isinstance(event, ResponseTextDeltaEvent)]
    assert said == ["One, "]


async def test_closing_a_stream_frees_the_slot() -> None:
    server = serving(STARTED, *text(0, "One"), Gate(asyncio.Event()))
    async with talking(server) as client:
        stream = await client.responses.create(model="demo", input="Hello", stream=True)
        await anext(aiter(stream))
        await stream.close()
        await server.engine.reaches(lambda engine: engine.running == 0)
    assert server.engine.cancelled == 1


async def test_the_client_without_async_works_too() -> None:
    def talk(url: str) -> list[str]:
        with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            whole = client.responses.create(model="demo", input="Hello")
            with client.responses.stream(model="demo", input="Hello") as stream:
                streamed = stream.get_final_response()
        return [whole.output_text, streamed.output_text]

    server = serving(*SCRIPTS["text"])
    async with asyncio.timeout(LIMIT), listening(server.app) as url:
        assert await asyncio.to_thread(talk, url) == ["Hello there."] * 2
