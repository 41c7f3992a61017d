"""OpenAI's own client against the real listener: what its users see."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from mlxd.api.openai.errors import error_body
from mlxd.engine.scripted.engine import Gate, ScriptItem
from mlxd.errors import ContextTooLong, EngineCrashed, MlxdError, QueueFull
from mlxd.events import Failed
from mlxd.messages import GenerateRequest, ToolResult
from tests.api.clients import talking
from tests.api.support import LIMIT, front, listening, raising, settings_for
from tests.scripts import SCRIPTS, STARTED, call, finished, reasoning, text

pytestmark = pytest.mark.client

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


async def test_a_whole_answer_is_read() -> None:
    async with talking(front(*SCRIPTS["reasoning_then_text"])) as client:
        answer = await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4
    extra = answer.choices[0].message.model_extra
    assert extra is not None
    assert extra["reasoning_content"] == extra["reasoning"] == "The user greets."


async def test_a_stream_is_read_with_usage_at_its_end() -> None:
    async with talking(front(*SCRIPTS["text"])) as client:
        stream = await client.chat.completions.create(
            model="demo", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == "Hello there."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 19


async def test_the_stream_helper_puts_tool_calls_together() -> None:
    async with (
        talking(front(*SCRIPTS["two_tool_calls"])) as client,
        client.chat.completions.stream(model="demo", messages=MESSAGES, tools=[WEATHER]) as stream,
    ):
        kinds = [event.type async for event in stream]
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.arguments for call in calls] == ['{"city":"Paris"}', '{"zone":"CET"}']
    assert answer.choices[0].finish_reason == "tool_calls"
    assert kinds.count("tool_calls.function.arguments.done") == 2


def agent(request: GenerateRequest) -> Iterator[ScriptItem]:
    """Calls a tool, then answers with what it said."""
    yield STARTED
    results = [part for part in request.messages[-1].parts if isinstance(part, ToolResult)]
    if results:
        (said,) = results[0].parts
        yield from text(0, f"It is {getattr(said, 'text', '')}.")
        yield finished()
    else:
        yield from reasoning(0, "I need a tool.")
        yield from call(1, "get_weather", "{}")
        yield finished("tool_calls")


async def test_a_tool_loop_goes_round() -> None:
    async with talking(front(play=agent)) as client:
        first = await client.chat.completions.create(
            model="demo", messages=MESSAGES, tools=[WEATHER]
        )
        message = first.choices[0].message
        assert message.tool_calls is not None
        history: Any = [
            *MESSAGES,
            message.model_dump(),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"},
        ]
        second = await client.chat.completions.create(
            model="demo", messages=history, tools=[WEATHER]
        )
    assert second.choices[0].message.content == "It is sunny."


async def test_logprobs_and_several_answers_are_read() -> None:
    async with talking(front(*SCRIPTS["logprobs"])) as client:
        answer = await client.chat.completions.create(
            model="demo", messages=MESSAGES, n=2, logprobs=True, top_logprobs=2
        )
    assert [choice.index for choice in answer.choices] == [0, 1]
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [token.logprob for token in logprobs.content] == [-0.25, -0.5, -9999.0]
    assert bytes(logprobs.content[2].bytes or []).decode() == " \u2713"
    assert [top.token for top in logprobs.content[0].top_logprobs] == ["Hel", "Good"]


async def test_headers_are_there_for_who_looks() -> None:
    async with talking(front(*SCRIPTS["text"])) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=MESSAGES, user="ann"
        )
        answer = raw.parse()
    assert isinstance(answer, ChatCompletion)
    assert answer.model == "gpt-4o"
    assert raw.headers["x-mlxd-model"] == "demo"
    assert raw.headers["x-mlxd-ignored"] == "user"
    assert raw.request_id == raw.headers["x-request-id"] == answer._request_id


async def test_models_are_listed_and_found() -> None:
    async with talking(front()) as client:
        assert [model.id async for model in client.models.list()] == ["demo", "gpt-4o"]
        assert (await client.models.retrieve("demo")).owned_by == "mlxd"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody")


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
    async with talking(front(play=raising(error))) as client:
        with pytest.raises(raised) as caught:
            await client.chat.completions.create(model="demo", messages=MESSAGES, stream=live)
    assert caught.value.code == code
    words = error_body(error, prompt="messages")["error"]["message"]
    assert words in caught.value.message


async def test_a_wrong_field_is_a_bad_request_that_names_it() -> None:
    async with talking(front()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="demo", messages=MESSAGES, temperature=9)
    assert (caught.value.param, caught.value.code) == ("temperature", "decimal_above_max_value")


async def test_a_wrong_key_is_an_authentication_error() -> None:
    server = front(settings=settings_for(api_keys=("right",)))
    async with talking(server, key="wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_an_error_inside_a_stream_is_an_exception_after_what_came_before() -> None:
    async with talking(front(*SCRIPTS["failure_inside_a_block"])) as client:
        stream = await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        chunks = [await anext(aiter(stream)) for _ in range(2)]
        with pytest.raises(openai.APIError, match="stopped unexpectedly"):
            await anext(aiter(stream))
    assert chunks[1].choices[0].delta.content == "One, "


async def test_a_retry_finds_the_engine_that_came_back() -> None:
    attempts = iter([QueueFull(retry_after=0.01, limit=1), None])

    def play(request: GenerateRequest) -> Iterator[ScriptItem]:
        if error := next(attempts):
            raise error
        yield from SCRIPTS["text"]

    async with talking(front(play=play)) as client:
        answer = await client.with_options(max_retries=1).chat.completions.create(
            model="demo", messages=MESSAGES
        )
    assert answer.choices[0].message.content == "Hello there."


async def test_closing_a_stream_frees_the_slot() -> None:
    server = front(STARTED, *text(0, "One"), Gate(asyncio.Event()))
    async with talking(server) as client:
        stream = await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await server.engine.reaches(lambda engine: engine.running == 0)
    assert server.engine.cancelled == 1


async def test_giving_up_on_a_whole_answer_frees_the_slot() -> None:
    server = front(STARTED, Gate(asyncio.Event()))
    async with talking(server) as client:
        hurried = client.with_options(timeout=openai.Timeout(None, read=1.0))
        with pytest.raises(openai.APITimeoutError):
            await hurried.chat.completions.create(model="demo", messages=MESSAGES)
        await server.engine.reaches(lambda engine: engine.running == 0)
    assert server.engine.cancelled == 1


async def test_the_client_without_async_works_too() -> None:
    server = front(*SCRIPTS["text"])

    def talk(url: str) -> list[str]:
        with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            whole = client.chat.completions.create(model="demo", messages=MESSAGES)
            stream = client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        return [whole.choices[0].message.content or "", "".join(pieces)]

    async with asyncio.timeout(LIMIT), listening(server.app) as url:
        assert await asyncio.to_thread(talk, url) == ["Hello there."] * 2


async def test_a_body_over_the_limit_is_refused_before_it_is_sent_whole() -> None:
    server = front(settings=settings_for(max_body=100_000))
    long: Any = [{"role": "user", "content": "x" * 2_000_000}]
    async with talking(server) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="demo", messages=long)
    assert caught.value.status_code == 413


async def test_a_stream_is_written_piece_by_piece_as_it_comes() -> None:
    gate = asyncio.Event()
    server = front(
        STARTED, *text(0, "One"), Gate(gate), *text(1, "two"), Failed(QueueFull().report())
    )
    async with asyncio.timeout(LIMIT), listening(server.app) as url, httpx.AsyncClient() as client:
        body = {"messages": MESSAGES, "stream": True}
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            async for line in lines:
                if "One" in line:
                    gate.set()
                if line.startswith("data: {"):
                    last = json.loads(line.removeprefix("data: "))
    assert last["error"]["code"] == "queue_full"
