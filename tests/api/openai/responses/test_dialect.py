"""What the engine hears of a Responses request, and what the response repeats of it."""

import json
from typing import Any

import pytest

from mlxd.api.openai.responses.dialect import OpenAIResponses
from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.wire import ReasoningEvents
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    JsonOutput,
    JsonSchemaOutput,
    Message,
    NamedTool,
    NoTools,
    ReasoningOptions,
    RequiredTools,
    Sampling,
    Text,
    TextOutput,
    ToolChoice,
)
from tests.api.responses import (
    CUSTOM,
    FUNCTION,
    RESPONSE,
    SEARCH,
    SPACE,
    Json,
    answered,
    caller,
    compact,
    heard,
    items,
    parsed,
    response_of,
    user,
)
from tests.api.support import NOW
from tests.scripts import SCRIPTS


def test_a_plain_request_leaves_everything_to_the_defaults() -> None:
    call = parsed()
    assert (call.id, call.requested_model, call.stream, call.background) == (
        RESPONSE,
        "demo",
        False,
        False,
    )
    assert call.store
    (request,) = call.resolve(Past()).requests
    assert request.messages == (Message("user", (Text("Hello"),)),)
    assert request.sampling == Sampling()
    assert (request.max_tokens, request.stop, request.output) == (None, (), TextOutput())
    assert request.reasoning == ReasoningOptions()
    assert call.resolve(Past()).ignored == ()


def test_nulls_say_the_same_as_nothing() -> None:
    names = (
        *("instructions", "previous_response_id", "conversation", "store", "include", "tools"),
        *("max_output_tokens", "tool_choice", "text", "reasoning", "truncation", "metadata"),
        *("stream", "stream_options", "background", "temperature", "user", "prompt", "top_p"),
        *("service_tier", "prompt_cache_key", "parallel_tool_calls", "moderation"),
    )
    nulls: Json = dict.fromkeys(names)
    assert heard(**nulls) == heard()
    assert answered(**nulls).ignored == ()


def test_an_empty_text_is_an_input() -> None:
    request = heard(input="", max_output_tokens=1)
    assert (request.messages, request.max_tokens) == ((Message("user", ()),), 1)


def test_every_wish_reaches_the_engine() -> None:
    request = heard(
        temperature=0.5,
        top_p=0.9,
        presence_penalty=1,
        frequency_penalty=-1,
        seed=7,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.1,
        logit_bias={"5": -100},
        stop="END",
        max_output_tokens=2**40,
        parallel_tool_calls=False,
        reasoning={"effort": "high"},
        chat_template_kwargs={"thinking_budget": 5},
    )
    assert request.sampling == Sampling(0.5, 0.9, 40, 0.1, 1.1, 1, -1, {5: -100.0}, 7)
    assert (request.stop, request.max_tokens) == (("END",), 2**31 - 1)
    assert not request.parallel_tools
    assert request.reasoning == ReasoningOptions(effort="high", budget=5)
    assert heard(reasoning={"effort": "none"}).reasoning.enabled is False


def test_output_may_be_constrained() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    described = {"type": "json_schema", "name": "thing", "strict": True, "schema": schema}
    asked = heard(text={"format": described}).output
    text = '{"type":"object","properties":{"a":{"type":"string"}}}'
    assert asked == JsonSchemaOutput(text, "thing", strict=True)
    assert heard(text={"format": {"type": "json_object"}}).output == JsonOutput()
    assert heard(text={"format": {"type": "text"}}).output == TextOutput()
    echoed = response_of(SCRIPTS["text"], text={"format": described})["text"]
    assert echoed == {"format": described}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 3}, 3),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs", "of.next.year"], "top_logprobs": 2}, 2),
    ],
)
def test_logprobs_are_asked_for_in_two_ways(fields: Json, expected: int | None) -> None:
    assert heard(**fields).logprobs == expected


def test_requests_of_one_conversation_are_known_as_such() -> None:
    assert heard(prompt_cache_key="k").source.session == "k"
    for conversation in ("conv_1", {"id": "conv_1"}):
        assert heard(conversation=conversation).source.conversation == "conv_1"
    assert (heard().source.conversation, heard().source.session) == (None, "")


def test_what_a_call_goes_on_from_is_told_before_it_is_known() -> None:
    call = parsed(previous_response_id="resp_1", input=None)
    assert (call.previous, call.conversation, call.input) == ("resp_1", "", ())
    (request,) = call.resolve(Past(items(user("Hello")))).requests
    assert request.messages == (Message("user", (Text("Hello"),)),)
    assert parsed(conversation={"id": "conv_1"}).conversation == "conv_1"
    assert parsed(background=True, stream=True).background
    assert not parsed(store=False).store
    assert not compact().store


def test_a_response_repeats_what_was_asked() -> None:
    asked: Json = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "max_tool_calls": 2,
        "parallel_tool_calls": False,
        "previous_response_id": "resp_1",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "service_tier": "flex",
        "store": False,
        "temperature": 0.0,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tool_choice": "none",
        "top_logprobs": 2,
        "top_p": 0.5,
        "truncation": "auto",
        "user": "me",
        "metadata": {"a": "b"},
        "presence_penalty": 1.5,
        "frequency_penalty": -0.5,
        "reasoning": {"effort": "low", "summary": "auto"},
    }
    response = response_of(SCRIPTS["text"], **asked)
    assert {name: response[name] for name in asked} == asked
    assert (response["id"], response["created_at"]) == (RESPONSE, NOW)


def test_a_response_fills_in_what_was_not_asked() -> None:
    response = response_of(SCRIPTS["text"])
    assert response["model"] == "demo"
    assert (response["temperature"], response["top_p"]) == (1.0, 1.0)
    assert (response["tools"], response["tool_choice"]) == ([], "auto")
    assert response["text"] == {"format": {"type": "text"}}
    assert response["reasoning"] == {"effort": None, "summary": None}
    assert (response["service_tier"], response["truncation"]) == ("default", "disabled")
    assert (response["store"], response["background"]) == (True, False)
    assert "conversation" not in response
    told = response_of(SCRIPTS["text"], conversation="conv_1")
    assert told["conversation"] == {"id": "conv_1"}


def test_a_response_without_a_model_names_the_one_that_answers() -> None:
    assert response_of(SCRIPTS["text"], model=None)["model"] == ""
    assert answered(model=None).requested_model == ""


def test_tools_come_back_with_every_field() -> None:
    bare = {"type": "function", "name": "bare", "strict": None, "defer_loading": True}
    echoed = response_of(SCRIPTS["text"], tools=[FUNCTION, bare, CUSTOM, SPACE, SEARCH])["tools"]
    filled = {"description": None, "parameters": None, "strict": False, "defer_loading": True}
    assert echoed == [
        FUNCTION,
        {"type": "function", "name": "bare", **filled},
        CUSTOM,
        SPACE,
        SEARCH,
    ]


def test_the_model_sees_tools_by_one_name() -> None:
    request = heard(tools=[FUNCTION, CUSTOM, SPACE, SEARCH])
    names = [tool.name for tool in request.tools]
    assert names == ["get_weather", "run", "files__open", "files__sed"]
    weather, run, open_, _ = request.tools
    assert (weather.strict, weather.description) == (True, "The weather in a city.")
    assert '"input":{"type":"string"}' in run.parameters
    assert open_.parameters == '{"type":"object","properties":{}}'


def test_the_model_is_told_of_a_grammar_that_is_not_enforced() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}
    (tool,) = heard(tools=[{**CUSTOM, "format": grammar}]).tools
    assert tool.description.startswith("Runs code.")
    assert tool.description.endswith("lark:\nstart: /a+/")
    assert answered(tools=[{**CUSTOM, "format": grammar}]).ignored == ("tools.format",)
    assert answered(tools=[{**CUSTOM, "format": {"type": "text"}}]).ignored == ()


@pytest.mark.parametrize(
    ("definition", "pattern"),
    [
        ("[a-z]+", "^(?:[a-z]+)$"),
        ("^[a-z]+$", "^(?:[a-z]+)$"),
        (r"a\$", r"^(?:a\$)$"),
        (r"a\\$", r"^(?:a\\)$"),
    ],
)
def test_a_custom_tools_pattern_is_enforced_as_a_whole(definition: str, pattern: str) -> None:
    grammar = {"type": "grammar", "syntax": "regex", "definition": definition}
    space = {**SPACE, "tools": [{**CUSTOM, "format": grammar}]}
    for tools in ([{**CUSTOM, "format": grammar}], [space]):
        (tool,) = heard(tools=tools).tools
        assert tool.strict
        assert json.loads(tool.parameters)["properties"]["input"]["pattern"] == pattern
        assert definition in tool.description
        assert answered(tools=tools).ignored == ()


def test_items_can_bring_tools_along() -> None:
    brought = {"type": "additional_tools", "role": "developer", "tools": [SPACE, FUNCTION]}
    request = heard(input=[brought, user("Hello")], tools=[FUNCTION])
    names = [tool.name for tool in request.tools]
    assert names == ["get_weather", "files__open", "files__sed"]
    later = heard(items(brought, user("Hello")), tool_choice={"type": "custom", "name": "sed"})
    assert later.tool_choice == NamedTool("files__sed")


ALLOWED = {"type": "allowed_tools", "tools": [{"type": "function", "name": "get_weather"}, SEARCH]}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, AutoTools()),
        ("auto", AutoTools()),
        ("none", NoTools()),
        ({"type": "none"}, NoTools()),
        ("required", RequiredTools()),
        ({"type": "function", "name": "get_weather"}, NamedTool("get_weather")),
        ({"type": "custom", "name": "run"}, NamedTool("run")),
        ({"type": "function", "name": "open"}, NamedTool("files__open")),
        ({"type": "function", "name": "files__open"}, NamedTool("files__open")),
        (
            {"type": "function", "name": "open", "namespace": "files"},
            NamedTool("files__open"),
        ),
        (ALLOWED, AllowedTools(("get_weather",))),
        ({**ALLOWED, "mode": "required"}, AllowedTools(("get_weather",), required=True)),
    ],
)
def test_the_choice_of_tools_reaches_the_engine(choice: Any, expected: ToolChoice) -> None:
    tools = [FUNCTION, CUSTOM, SPACE, SEARCH]
    assert heard(tools=tools, tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"client_metadata": {"a": "b"}}, {"client_metadata"}),
        ({"prompt": {"id": "pmpt_1"}}, {"prompt"}),
        ({"moderation": {}, "context_management": []}, {"moderation", "context_management"}),
        ({"prompt_cache_retention": "24h"}, {"prompt_cache_retention"}),
        ({"prompt_cache_options": {}}, {"prompt_cache_options"}),
        ({"text": {"verbosity": "low"}}, {"text.verbosity"}),
        (
            {"reasoning": {"context": "all_turns", "mode": "x"}},
            {"reasoning.context", "reasoning.mode"},
        ),
        ({"service_tier": "scale"}, {"service_tier"}),
        ({"service_tier": "flex"}, set()),
        ({"service_tier": "auto"}, set()),
        ({"stream_options": {"include_obfuscation": True}}, {"stream_options.include_obfuscation"}),
        ({"stream_options": {"include_obfuscation": False}}, set()),
        (
            {"tools": [SEARCH, {"type": "of_next_year", "x": 1}]},
            {"tools.web_search", "tools.of_next_year"},
        ),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, {"tools.defer_loading"}),
        ({"tools": [{**SPACE, "tools": [SEARCH]}]}, {"tools.web_search"}),
        ({"colour": "blue", "text": {"colour": 1}}, {"colour", "text.colour"}),
        ({"stop": ["", "a"]}, {"stop"}),
        ({"include": ["of.next.year"], "metadata": {}, "user": "me"}, set()),
    ],
    ids=lambda value: ",".join(sorted(value))[:50],
)
def test_what_is_ignored_is_named(fields: Json, names: set[str]) -> None:
    assert set(answered(**fields).ignored) == names


@pytest.mark.parametrize(
    ("events", "asked", "shown"),
    [
        ("auto", {}, "content"),
        ("auto", {"summary": "auto"}, "summary"),
        ("text", {"summary": "auto"}, "content"),
        ("summary", {}, "summary"),
        ("none", {"summary": "auto"}, None),
    ],
)
def test_the_server_can_say_how_thinking_is_shown(
    events: ReasoningEvents, asked: Json, shown: str | None
) -> None:
    dialect = OpenAIResponses(events)
    body = {"model": "demo", "input": "Hello", "reasoning": asked}
    renderer = dialect.response_call(body, caller()).resolve(Past()).renderer
    for event in SCRIPTS["reasoning_then_text"]:
        list(renderer.frames(0, event))
    first = renderer.snapshot()["output"][0]
    found = next((key for key in ("content", "summary") if first.get(key)), None)
    assert (first["type"], found) == (("reasoning", shown) if shown else ("message", "content"))
