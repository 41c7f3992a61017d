"""OpenAI's Agents SDK with a forced tool, against a live server on a random-weight model."""

from collections.abc import Iterator

import agents
import openai
import pytest

from tests.e2e.support import serve
from tests.tiny_model import make_tiny_model

TOML = """
[models.model]
source = "./model"
"""
QUESTION = "What is the weather in Oslo?"
QUIET = agents.RunConfig(tracing_disabled=True)
"""Without the traces that the SDK sends home."""
FORCED = agents.ModelSettings(
    tool_choice="required",
    parallel_tool_calls=False,
    max_tokens=200,
    temperature=0.0,
    extra_body={"chat_template_kwargs": {"enable_thinking": False}},
)


@agents.function_tool
def get_weather(city: str, days: int) -> str:
    """The weather of a city, so many days ahead."""
    return f"fine for {days} days in {city}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("agents")
    make_tiny_model(folder / "model")
    with serve(folder, toml=TOML) as served:
        yield f"http://127.0.0.1:{served.port}/v1"


async def run_agent(url: str, *, live: bool) -> agents.RunResult | agents.RunResultStreaming:
    """What comes of an agent that has to use its one tool."""
    # Without certificates to load, which takes longer than the test.
    plain = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=plain
    ) as client:
        agent = agents.Agent(
            "meteorologist",
            model=agents.OpenAIChatCompletionsModel("model", client),
            model_settings=FORCED,
            tools=[get_weather],
            # A random model would never come to an answer.
            tool_use_behavior="stop_on_first_tool",
        )
        if not live:
            return await agents.Runner.run(agent, QUESTION, run_config=QUIET)
        streamed = agents.Runner.run_streamed(agent, QUESTION, run_config=QUIET)
        async for _ in streamed.stream_events():
            pass
        return streamed


@pytest.mark.parametrize("live", [False, True], ids=["whole", "streamed"])
async def test_an_agent_runs_the_tool_that_is_forced(url: str, live: bool) -> None:
    result = await run_agent(url, live=live)
    kinds = [item.type for item in result.new_items]
    assert kinds == ["tool_call_item", "tool_call_output_item"]
    # Arguments that the tool's schema does not allow would make this the SDK's complaint.
    assert isinstance(result.final_output, str)
    assert result.final_output.startswith("fine for ")
