"""Messages requests: what the engine hears of them."""

from typing import Any

import pytest

from mlxd.messages import (
    GenerateRequest,
    JsonSchemaOutput,
    Message,
    ReasoningOptions,
    Sampling,
    Text,
    TextOutput,
)
from tests.api.messages import CACHED, assistant, heard, ignored, text, user


async def test_a_plain_request_leaves_everything_but_thinking_to_the_defaults() -> None:
    request = await heard()
    assert request == GenerateRequest(
        id="req_0123456789abcdef0123456789abcdef",
        model="demo",
        messages=(Message("user", (Text("Hello"),)),),
        max_tokens=100,
        reasoning=ReasoningOptions(enabled=False),
        source=request.source,
    )
    assert request.source.dialect == "anthropic"


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({"temperature": 0}, Sampling(temperature=0.0)),
        ({"temperature": 1, "top_p": 0.5, "top_k": 40}, Sampling(1.0, 0.5, 40)),
        ({"top_p": 0, "top_k": 5}, Sampling(top_k=1)),
        ({"top_k": 0}, Sampling(top_k=0)),
        ({"top_k": 10**9}, Sampling(top_k=0)),
        (dict.fromkeys(["temperature", "top_p", "top_k"]), Sampling()),
        # Other vendors' fields, which are ignored here.
        ({"min_p": 0.5, "seed": "x", "logit_bias": {"1": 2}}, Sampling()),
    ],
)
async def test_sampling_is_honoured(fields: dict[str, Any], sampling: Sampling) -> None:
    assert (await heard(**fields)).sampling == sampling


@pytest.mark.parametrize(("asked", "limit"), [(1, 1), (32_000, 32_000), (10**30, 2**31 - 1)])
async def test_max_tokens_is_a_limit_however_large(asked: int, limit: int) -> None:
    assert (await heard(max_tokens=asked)).max_tokens == limit


@pytest.mark.parametrize(
    ("asked", "stops"),
    [(None, ()), ([], ()), (["a", " ", "", "x" * 256], ("a", " ", "x" * 256))],
)
async def test_stop_sequences_are_honoured(asked: Any, stops: tuple[str, ...]) -> None:
    assert (await heard(stop_sequences=asked)).stop == stops


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "schema": SCHEMA}
ENFORCED = JsonSchemaOutput('{"type":"object","properties":{"a":{"type":"integer"}}}', strict=True)


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({}, TextOutput()),
        ({"output_config": {}}, TextOutput()),
        ({"output_config": {"format": None}, "output_format": None}, TextOutput()),
        ({"output_config": {"format": FORMAT}}, ENFORCED),
        ({"output_format": FORMAT}, ENFORCED),
        (
            {"output_config": {"format": FORMAT}, "output_format": {**FORMAT, "schema": {}}},
            ENFORCED,
        ),
    ],
)
async def test_a_format_is_asked_for_in_its_newer_or_older_place(
    fields: dict[str, Any], output: Any
) -> None:
    assert (await heard(**fields)).output == output


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"thinking": {"type": "disabled"}}, ReasoningOptions(enabled=False)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, ReasoningOptions()),
        ({"thinking": {"type": "between_tools"}}, ReasoningOptions()),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 32_000}, "max_tokens": 32_000},
            ReasoningOptions(enabled=True, budget=32_000),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 10**30, "display": "updates"}},
            ReasoningOptions(enabled=True, budget=2**31 - 1),
        ),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            ReasoningOptions(effort="high"),
        ),
        ({"output_config": {"effort": "max"}}, ReasoningOptions(enabled=False, effort="max")),
    ],
)
async def test_thinking_is_as_asked_for(fields: dict[str, Any], options: ReasoningOptions) -> None:
    assert (await heard(**fields)).reasoning == options


async def test_fields_that_change_nothing_are_ignored_and_named() -> None:
    names = await ignored(
        metadata={"user_id": "ann"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        service_tier="auto",
        betas=["x"],
        container=None,
        cache_control=CACHED,
        stop_sequences=[""],
        system=[text("Hi", cache_control=CACHED, colour="blue")],
        messages=[
            user(text("a", citations=[{"type": "char_location"}])),
            assistant(
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "tool_use", "id": "x", "name": "f", "input": {"q": 1}, "caller": None},
            ),
            user({"type": "container_upload", "file_id": "file_1"}, text("Go on.")),
        ],
        tools=[
            {"name": "f", "input_schema": {}, "input_examples": [], "eager_input_streaming": True},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        ],
    )
    assert sorted(names) == [
        *("betas", "context_management", "messages.content.citations"),
        *("messages.content.container_upload", "messages.content.server_tool_use"),
        *("messages.content.web_search_tool_result", "metadata"),
        *("stop_sequences", "system.colour", "tools.input_examples", "tools.web_search_20250305"),
    ]


async def test_nothing_is_named_when_nothing_was_ignored() -> None:
    assert await ignored(temperature=1, tools=[], stop_sequences=None, thread=None) == [""]


async def test_a_string_and_its_block_are_the_same_request() -> None:
    one = await heard(system="Be brief.", messages=[user("Hi")])
    other = await heard(
        system=[text("Be brief.", cache_control=CACHED)],
        messages=[user(text("Hi", cache_control=CACHED))],
    )
    assert one == other
