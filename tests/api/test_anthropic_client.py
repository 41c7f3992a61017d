"""Anthropic's own client against the real listener: what its users see."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_async_tool
from anthropic.types import MessageParam, TextBlock, ThinkingBlock, ToolUseBlock
from anthropic.types.beta import BetaMessageParam
from pydantic import BaseModel

from mlxd.engine.scripted.engine import Gate, ScriptItem, agent
from mlxd.errors import ContextTooLong, EngineCrashed, MlxdError, QueueFull
from mlxd.messages import GenerateRequest, JsonSchemaOutput, ToolResult
from tests.api.support import LIMIT, Front, front, listening, raising, settings_for
from tests.scripts import SCRIPTS, STARTED, call, finished, text

pytestmark = pytest.mark.client

MESSAGES: list[MessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
ADAPTIVE: Any = {"type": "adaptive"}


@asynccontextmanager
async def talking(server: Front, key: str = "any") -> AsyncIterator[AsyncAnthropic]:
    """The client, which does not retry and does not wait."""
    async with asyncio.timeout(LIMIT), listening(server.app) as url:
        client = AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=LIMIT)
        async with client:
            yield client


async def test_a_whole_answer_is_read() -> None:
    async with talking(front(*SCRIPTS["reasoning_then_text"])) as client:
        answer = await client.messages.create(
            model="demo", max_tokens=100, messages=MESSAGES, thinking=ADAPTIVE
        )
    thought, said = answer.content
    assert isinstance(thought, ThinkingBlock)
    assert (thought.thinking, thought.signature) == ("The user greets.", "bWx4ZA==")
    assert isinstance(said, TextBlock)
    assert (said.text, answer.stop_reason, answer.model) == ("Hello.", "end_turn", "demo")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 9)
    assert answer._request_id == f"req_{answer.id.removeprefix('msg_')}"


async def test_the_stream_helper_puts_a_message_together() -> None:
    async with (
        talking(front(*SCRIPTS["reasoning_then_tool_call"])) as client,
        client.messages.stream(
            model="demo", max_tokens=100, messages=MESSAGES, tools=[WEATHER], thinking=ADAPTIVE
        ) as stream,
    ):
        kinds = [event.type async for event in stream]
        answer = await stream.get_final_message()
    thought, used = answer.content
    assert isinstance(thought, ThinkingBlock)
    assert thought.thinking == "I need the weather."
    assert isinstance(used, ToolUseBlock)
    assert (used.name, used.input) == ("get_weather", {})
    assert answer.stop_reason == "tool_use"
    assert answer.usage.cache_read_input_tokens == 8
    assert (kinds.count("thinking"), kinds.count("signature")) == (2, 1)
    assert kinds[-1] == "message_stop"


async def test_text_is_streamed_as_it_comes() -> None:
    gate = asyncio.Event()
    words = text(0, "One, ", "two")
    server = front(STARTED, next(words), next(words), Gate(gate), *words)
    async with (
        talking(server) as client,
        client.messages.stream(model="demo", max_tokens=9, messages=MESSAGES) as stream,
    ):
        pieces = aiter(stream.text_stream)
        assert await anext(pieces) == "One, "
        gate.set()
        assert [piece async for piece in pieces] == ["two"]


def round_trip(request: GenerateRequest) -> Iterator[ScriptItem]:
    """Calls a tool twice at once, then answers with what it said."""
    yield STARTED
    results = [part for part in request.messages[-1].parts if isinstance(part, ToolResult)]
    if results:
        said = [getattr(part, "text", "") for result in results for part in result.parts]
        yield from text(0, f"It is {' and '.join(said)}.")
        yield finished()
    else:
        yield from call(0, "get_weather", '{"city": "Paris"}')
        yield from call(1, "get_weather", '{"city": "Rome"}')
        yield finished("tool_calls")


async def test_a_tool_loop_goes_round() -> None:
    async with talking(front(play=round_trip)) as client:
        first = await client.messages.create(
            model="demo", max_tokens=100, messages=MESSAGES, tools=[WEATHER]
        )
        used = [block for block in first.content if isinstance(block, ToolUseBlock)]
        results: Any = [
            {"type": "tool_result", "tool_use_id": block.id, "content": f"sun in {block.input}"}
            for block in used
        ]
        second = await client.messages.create(
            model="demo",
            max_tokens=100,
            messages=[
                *MESSAGES,
                {"role": "assistant", "content": first.content},
                {"role": "user", "content": results},
            ],
            tools=[WEATHER],
        )
    (said,) = second.content
    assert isinstance(said, TextBlock)
    assert said.text == "It is sun in {'city': 'Paris'} and sun in {'city': 'Rome'}."


@beta_async_tool
async def get_weather(city: str) -> str:
    """The weather.

    Args:
        city: Where.
    """
    return f"sun in {city}"


BETA_MESSAGES: list[BetaMessageParam] = [{"role": "user", "content": "Hello"}]


async def test_the_tool_runner_sends_everything_once_threads_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = front(play=round_trip)
    async with talking(server) as client:
        runner = client.beta.messages.tool_runner(
            model="demo", max_tokens=100, messages=BETA_MESSAGES, tools=[get_weather]
        )
        with caplog.at_level("INFO", "mlxd.request"):
            last = await runner.until_done()
    assert last.content[0].to_dict()["text"] == "It is sun in Paris and sun in Rome."
    assert [record.getMessage().count("status=400") for record in caplog.records] == [1, 0, 0]
    first, second = server.engine.requests
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
    assert first.tools == second.tools
    assert second.messages[0] == first.messages[0]


async def test_the_tool_runner_streams() -> None:
    async with talking(front(play=round_trip)) as client:
        runner = client.beta.messages.tool_runner(
            model="demo", max_tokens=100, messages=BETA_MESSAGES, tools=[get_weather], stream=True
        )
        answers = [await stream.get_final_message() async for stream in runner]
    assert [answer.stop_reason for answer in answers] == ["tool_use", "end_turn"]


async def test_tokens_are_counted() -> None:
    async with talking(front()) as client:
        counted = await client.messages.count_tokens(
            model="demo", messages=MESSAGES, system="Be brief.", tools=[WEATHER]
        )
        assert counted.input_tokens > 0
        beta = await client.beta.messages.count_tokens(
            model="demo", messages=[{"role": "user", "content": "Hello"}]
        )
    assert 0 < beta.input_tokens < counted.input_tokens


class City(BaseModel):
    name: str
    people: int


async def test_an_answer_is_parsed_by_its_schema() -> None:
    server = front(play=agent)
    async with talking(server) as client:
        answer = await client.messages.parse(
            model="demo", max_tokens=100, messages=MESSAGES, output_format=City
        )
    assert isinstance(answer.parsed_output, City)
    output = server.engine.requests[0].output
    assert isinstance(output, JsonSchemaOutput)
    assert set(json.loads(output.schema)["properties"]) == {"name", "people"}


async def test_models_are_listed_and_found() -> None:
    async with talking(front()) as client:
        assert [model.id async for model in client.models.list()] == ["demo", "gpt-4o"]
        assert (await client.models.retrieve("demo")).display_name == "demo"
        with pytest.raises(anthropic.NotFoundError):
            await client.models.retrieve("nobody")


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (ContextTooLong(9, 4), anthropic.BadRequestError, "prompt is too long: 9 tokens > 4 maxi"),
        (QueueFull(limit=64), anthropic.InternalServerError, "queue of 64 requests is full"),
        (EngineCrashed("gone"), anthropic.InternalServerError, "stopped unexpectedly"),
    ],
)
@pytest.mark.parametrize("live", [False, True])
async def test_refusals_are_exceptions_with_type_and_message(
    error: MlxdError, raised: type[anthropic.APIStatusError], message: str, live: bool
) -> None:
    async with talking(front(play=raising(error))) as client:
        with pytest.raises(raised, match=message) as caught:
            await client.messages.create(model="demo", max_tokens=9, messages=MESSAGES, stream=live)
    assert caught.value.request_id is not None
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["request_id"] == caught.value.request_id


async def test_a_wrong_key_is_an_authentication_error() -> None:
    server = front(settings=settings_for(api_keys=("right",)))
    async with talking(server, key="wrong") as client:
        with pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"):
            await client.messages.create(model="demo", max_tokens=9, messages=MESSAGES)


async def test_an_error_inside_a_stream_is_an_exception_after_what_came_before() -> None:
    async with (
        talking(front(*SCRIPTS["failure_inside_a_block"])) as client,
        client.messages.stream(model="demo", max_tokens=9, messages=MESSAGES) as stream,
    ):
        pieces = aiter(stream.text_stream)
        assert await anext(pieces) == "One, "
        with pytest.raises(anthropic.APIStatusError, match="stopped unexpectedly"):
            await anext(pieces)


async def test_a_busy_server_is_asked_again() -> None:
    attempts = iter([QueueFull(retry_after=0.01, limit=1), None])

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        if error := next(attempts):
            raise error
        yield from SCRIPTS["text"]

    async with talking(front(play=play)) as client:
        answer = await client.with_options(max_retries=1).messages.create(
            model="demo", max_tokens=9, messages=MESSAGES
        )
    assert answer.stop_reason == "end_turn"


async def test_closing_a_stream_frees_the_slot() -> None:
    server = front(STARTED, *text(0, "One"), Gate(asyncio.Event()))
    async with talking(server) as client:
        stream = await client.messages.create(
            model="demo", max_tokens=9, messages=MESSAGES, stream=True
        )
        await anext(aiter(stream))
        await stream.close()
        await server.engine.reaches(lambda engine: engine.running == 0)
    assert server.engine.cancelled == 1


async def test_the_client_without_async_works_too() -> None:
    server = front(*SCRIPTS["text"])

    def talk(url: str) -> list[str]:
        with Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            whole = client.messages.create(model="demo", max_tokens=9, messages=MESSAGES)
            with client.messages.stream(model="demo", max_tokens=9, messages=MESSAGES) as stream:
                streamed = "".join(stream.text_stream)
        (said,) = whole.content
        assert isinstance(said, TextBlock)
        return [said.text, streamed]

    async with asyncio.timeout(LIMIT), listening(server.app) as url:
        assert await asyncio.to_thread(talk, url) == ["Hello there."] * 2


async def test_no_input_comes_out_of_a_stream_whose_call_is_broken() -> None:
    broken = call(0, "get_weather", '{"city": "she said ', '"Oslo" twice"}')
    server = front(STARTED, *broken, finished("tool_calls"))
    ended: list[str] = []
    async with talking(server) as client:

        async def helper() -> None:
            async with client.messages.stream(
                model="demo", max_tokens=100, messages=MESSAGES, tools=[WEATHER]
            ) as stream:
                ended.extend([event.type async for event in stream if event.type in ends])

        async def plain() -> None:
            stream = await client.messages.create(
                model="demo", max_tokens=100, messages=MESSAGES, tools=[WEATHER], stream=True
            )
            ended.extend([event.type async for event in stream if event.type in ends])

        ends = ("content_block_stop", "message_delta", "message_stop")
        for read in (helper, plain):
            with pytest.raises(anthropic.APIStatusError, match="get_weather"):
                await read()
    assert ended == []
