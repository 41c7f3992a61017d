"""OpenAI's clients for Azure against the real listener, in each way that Azure is written to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI
from openai.types.chat import ChatCompletionMessageParam

from mlxd.api.http.framework import Tuning
from mlxd.config.settings import AzureSettings, ModelSettings, ServerSettings, Settings
from mlxd.engine.scripted.engine import Gate
from mlxd.errors import RateLimited
from tests.api.support import DEMO, LIMIT, OTHER, Front, front, listening, raising, settings_for
from tests.scripts import SCRIPTS, STARTED

pytestmark = pytest.mark.client

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
VERSION = "2025-04-01-preview"
Opening = Callable[[str, openai.DefaultAsyncHttpxClient], AsyncOpenAI]


def classic(url: str, http: openai.DefaultAsyncHttpxClient) -> AsyncOpenAI:
    return AsyncAzureOpenAI(
        azure_endpoint=url, api_key="right", api_version=VERSION, max_retries=0, http_client=http
    )


def classic_with_deployment(url: str, http: openai.DefaultAsyncHttpxClient) -> AsyncOpenAI:
    return AsyncAzureOpenAI(
        azure_endpoint=url,
        azure_deployment="prod",
        api_key="right",
        api_version=VERSION,
        max_retries=0,
        http_client=http,
    )


def with_token(url: str, http: openai.DefaultAsyncHttpxClient) -> AsyncOpenAI:
    return AsyncAzureOpenAI(
        azure_endpoint=url,
        azure_ad_token="right",
        api_version=VERSION,
        max_retries=0,
        http_client=http,
    )


def version_one(url: str, http: openai.DefaultAsyncHttpxClient) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{url}/openai/v1/", api_key="right", max_retries=0, http_client=http
    )


every_way = pytest.mark.parametrize(
    "opening", [classic, classic_with_deployment, with_token, version_one]
)


def deploying(*script: Any) -> Front:
    """A server with a key and the deployment `prod` of one of its two models."""
    settings = Settings(
        models={"demo": ModelSettings(source="demo"), "other": ModelSettings(source="demo")},
        server=ServerSettings(api_keys=("right",), unknown_model="refuse"),
        azure=AzureSettings(deployments={"prod": "other"}),
    )
    return front(
        *(script or SCRIPTS["text"]), settings=settings, models=(DEMO, OTHER), tuning=Tuning()
    )


@asynccontextmanager
async def talking(server: Front, opening: Opening = classic) -> AsyncIterator[AsyncOpenAI]:
    """The client, which does not retry and does not wait."""
    # Without certificates to load, which takes longer than the tests.
    plain = openai.DefaultAsyncHttpxClient(verify=False, timeout=LIMIT)
    async with asyncio.timeout(LIMIT), listening(server.app) as url, opening(url, plain) as client:
        yield client


@every_way
async def test_answers_are_read_whole_and_streamed(opening: Opening) -> None:
    server = deploying()
    async with talking(server, opening) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="prod", messages=MESSAGES
        )
        stream = await client.chat.completions.create(model="prod", messages=MESSAGES, stream=True)
        said = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert raw.parse().choices[0].message.content == "".join(said) == "Hello there."
    assert raw.headers["x-mlxd-model"] == "other"
    assert raw.headers["apim-request-id"] == raw.request_id
    assert [request.source.dialect for request in server.heard()] == ["azure", "azure"]


@every_way
async def test_tool_calls_are_put_together(opening: Opening) -> None:
    tool: Any = {"type": "function", "function": {"name": "get_weather"}}
    async with talking(deploying(*SCRIPTS["two_tool_calls"]), opening) as client:
        stream = client.chat.completions.stream(model="prod", messages=MESSAGES, tools=[tool])
        async with stream as events:
            answer = await events.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]


@every_way
async def test_models_are_listed_and_found(opening: Opening) -> None:
    async with talking(deploying(), opening) as client:
        assert [model.id async for model in client.models.list()] == ["prod"]
        assert (await client.models.retrieve("prod")).id == "prod"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("demo")


@every_way
async def test_responses_go_on_from_each_other(opening: Opening) -> None:
    server = deploying()
    async with talking(server, opening) as client:
        first = await client.responses.create(model="prod", input="Hello")
        async with client.responses.stream(
            model="prod", input="More", previous_response_id=first.id
        ) as stream:
            second = await stream.get_final_response()
        assert (await client.responses.retrieve(second.id)).output_text == "Hello there."
        listed = client.responses.input_items.list(second.id, limit=2, order="asc")
        roles = [getattr(item, "role", None) async for item in listed]
        counted = await client.responses.input_tokens.count(model="prod", input="Hello")
        await client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(second.id)
    assert (second.model, second.previous_response_id) == ("prod", first.id)
    assert roles == ["user", "assistant", "user"]
    assert counted.input_tokens > 0
    assert [request.model for request in server.heard()] == ["other", "other"]


@every_way
async def test_a_response_in_the_background_is_cancelled(opening: Opening) -> None:
    server = deploying(STARTED, Gate(asyncio.Event()))
    async with talking(server, opening) as client:
        made = await client.responses.create(model="prod", input="Hello", background=True)
        assert (await client.responses.cancel(made.id)).status == "cancelled"
        await server.engine.reaches(lambda engine: engine.running == 0)


@every_way
async def test_conversations_are_kept(opening: Opening) -> None:
    async with talking(deploying(), opening) as client:
        made = await client.conversations.create(metadata={"topic": "x"})
        await client.responses.create(model="prod", input="Hello", conversation=made.id)
        items = [item.type async for item in client.conversations.items.list(made.id)]
        await client.conversations.delete(made.id)
    assert items == ["message", "message"]


@pytest.mark.parametrize("opening", [classic, with_token, version_one])
async def test_an_unknown_deployment_is_not_found(opening: Opening) -> None:
    async with talking(deploying(), opening) as client:
        with pytest.raises(openai.NotFoundError, match="Available: prod") as caught:
            await client.chat.completions.create(model="demo", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError, match="Available: prod"):
            await client.responses.create(model="demo", input="Hello")
    assert (caught.value.code, caught.value.param) == ("DeploymentNotFound", None)


@every_way
async def test_a_wrong_key_is_an_authentication_error(opening: Opening) -> None:
    server = front(settings=settings_for(api_keys=("another",)))
    async with talking(server, opening) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert caught.value.code == "401"


async def test_a_wrong_field_is_a_bad_request_that_names_it() -> None:
    async with talking(deploying()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="prod", messages=MESSAGES, temperature=9)
    assert (caught.value.param, caught.value.code) == ("temperature", "decimal_above_max_value")


async def test_a_rate_limit_is_an_error_of_that_name() -> None:
    async with talking(front(play=raising(RateLimited()))) as client:
        with pytest.raises(openai.RateLimitError, match="Please retry after 1 seconds") as caught:
            await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert caught.value.code == "429"


async def test_what_is_not_served_is_not_found() -> None:
    async with talking(deploying()) as client:
        with pytest.raises(openai.NotFoundError, match="Resource not found") as caught:
            await client.embeddings.create(model="prod", input="Hello")
    assert caught.value.code == "404"


async def test_the_client_without_async_works_too() -> None:
    def talk(url: str) -> str:
        with AzureOpenAI(
            azure_endpoint=url, api_key="right", api_version=VERSION, max_retries=0
        ) as client:
            answer = client.chat.completions.create(model="prod", messages=MESSAGES)
        return answer.choices[0].message.content or ""

    server = deploying()
    async with asyncio.timeout(LIMIT), listening(server.app) as url:
        assert await asyncio.to_thread(talk, url) == "Hello there."
