"""Anthropic's client on `mlxd serve` with its engine process and a tiny model of random weights."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic, BadRequestError
from anthropic.types import TextBlock

from tests.e2e.support import Served, serve
from tests.tiny_model import CONTEXT_LENGTH, make_tiny_model

TOML = """
[models.tiny]
source = "model"
"""
PATIENCE = 60.0
COUNTS = 25
"""As many as a client asks for at once to show what its context is made of."""
HELLO: Any = [{"role": "user", "content": "Hello"}]
ADAPTIVE: Any = {"type": "adaptive"}
TOOLS: Any = [
    {
        "name": "get_weather",
        "description": "The weather of a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("served")
    make_tiny_model(folder / "model")
    with serve(folder, toml=TOML) as running:
        yield running


@pytest.fixture
async def client(served: Served) -> AsyncIterator[AsyncAnthropic]:
    url = f"http://127.0.0.1:{served.port}"
    async with AsyncAnthropic(base_url=url, api_key="any", timeout=PATIENCE) as client:
        yield client


async def test_a_second_turn_is_read_from_where_the_first_ended(client: AsyncAnthropic) -> None:
    prompted: Any = {"model": "tiny", "system": "Be brief.", "tools": TOOLS, "thinking": ADAPTIVE}
    asked: Any = {**prompted, "max_tokens": 5}
    first = await client.messages.create(messages=HELLO, **asked)
    prompt = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    turns = [*HELLO, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "So?"}]
    second = await client.messages.create(messages=turns, **asked)
    assert (second.usage.cache_read_input_tokens or 0) >= prompt - 1
    counted = await client.messages.count_tokens(messages=HELLO, **prompted)
    assert counted.input_tokens == prompt


async def test_counts_are_quick_while_an_answer_is_written(client: AsyncAnthropic) -> None:
    async with client.messages.stream(model="tiny", max_tokens=500, messages=HELLO) as stream:
        await anext(aiter(stream))
        begun = time.monotonic()
        counts = await asyncio.gather(
            *(
                client.messages.count_tokens(model="tiny", messages=HELLO, tools=TOOLS)
                for _ in range(COUNTS)
            )
        )
        took = time.monotonic() - begun
    assert len({count.input_tokens for count in counts}) == 1
    # Far above the second that they take, as the machine may have other work; a queue of answers
    # would take longer than this.
    assert took < PATIENCE / 4


async def test_an_answer_keeps_to_its_schema(client: AsyncAnthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    answer = await client.messages.create(
        model="tiny",
        max_tokens=60,
        messages=HELLO,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    (said,) = answer.content
    assert isinstance(said, TextBlock)
    assert json.loads(said.text) in ({"ok": True}, {"ok": False})


async def test_a_prompt_that_is_too_long_says_by_how_much(client: AsyncAnthropic) -> None:
    long: Any = [{"role": "user", "content": "word " * CONTEXT_LENGTH}]
    message = rf"prompt is too long: \d+ tokens > {CONTEXT_LENGTH} maximum"
    with pytest.raises(BadRequestError, match=message):
        await client.messages.create(model="tiny", max_tokens=5, messages=long)


async def test_images_are_refused_by_the_name_of_the_model(client: AsyncAnthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoAAAAA"}
    seen: Any = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    with pytest.raises(
        BadRequestError, match="messages.0.content.0: The model 'tiny' takes text only"
    ):
        await client.messages.create(model="tiny", max_tokens=5, messages=seen)
