"""OpenAI's Agents SDK against the real listener: whole loops of model and tools."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import agents
import openai
from openai.types.responses import (
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseTextDeltaEvent,
)

from mlxd.engine.scripted import ScriptItem
from mlxd.messages import GenerateRequest, Message, Text, ToolCall, ToolResult
from tests.api.support import LIMIT, Front, front, listening
from tests.scripts import STARTED, call, finished, reasoning, text

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
async def assisted(server: Front) -> AsyncIterator[agents.Agent]:
    """An agent whose model is that server."""
    # Without certificates to load, which takes longer than the tests.
    plain = openai.DefaultAsyncHttpxClient(verify=False, timeout=LIMIT)
    async with (
        asyncio.timeout(LIMIT),
        listening(server.app) as url,
        openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="any", max_retries=0, http_client=plain
        ) as client,
    ):
        model = agents.OpenAIChatCompletionsModel("demo", client)
        yield agents.Agent(
            "meteorologist", instructions="Be brief.", model=model, tools=[get_weather]
        )


async def test_an_agent_runs_its_tools_and_answers() -> None:
    server = front(play=meteorologist)
    async with assisted(server) as agent:
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


async def test_a_streamed_agent_sees_every_piece_and_says_the_same() -> None:
    server = front(play=meteorologist)
    thought, arguments, said = [], [], []
    async with assisted(server) as agent:
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
