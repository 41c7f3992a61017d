"""OpenAI's Agents SDK against the real listener: whole loops of model and tools."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import agents
import openai
import pytest
from openai.types import Reasoning
from openai.types.responses import (
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseTextDeltaEvent,
)

from mlxd.api.http.framework import Tuning
from mlxd.engine.scripted.engine import ScriptItem
from mlxd.messages import GenerateRequest, Message, Text, ToolCall, ToolResult
from tests.api.support import LIMIT, Front, front, listening
from tests.scripts import STARTED, call, finished, reasoning, text

pytestmark = pytest.mark.client

Api = type[agents.OpenAIChatCompletionsModel] | type[agents.OpenAIResponsesModel]
every_api = pytest.mark.parametrize(
    "api",
    [agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel],
    ids=["chat", "responses"],
)
QUIET = agents.RunConfig(tracing_disabled=True)
"""Without the traces that the SDK sends home."""
QUESTION = "How is the weather in Paris and in Oslo?"
ANSWER = "It is 21 degrees in Paris, 14 degrees in Oslo."


@agents.function_tool
def get_weather(city: str, days: int) -> str:
    """The weather of a city, so many days ahead."""
    return f"{20 + days if city == 'Paris' else 12 + days} degrees in {city}"


def meteorologist(request: GenerateRequest) -> Iterator[ScriptItem]:
    """Asks for the weather of two cities, then tells what the tool said."""
    results = [part for part in _parts(request.messages) if isinstance(part, ToolResult)]
    yield STARTED
    if results:
        said = [part.text for each in results for part in each.parts if isinstance(part, Text)]
        yield from text(0, "It is ", ", ".join(said), ".")
        yield finished()
    else:
        yield from reasoning(0, "I need", " a tool.")
        yield from text(1, "Let me look.")
        yield from call(2, "get_weather", '{"city":"Pa', 'ris","days":1}')
        yield from call(3, "get_weather", '{"city":"Oslo","days":2}')
        yield finished("tool_calls")


def _parts(messages: tuple[Message, ...]) -> list[object]:
    return [part for message in messages for part in message.parts]


@asynccontextmanager
async def assisted(server: Front, api: Api) -> AsyncIterator[agents.Agent]:
    """An agent whose model is that server, over one of its APIs."""
    # Without certificates to load, which takes longer than the tests.
    plain = openai.DefaultAsyncHttpxClient(verify=False, timeout=LIMIT)
    async with (
        asyncio.timeout(LIMIT),
        listening(server.app) as url,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="any", max_retries=0, http_client=plain
        ) as client,
    ):
        yield agents.Agent(
            "meteorologist",
            instructions="Be brief.",
            model=api("demo", client),
            model_settings=agents.ModelSettings(reasoning=Reasoning(summary="auto")),
            tools=[get_weather],
        )


@every_api
async def test_an_agent_runs_its_tools_and_answers(api: Api) -> None:
    server = front(play=meteorologist, tuning=Tuning())
    async with assisted(server, api) as agent:
        result = await agents.Runner.run(agent, QUESTION, run_config=QUIET)
    assert result.final_output == ANSWER
    first, second = server.heard()
    assert [(tool.name, tool.strict) for tool in first.tools] == [("get_weather", True)]
    calls = [part for part in _parts(second.messages) if isinstance(part, ToolCall)]
    assert [each.arguments for each in calls] == [
        '{"city":"Paris","days":1}',
        '{"city":"Oslo","days":2}',
    ]
    results = [part for part in _parts(second.messages) if isinstance(part, ToolResult)]
    assert [each.call_id for each in results] == [each.id for each in calls]
    assert result.context_wrapper.usage.requests == 2
    assert result.context_wrapper.usage.input_tokens == 24


@every_api
async def test_a_streamed_agent_sees_every_piece_and_says_the_same(api: Api) -> None:
    server = front(play=meteorologist, tuning=Tuning())
    thought, arguments, said = [], [], []
    async with assisted(server, api) as agent:
        whole = await agents.Runner.run(agent, QUESTION, run_config=QUIET)
        plain = server.heard()
        result = agents.Runner.run_streamed(agent, QUESTION, run_config=QUIET)
        async for event in result.stream_events():
            match getattr(event, "data", None):
                case ResponseReasoningSummaryTextDeltaEvent(delta=delta):
                    thought.append(delta)
                case ResponseFunctionCallArgumentsDeltaEvent(delta=delta):
                    arguments.append(delta)
                case ResponseTextDeltaEvent(delta=delta):
                    said.append(delta)
    assert result.final_output == whole.final_output == ANSWER
    assert "".join(thought) == "I need a tool."
    assert "".join(arguments) == '{"city":"Paris","days":1}{"city":"Oslo","days":2}'
    assert "".join(said) == f"Let me look.{ANSWER}"
    assert [item.type for item in result.new_items] == [item.type for item in whole.new_items]
    assert [each.messages for each in server.heard()] == [each.messages for each in plain]


async def test_an_agent_goes_on_from_its_last_response() -> None:
    server = front(play=meteorologist, tuning=Tuning())
    async with assisted(server, agents.OpenAIResponsesModel) as agent:
        first = await agents.Runner.run(agent, QUESTION, run_config=QUIET)
        server.heard()
        again = await agents.Runner.run(
            agent, "And now?", run_config=QUIET, previous_response_id=first.last_response_id
        )
    assert again.final_output == ANSWER
    (request,) = server.heard()
    roles = [message.role for message in request.messages]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]


async def test_an_agent_keeps_its_history_in_a_conversation() -> None:
    server = front(play=meteorologist, tuning=Tuning())
    async with assisted(server, agents.OpenAIResponsesModel) as agent:
        model = agent.model
        assert isinstance(model, agents.OpenAIResponsesModel)
        session = agents.OpenAIConversationsSession(openai_client=model._client)
        await agents.Runner.run(agent, QUESTION, run_config=QUIET, session=session)
        items = await session.get_items()
        await agents.Runner.run(agent, "And now?", run_config=QUIET, session=session)
        await session.clear_session()
    kinds = [item.get("type") for item in items]
    assert kinds.count("function_call") == kinds.count("function_call_output") == 2
    assert server.heard()[-1].messages[-1] == Message("user", (Text("And now?"),))
