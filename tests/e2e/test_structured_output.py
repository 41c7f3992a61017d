"""Structured output and forced tools through OpenAI's SDK, against a live server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pydantic
import pytest

from tests.e2e.support import Served, serve
from tests.tiny_model import make_tiny_model

TOML = """
[models.model]
source = "./model"
"""
HELLO: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather", "parameters": PARAMETERS},
}
PLAIN: Any = {"chat_template_kwargs": {"enable_thinking": False}}


class Report(pydantic.BaseModel):
    """What the answer is parsed into."""

    city: str
    degrees: list[int]
    wind: float | None


def _client(served: Served) -> openai.OpenAI:
    url = f"http://127.0.0.1:{served.port}/v1"
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("structured")
    make_tiny_model(folder / "model")
    with serve(folder, toml=TOML) as served, _client(served) as client:
        yield client


def test_the_sdk_parses_an_answer_into_its_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="model", messages=HELLO, response_format=Report, max_tokens=150, extra_body=PLAIN
    )
    assert isinstance(answer.choices[0].message.parsed, Report)
    assert answer.choices[0].finish_reason == "stop"


def test_choices_and_logprobs_go_with_a_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="model",
        messages=HELLO,
        response_format=Report,
        max_tokens=150,
        n=3,
        seed=1,
        logprobs=True,
        top_logprobs=2,
        extra_body=PLAIN,
    )
    assert all(isinstance(choice.message.parsed, Report) for choice in answer.choices)
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert all(choice.logprobs and choice.logprobs.content for choice in answer.choices)


def forced_call(client: openai.OpenAI, *, live: bool) -> tuple[str, str]:
    """The name and arguments of the one call that is required."""
    asked: dict[str, Any] = {
        **{"model": "model", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required"},
        **{"max_tokens": 200, "temperature": 0.0, "parallel_tool_calls": False},
        "extra_body": PLAIN,
    }
    if live:
        with client.chat.completions.stream(**asked) as stream:
            stream.until_done()
            answer: Any = stream.get_final_completion()
    else:
        answer = client.chat.completions.create(**asked)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    return call.function.name, call.function.arguments


@pytest.mark.parametrize("live", [False, True], ids=["whole", "streamed"])
def test_a_forced_tool_is_called_with_valid_arguments(client: openai.OpenAI, live: bool) -> None:
    name, arguments = forced_call(client, live=live)
    assert name == "get_weather"
    jsonschema.validate(json.loads(arguments), PARAMETERS)


def test_a_schema_that_cannot_be_enforced_is_refused_with_the_reason(
    client: openai.OpenAI,
) -> None:
    schema = {"type": "object", "propertyNames": {"pattern": "^a"}}
    wanted: Any = {
        "type": "json_schema",
        "json_schema": {"name": "a", "strict": True, "schema": schema},
    }
    with pytest.raises(openai.BadRequestError, match="propertyNames"):
        client.chat.completions.create(model="model", messages=HELLO, response_format=wanted)


FAULTY: Any = {
    "type": "object",
    "properties": {"code": {"type": "string", "pattern": "^(?!tmp-)[a-z]+$"}},
}
ASK = "Hello"
CHAT_TOOL: Any = {"type": "function", "function": {"name": "slot", "parameters": FAULTY}}
RESPONSES_TOOL: Any = {"type": "function", "name": "slot", "parameters": FAULTY}
MESSAGES_TOOL: Any = {"name": "slot", "input_schema": FAULTY}
# A body without its choice of tools, the choices that demand a call, and the path of the schema.
DIALECTS: dict[str, tuple[dict[str, Any], list[Any], str]] = {
    "/v1/chat/completions": (
        {"messages": [{"role": "user", "content": ASK}], "tools": [WEATHER, CHAT_TOOL]},
        [
            "required",
            {"type": "function", "function": {"name": "slot"}},
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "slot"}}],
                },
            },
        ],
        "tools[1].function.parameters",
    ),
    "/v1/responses": (
        {
            "input": ASK,
            "tools": [
                {"type": "web_search"},
                {"type": "namespace", "name": "box", "tools": [RESPONSES_TOOL]},
            ],
        },
        [
            "required",
            {"type": "function", "name": "slot", "namespace": "box"},
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "box__slot"}],
            },
        ],
        "tools[1].tools[0].parameters",
    ),
    "/v1/messages": (
        {
            "messages": [{"role": "user", "content": ASK}],
            "max_tokens": 150,
            "tools": [{"type": "web_search_20250305", "name": "web_search"}, MESSAGES_TOOL],
        },
        [{"type": "any"}, {"type": "tool", "name": "slot"}],
        "tools[1].input_schema",
    ),
}


def _posted(client: openai.OpenAI, path: str, body: dict[str, Any]) -> httpx.Response:
    url = str(client.base_url).removesuffix("/v1/") + path
    return httpx.post(url, json={"model": "model", **body}, timeout=120)


@pytest.mark.parametrize("path", DIALECTS)
def test_a_keyword_that_can_not_be_enforced_is_named_and_the_call_is_made(
    client: openai.OpenAI, path: str
) -> None:
    body, choices, place = DIALECTS[path]
    for number, choice in enumerate(choices):
        live = number == 0
        answer = _posted(client, path, {**body, "tool_choice": choice, "stream": live})
        assert answer.status_code == 200, answer.text
        ignored = answer.headers["x-mlxd-ignored"].split(",")
        assert f"{place}.properties.code.pattern" in ignored
        assert live or "slot" in answer.text
    auto = {"type": "auto"} if path == "/v1/messages" else "auto"
    free = _posted(client, path, {**body, "tool_choice": auto})
    assert free.status_code == 200, free.text
    assert "properties.code" not in free.headers.get("x-mlxd-ignored", "")


@pytest.mark.parametrize("path", DIALECTS)
def test_a_strict_tool_that_can_not_be_enforced_is_refused_by_its_path(
    client: openai.OpenAI, path: str
) -> None:
    body, (choice, *_), place = DIALECTS[path]
    text = json.dumps(body).replace('"name": "slot"', '"name": "slot", "strict": true')
    strict = json.loads(text)
    answer = _posted(client, path, {**strict, "tool_choice": choice})
    assert answer.status_code == 400
    error = answer.json()["error"]
    where = f"{place}.properties.code.pattern"
    if path == "/v1/messages":
        assert error["message"].startswith(where.replace("[1]", ".1") + ": ")
    else:
        assert error["param"] == where
    assert "slot" in error["message"]
    assert "look-around" in error["message"]


def test_a_pattern_of_a_custom_tool_is_refused_where_it_is_written(client: openai.OpenAI) -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": "(?=a)b"}
    tool = {"type": "custom", "name": "run", "format": grammar}
    answer = _posted(client, "/v1/responses", {"input": ASK, "tools": [tool]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[0].format.definition"


def test_a_schema_of_the_answer_is_refused_where_it_is_written(client: openai.OpenAI) -> None:
    bodies: dict[str, tuple[dict[str, Any], str]] = {
        "/v1/chat/completions": (
            {
                "messages": [{"role": "user", "content": ASK}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": FAULTY},
                },
            },
            "response_format.json_schema.schema.properties.code.pattern",
        ),
        "/v1/responses": (
            {
                "input": ASK,
                "text": {"format": {"type": "json_schema", "name": "a", "schema": FAULTY}},
            },
            "text.format.schema.properties.code.pattern",
        ),
    }
    for path, (body, place) in bodies.items():
        answer = _posted(client, path, body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, place)


def test_a_call_and_its_result_go_back_to_the_model(client: openai.OpenAI) -> None:
    name, arguments = forced_call(client, live=False)
    assert (name, arguments) == forced_call(client, live=True)
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    messages: Any = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "17 degrees and rain"},
    ]
    short, whole = (
        client.chat.completions.create(
            model="model",
            messages=each,
            tools=[WEATHER],
            tool_choice="none",
            max_tokens=20,
            temperature=0.0,
        )
        for each in (HELLO, messages)
    )
    (choice,) = whole.choices
    assert choice.finish_reason in ("stop", "length")
    assert choice.message.content
    assert not choice.message.tool_calls
    assert short.usage is not None
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > short.usage.prompt_tokens
