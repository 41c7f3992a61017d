"""Chat Completions requests: what the engine hears of them."""

from typing import Any

import pytest

from mlxd.messages import (
    GenerateRequest,
    Image,
    Message,
    Part,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    ToolCall,
    ToolResult,
)
from tests.api.support import HELLO, PNG, PNG_URL, front
from tests.scripts import SCRIPTS

SERVER = front(*SCRIPTS["text"])


async def heard(**fields: Any) -> GenerateRequest:
    """The one request that the engine gets."""
    response = await SERVER.ask(**fields)
    assert response.status_code == 200, await response.get_data()
    (request,) = SERVER.heard()
    return request


async def ignored(**fields: Any) -> list[str]:
    """What the response names as ignored."""
    response = await SERVER.ask(**fields)
    SERVER.heard()
    assert response.status_code == 200, await response.get_data()
    return response.headers.get("x-mlxd-ignored", "").split(",")


async def test_a_plain_request_leaves_everything_to_the_defaults() -> None:
    request = await heard()
    assert request == GenerateRequest(
        id="req_0123456789abcdef0123456789abcdef",
        model="demo",
        messages=(Message("user", (Text("Hello"),)),),
        source=request.source,
    )
    assert request.source.dialect == "openai_chat"


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({"temperature": 0}, Sampling(temperature=0.0)),
        ({"temperature": 2, "top_p": 0.5}, Sampling(temperature=2.0, top_p=0.5)),
        ({"top_p": 0, "top_k": 5}, Sampling(top_k=1)),
        ({"top_k": 40, "min_p": 0.1}, Sampling(top_k=40, min_p=0.1)),
        ({"top_k": -1}, Sampling(top_k=0)),
        ({"top_k": 2**31 - 1}, Sampling(top_k=0)),
        ({"seed": -(2**63)}, Sampling(seed=-(2**63))),
        ({"seed": 0}, Sampling(seed=0)),
        (
            {"presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.1},
            Sampling(presence_penalty=-2.0, frequency_penalty=2.0, repetition_penalty=1.1),
        ),
        ({"logit_bias": {"7": -100, "0": 1.5}}, Sampling(logit_bias={7: -100.0, 0: 1.5})),
        ({"logit_bias": {}}, Sampling()),
        (dict.fromkeys(["temperature", "top_p", "top_k", "seed", "logit_bias"]), Sampling()),
    ],
)
async def test_sampling_is_honoured(fields: dict[str, Any], sampling: Sampling) -> None:
    assert (await heard(**fields)).sampling == sampling


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, 6),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
        ({"max_tokens": 10**30}, 2**31 - 1),
    ],
)
async def test_the_newer_name_of_max_tokens_wins(fields: dict[str, Any], limit: int) -> None:
    assert (await heard(**fields)).max_tokens == limit


@pytest.mark.parametrize(
    ("stop", "stops"),
    [
        (None, ()),
        ("end", ("end",)),
        (["a", "b", "c", "d"], ("a", "b", "c", "d")),
        ([], ()),
        ("x" * 256, ("x" * 256,)),
        (["", "a"], ("a",)),
    ],
)
async def test_stop_strings_come_alone_or_as_a_list(stop: Any, stops: tuple[str, ...]) -> None:
    assert (await heard(stop=stop)).stop == stops


async def test_an_empty_stop_string_is_named_as_ignored() -> None:
    assert await ignored(stop=["", "a"]) == ["stop"]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
async def test_logprobs_are_asked_for_with_alternatives(
    fields: dict[str, Any], count: int | None
) -> None:
    assert (await heard(**fields)).logprobs == count


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, ReasoningOptions()),
        ({"reasoning_effort": "high"}, ReasoningOptions(effort="high")),
        ({"reasoning_effort": "none"}, ReasoningOptions(enabled=False, effort="none")),
        ({"enable_thinking": False}, ReasoningOptions(enabled=False)),
        ({"chat_template_kwargs": {"enable_thinking": True}}, ReasoningOptions(enabled=True)),
        (
            {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": True}},
            ReasoningOptions(enabled=False),
        ),
    ],
)
async def test_thinking_can_be_switched(fields: dict[str, Any], options: ReasoningOptions) -> None:
    assert (await heard(**fields)).reasoning == options


async def test_template_arguments_are_passed_on() -> None:
    args = {"enable_thinking": False, "thinking_budget": 5, "date_string": "1 May"}
    assert (await heard(chat_template_kwargs=args)).template_args == args


async def test_several_answers_have_seeds_of_their_own() -> None:
    server = front(*SCRIPTS["text"])
    assert (await server.ask(n=3, seed=2**63 - 2)).status_code == 200
    seeds = [request.sampling.seed for request in server.engine.requests]
    assert seeds == [2**63 - 2, 2**63 - 1, -(2**63)]
    ids = [request.id.rpartition("-")[2] for request in server.engine.requests]
    assert ids == ["0", "1", "2"]
    assert (await server.ask(n=2)).status_code == 200
    assert server.engine.requests[-1].sampling.seed is None


CALLS = [
    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
    {"id": "c2", "function": {"name": "g", "arguments": '{"broken'}},
    {"id": "c3", "type": "function", "function": {"name": "h", "arguments": ""}},
    {"id": "c4", "type": "function", "function": {"name": "i", "arguments": {"a": [1]}}},
    {"id": "c5", "type": "custom", "custom": {"name": "j", "input": "SELECT 1"}},
]


@pytest.mark.parametrize(
    ("wire", "role", "parts"),
    [
        ({"role": "user", "content": "Hi"}, "user", (Text("Hi"),)),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, "user", (Text("Hi"),)),
        ({"role": "user", "content": ""}, "user", ()),
        ({"role": "user", "content": []}, "user", ()),
        ({"role": "user", "name": "Ann", "content": "Hi"}, "user", (Text("Hi"),)),
        ({"role": "system", "content": "Be brief"}, "system", (Text("Be brief"),)),
        ({"role": "developer", "content": "Be brief"}, "system", (Text("Be brief"),)),
        ({"role": "assistant", "content": None}, "assistant", ()),
        ({"role": "assistant"}, "assistant", ()),
        ({"role": "assistant", "content": "", "refusal": "No."}, "assistant", (Text("No."),)),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            "assistant",
            (Text("No."),),
        ),
        (
            {"role": "assistant", "reasoning_content": "Hm", "reasoning": "x", "content": "Hi"},
            "assistant",
            (Reasoning("Hm"), Text("Hi")),
        ),
        (
            {"role": "assistant", "reasoning": "Hm", "content": "Hi"},
            "assistant",
            (Reasoning("Hm"), Text("Hi")),
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            "assistant",
            (
                ToolCall("c1", "f", '{"a":1}'),
                ToolCall("c2", "g", '{"broken'),
                ToolCall("c3", "h", ""),
                ToolCall("c4", "i", '{"a":[1]}'),
                ToolCall("c5", "j", '{"input":"SELECT 1"}'),
            ),
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            "assistant",
            (ToolCall("call_1", "f", "{}"),),
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            "tool",
            (ToolResult("c1", (Text("42"),)),),
        ),
        (
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
            "tool",
            (ToolResult("c1", (Text("42"),)),),
        ),
        ({"role": "tool", "tool_call_id": "c1", "content": None}, "tool", (ToolResult("c1", ()),)),
        (
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {
                        "type": "thinking",
                        "thinking": [{"type": "text", "text": "So"}],
                        "closed": True,
                    },
                    {"type": "output_text", "text": "Hi", "annotations": []},
                ],
            },
            "assistant",
            (Reasoning("Hm.\nSo"), Text("Hi")),
        ),
        (
            {
                "role": "assistant",
                "reasoning_content": "Hm.",
                "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    {"type": "text", "text": "Hi"},
                ],
            },
            "assistant",
            (Reasoning("Hm."), Text("Hi")),
        ),
        (
            {"role": "function", "name": "f", "content": "42"},
            "tool",
            (ToolResult("call_f", (Text("42"),)),),
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "high"}},
                ],
            },
            "user",
            (Text("What is this?"), Image(PNG, "image/png", "messages.1.content.1")),
        ),
    ],
)
async def test_messages_mean_the_same_however_they_are_written(
    wire: dict[str, Any], role: str, parts: tuple[Part, ...]
) -> None:
    request = await heard(messages=[*HELLO, wire])
    assert (request.messages[1].role, request.messages[1].parts) == (role, parts)


async def test_the_result_of_an_old_style_call_belongs_to_that_call() -> None:
    request = await heard(
        messages=[
            *HELLO,
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "42"},
        ]
    )
    assert request.messages[2].parts == (ToolResult("call_1", (Text("42"),)),)


# Unknown and harmless fields.


async def test_fields_that_change_nothing_are_ignored_and_named() -> None:
    names = await ignored(
        user="ann",
        metadata={"a": "b"},
        prompt_cache_key="k",
        store=False,
        service_tier=None,
        stream_options={"include_obfuscation": True},
        messages=[
            {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "a", "x": 1}]},
            {"role": "user", "name": "Bob", "content": "Hello"},
        ],
        tools=[{"type": "web_search"}, {"type": "function", "function": {"name": "f", "y": 1}}],
    )
    assert sorted(names) == [
        *("messages.content.x", "messages.name", "metadata", "prompt_cache_key", "store"),
        *("stream_options.include_obfuscation", "tools.function.y", "tools.web_search", "user"),
    ]


async def test_nothing_is_named_when_nothing_was_ignored() -> None:
    assert await ignored(temperature=1, tools=[], stop=None, user=None) == [""]


async def test_names_of_ignored_fields_cannot_forge_headers() -> None:
    server = front(*SCRIPTS["text"])
    fields = {"a\r\nset-cookie: b": 1, "\u00e9,\0": 1, "x" * 1000: 1}
    response = await server.ask(**fields, **{f"field_{i}": 1 for i in range(1000)})
    assert response.status_code == 200
    header = response.headers["x-mlxd-ignored"]
    assert header.startswith("a??set-cookie??b,???,xxxx")
    assert len(header) <= 1000
    assert "set-cookie" not in response.headers
