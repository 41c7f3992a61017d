"""Agents' loops over each dialect, on an engine with a model of random weights.

A grammar makes it write calls, in white space and tokens of its own choice.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import pytest_asyncio
from quart.testing import QuartClient

from mlxd.api.app import create_app
from mlxd.config.settings import Settings
from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.messages import Scalar
from tests.memory_store import MemoryStore
from tests.tiny_model import make_tiny_model

pytestmark = [pytest.mark.mlx, pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

Json = dict[str, Any]

TURNS = 4
BESIDE = 16
"""The most tokens that a turn reads besides its new messages."""
SCHEMA = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "maxLength": 6},
        "seconds": {"type": "integer", "minimum": 0, "maximum": 99},
        "flags": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    },
    "required": ["command", "seconds", "flags"],
    "additionalProperties": False,
}
QUESTION = "List what lies here, and then go on with it as you like. " * 4
RESULT = "a.txt\nb.txt"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[QuartClient]:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    # What it would think could be anything, calls too.
    quiet: dict[str, Scalar] = {"enable_thinking": False}
    engine = Supervisor(
        (ModelSpec(id="tiny", source=str(folder), template_args=quiet),),
        EngineLimits(prefix_cache_bytes=10**8),
        preload="tiny",
        stall_timeout=60,
        load_timeout=60,
    )
    await engine.start()
    app = create_app(Settings(), engine, store=MemoryStore())
    yield cast(QuartClient, app.test_client())
    await engine.stop(1)


@dataclass
class Loop:
    """An agent's turns in one dialect: what it sends, and what was read and cached of it."""

    client: QuartClient
    path: str
    usage: list[tuple[int, int, int]] = field(default_factory=list)
    """Tokens of each prompt, those of them that were cached, and of the answer."""

    async def post(self, body: Json, path: str = "") -> Json:
        response = await self.client.post(path or self.path, json=body)
        answer: Json = await response.get_json()
        assert response.status_code == 200, answer
        return answer

    def read_beside(self) -> list[int]:
        """How many tokens each turn computed again that were there before."""
        pairs = zip(self.usage, self.usage[1:], strict=False)
        return [prompt + said - cached for (prompt, _, said), (_, cached, _) in pairs]


async def chat(loop: Loop) -> None:
    messages: list[Json] = [{"role": "user", "content": QUESTION}]
    tool = {"type": "function", "function": {"name": "run", "parameters": SCHEMA}}
    for _ in range(TURNS):
        body = {"model": "tiny", "messages": messages, "tools": [tool]}
        answer = await loop.post({**body, "tool_choice": "required", "max_tokens": 150})
        usage, message = answer["usage"], answer["choices"][0]["message"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        loop.usage.append((usage["prompt_tokens"], cached, usage["completion_tokens"]))
        messages.append({key: message[key] for key in ("role", "content", "tool_calls")})
        # As programs do that keep arguments as objects.
        for call in message["tool_calls"]:
            call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": RESULT})


async def anthropic(loop: Loop) -> None:
    messages: list[Json] = [{"role": "user", "content": QUESTION}]
    tools = [{"name": "run", "input_schema": SCHEMA}]
    for turn in range(TURNS):
        body = {"model": "tiny", "messages": messages, "tools": tools}
        counted = (await loop.post(body, loop.path + "/count_tokens"))["input_tokens"]
        answer = await loop.post({**body, "tool_choice": {"type": "any"}, "max_tokens": 150})
        usage = answer["usage"]
        cached = usage["cache_read_input_tokens"]
        prompt = usage["input_tokens"] + cached + usage.get("cache_creation_input_tokens", 0)
        assert counted == prompt
        loop.usage.append((prompt, cached, usage["output_tokens"]))
        blocks = answer["content"]
        results = []
        for number, block in enumerate(blocks):
            if block["type"] == "tool_use":
                block["id"] = f"toolu_{turn}_{number}"
                results.append({"type": "tool_result", "tool_use_id": block["id"]})
        messages.append({"role": "assistant", "content": blocks})
        content = [{**result, "content": RESULT} for result in results]
        messages.append({"role": "user", "content": content or "Go on."})


async def responses(loop: Loop, *, stored: bool) -> None:
    sent: list[Json] = [{"role": "user", "content": QUESTION}]
    tool = {"type": "function", "name": "run", "parameters": SCHEMA}
    body: Json = {"model": "tiny", "tools": [tool], "store": stored, "max_output_tokens": 150}
    for _ in range(TURNS):
        answer = await loop.post({**body, "tool_choice": "required", "input": sent})
        usage = answer["usage"]
        cached = usage["input_tokens_details"]["cached_tokens"]
        loop.usage.append((usage["input_tokens"], cached, usage["output_tokens"]))
        calls = [item for item in answer["output"] if item["type"] == "function_call"]
        results = [
            {"type": "function_call_output", "call_id": call["call_id"], "output": RESULT}
            for call in calls
        ]
        if stored:
            body["previous_response_id"] = answer["id"]
        sent = results if stored else [*sent, *answer["output"], *results]


LOOPS: dict[str, tuple[str, Callable[[Loop], Any]]] = {
    "chat": ("/v1/chat/completions", chat),
    "messages": ("/v1/messages", anthropic),
    "responses, stored": ("/v1/responses", lambda loop: responses(loop, stored=True)),
    "responses, stateless": ("/v1/responses", lambda loop: responses(loop, stored=False)),
}


@pytest.mark.parametrize("name", LOOPS)
async def test_each_turn_reads_little_but_its_new_messages(name: str, client: QuartClient) -> None:
    path, play = LOOPS[name]
    loop = Loop(client, path)
    await play(loop)
    assert len(loop.usage) == TURNS
    assert all(said > 20 for _, _, said in loop.usage)
    assert max(loop.read_beside()) <= BESIDE, loop.usage


async def chat_cut(loop: Loop, messages: list[Json]) -> str:
    body = {"model": "tiny", "messages": messages, "max_tokens": CUT, "logit_bias": PLAIN}
    answer = await loop.post({**body, "temperature": 0})
    usage = answer["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    loop.usage.append((usage["prompt_tokens"], cached, usage["completion_tokens"]))
    return str(answer["choices"][0]["message"]["content"])


async def anthropic_cut(loop: Loop, messages: list[Json]) -> str:
    body = {"model": "tiny", "messages": messages, "max_tokens": CUT, "temperature": 0}
    answer = await loop.post(body)
    usage = answer["usage"]
    cached = usage["cache_read_input_tokens"]
    loop.usage.append((usage["input_tokens"] + cached, cached, usage["output_tokens"]))
    return "".join(block["text"] for block in answer["content"] if block["type"] == "text")


CUT = 24
PLAIN = {str(token): 100 for token in (65, 66, 67)}
CUTS: dict[str, tuple[str, Callable[[Loop, list[Json]], Any]]] = {
    "chat": ("/v1/chat/completions", chat_cut),
    "messages": ("/v1/messages", anthropic_cut),
}


@pytest.mark.parametrize("name", CUTS)
async def test_an_answer_that_was_cut_is_gone_on_with_in_its_own_tokens(
    name: str, client: QuartClient
) -> None:
    path, send = CUTS[name]
    loop, said = Loop(client, path), ""
    question = {"role": "user", "content": f"{name}: {QUESTION}"}
    for _ in range(3):
        begun = [{"role": "assistant", "content": said}] if said else []
        said += await send(loop, [question, *begun])
    assert max(loop.read_beside()) <= 1, loop.usage


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/compact"])
async def test_a_compaction_reads_little_but_what_asks_for_it(
    path: str, client: QuartClient
) -> None:
    loop = Loop(client, "/v1/responses")
    sent: list[Json] = [{"role": "user", "content": f"{path}: {QUESTION}"}]
    tools = [{"type": "function", "name": "run", "parameters": SCHEMA}]
    body: Json = {"model": "tiny", "tools": tools}
    asked = {**body, "tool_choice": "required", "max_output_tokens": 150}
    answer = await loop.post({**asked, "input": sent})
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": RESULT}
        for call in calls
    ]
    sent = [*sent, *answer["output"], *results]
    said = answer["usage"]["input_tokens"] + answer["usage"]["output_tokens"]
    if path == "/v1/responses":
        body = {**body, "max_output_tokens": 8}
        sent = [*sent, {"type": "compaction_trigger"}]
    compacted = await loop.post({**body, "input": sent}, path)
    assert [item["type"] for item in compacted["output"]][-1] == "compaction"
    cached = compacted["usage"]["input_tokens_details"]["cached_tokens"]
    assert said - cached <= BESIDE, (said, compacted["usage"])
