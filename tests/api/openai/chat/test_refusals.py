"""What Chat Completions refuses, in OpenAI's words: which field, what was expected, what came."""

from typing import Any

import pytest

from mlxd import errors
from mlxd.api.openai.errors import TABLE
from tests.api.support import CHAT, DEMO, HELLO, OTHER, error_of, front, settings_for
from tests.scripts import SCRIPTS


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [*HELLO, fields]}


def part(**fields: Any) -> dict[str, Any]:
    return user([{"type": "text", "text": "Hi"}, fields])


def call(**fields: Any) -> dict[str, Any]:
    return message(role="assistant", tool_calls=[{"id": "c", **fields}])


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": fields}]}


MISSING = "missing_required_parameter"
TYPE = "invalid_type"
VALUE = "invalid_value"
UNSUPPORTED = "unsupported_value"

REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": None}, "messages", TYPE),
    ({"messages": "Hi"}, "messages", TYPE),
    ({"messages": {}}, "messages", TYPE),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": [None]}, "messages[0]", TYPE),
    ({"messages": ["Hi"]}, "messages[0]", TYPE),
    ({"messages": [[]]}, "messages[0]", TYPE),
    ({"messages": [{}]}, "messages[0].role", MISSING),
    (message(content="Hi"), "messages[1].role", MISSING),
    (message(role=None, content="Hi"), "messages[1].role", MISSING),
    (message(role="robot", content="Hi"), "messages[1].role", VALUE),
    (message(role=7, content="Hi"), "messages[1].role", VALUE),
    (message(role="User", content="Hi"), "messages[1].role", VALUE),
    (message(role="user"), "messages[1].content", MISSING),
    (message(role="system"), "messages[1].content", MISSING),
    (user(None), "messages[0].content", TYPE),
    (user(5), "messages[0].content", TYPE),
    (user(True), "messages[0].content", TYPE),
    (user({"text": "Hi"}), "messages[0].content", TYPE),
    (user(["Hi"]), "messages[0].content[0]", TYPE),
    (user([{}]), "messages[0].content[0].type", MISSING),
    (user([{"type": "text"}]), "messages[0].content[0].text", MISSING),
    (user([{"type": "text", "text": 5}]), "messages[0].content[0].text", TYPE),
    (part(type="video_url", video_url={}), "messages[0].content[1].type", VALUE),
    (part(type="input_audio", input_audio={}), "messages[0].content[1].type", UNSUPPORTED),
    (part(type="file", file={"file_id": "f"}), "messages[0].content[1].type", UNSUPPORTED),
    (part(type="thinking", thinking="Hm."), "messages[0].content[1].type", VALUE),
    (part(type="image_url"), "messages[0].content[1].image_url", MISSING),
    (part(type="image_url", image_url="x"), "messages[0].content[1].image_url", TYPE),
    (part(type="image_url", image_url={}), "messages[0].content[1].image_url.url", MISSING),
    (message(role="tool", content="42"), "messages[1].tool_call_id", MISSING),
    (message(role="tool", content="42", tool_call_id=7), "messages[1].tool_call_id", TYPE),
    (message(role="function", content="42"), "messages[1].name", MISSING),
    (message(role="assistant", content=5), "messages[1].content", TYPE),
    (message(role="assistant", reasoning_content=[]), "messages[1].reasoning_content", TYPE),
    (message(role="assistant", tool_calls={}), "messages[1].tool_calls", TYPE),
    (message(role="assistant", tool_calls=[7]), "messages[1].tool_calls[0]", TYPE),
    (call(), "messages[1].tool_calls[0].function", MISSING),
    (call(function={}), "messages[1].tool_calls[0].function.name", MISSING),
    (
        call(function={"name": "f", "arguments": 5}),
        "messages[1].tool_calls[0].function.arguments",
        TYPE,
    ),
    (call(type="magic"), "messages[1].tool_calls[0].type", VALUE),
    ({"model": 5}, "model", TYPE),
    ({"model": ["demo"]}, "model", TYPE),
    ({"stream": "true"}, "stream", TYPE),
    ({"stream": 1}, "stream", TYPE),
    ({"stream_options": True}, "stream_options", TYPE),
    ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage", TYPE),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 9}, "n", "integer_above_max_value"),
    ({"n": 10**30}, "n", "integer_above_max_value"),
    ({"n": 1.5}, "n", TYPE),
    ({"n": True}, "n", TYPE),
    ({"n": "1"}, "n", TYPE),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": -2}, "max_tokens", "integer_below_min_value"),
    ({"max_tokens": 1.0}, "max_tokens", TYPE),
    ({"max_tokens": "5"}, "max_tokens", TYPE),
    ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
    ({"max_completion_tokens": 5, "max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"temperature": -1}, "temperature", "decimal_below_min_value"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": 10**400}, "temperature", TYPE),
    ({"temperature": "0.5"}, "temperature", TYPE),
    ({"temperature": True}, "temperature", TYPE),
    ({"temperature": [1]}, "temperature", TYPE),
    ({"top_p": 1.01}, "top_p", "decimal_above_max_value"),
    ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
    ({"top_k": 10**12}, "top_k", "integer_above_max_value"),
    ({"top_k": 2**70}, "top_k", "integer_above_max_value"),
    ({"top_k": -2}, "top_k", "integer_below_min_value"),
    ({"top_k": 1.5}, "top_k", TYPE),
    ({"min_p": 1.5}, "min_p", "decimal_above_max_value"),
    ({"min_p": "0"}, "min_p", TYPE),
    ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value"),
    ({"repetition_penalty": 11}, "repetition_penalty", "decimal_above_max_value"),
    ({"repetition_penalty": 1e-300}, "repetition_penalty", "decimal_below_min_value"),
    ({"presence_penalty": 2.5}, "presence_penalty", "decimal_above_max_value"),
    ({"presence_penalty": -2.5}, "presence_penalty", "decimal_below_min_value"),
    ({"frequency_penalty": 1e9}, "frequency_penalty", "decimal_above_max_value"),
    ({"frequency_penalty": "x"}, "frequency_penalty", TYPE),
    ({"seed": 2**63}, "seed", "integer_above_max_value"),
    ({"seed": -(2**63) - 1}, "seed", "integer_below_min_value"),
    ({"seed": 1.5}, "seed", TYPE),
    ({"seed": True}, "seed", TYPE),
    ({"stop": 5}, "stop", TYPE),
    ({"stop": {}}, "stop", TYPE),
    ({"stop": [1]}, "stop[0]", TYPE),
    ({"stop": ["a", None]}, "stop[1]", TYPE),
    ({"stop": ["a"] * 33}, "stop", "array_above_max_length"),
    ({"stop": "x" * 257}, "stop[0]", "string_above_max_length"),
    ({"logprobs": 5}, "logprobs", TYPE),
    ({"logprobs": "true"}, "logprobs", TYPE),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "integer_below_min_value"),
    ({"logprobs": True, "top_logprobs": True}, "top_logprobs", TYPE),
    ({"top_logprobs": 5}, "top_logprobs", VALUE),
    ({"logit_bias": []}, "logit_bias", TYPE),
    ({"logit_bias": {"7": "1"}}, "logit_bias[7]", TYPE),
    ({"logit_bias": {"7": True}}, "logit_bias[7]", TYPE),
    ({"logit_bias": {"7": 101}}, "logit_bias[7]", "decimal_above_max_value"),
    ({"logit_bias": {"7": -100.5}}, "logit_bias[7]", "decimal_below_min_value"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"07": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"1.0": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"\u0667": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"9" * 30: 5}}, "logit_bias", VALUE),
    ({"logit_bias": {"2147483648": 5}}, "logit_bias", VALUE),
    ({"logit_bias": {"hello": 1}}, "logit_bias", VALUE),
    (
        {"logit_bias": {str(token): 1 for token in range(1025)}},
        "logit_bias",
        "object_above_max_properties",
    ),
    ({"tools": {}}, "tools", TYPE),
    ({"tools": ["f"]}, "tools[0]", TYPE),
    ({"tools": [{}]}, "tools[0].type", MISSING),
    ({"tools": [{"type": "function"}]}, "tools[0].function", MISSING),
    (tool(), "tools[0].function.name", MISSING),
    (tool(name=""), "tools[0].function.name", "empty_string"),
    (tool(name="f" * 257), "tools[0].function.name", "string_above_max_length"),
    (tool(name=5), "tools[0].function.name", TYPE),
    (tool(name="f", parameters="{}"), "tools[0].function.parameters", TYPE),
    (tool(name="f", strict="yes"), "tools[0].function.strict", TYPE),
    ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom.name", MISSING),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls", TYPE),
    ({"functions": [{}]}, "functions[0].name", MISSING),
    ({"functions": [{"name": "f"}], "function_call": "g"}, "function_call.type", VALUE),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call", VALUE),
    ({"response_format": "json"}, "response_format", TYPE),
    ({"response_format": {}}, "response_format.type", MISSING),
    ({"response_format": {"type": "yaml"}}, "response_format.type", VALUE),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", MISSING),
    ({"guided_json": 5}, "guided_json", TYPE),
    ({"guided_regex": 5}, "guided_regex", TYPE),
    ({"guided_choice": "a"}, "guided_choice", TYPE),
    ({"guided_choice": []}, "guided_choice", "empty_array"),
    ({"guided_regex": "a", "guided_grammar": "start: A"}, "guided_grammar", VALUE),
    ({"structured_outputs": []}, "structured_outputs", TYPE),
    ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex", TYPE),
    ({"regex": "a", "response_format": {"type": "json_object"}}, "regex", VALUE),
    ({"thinking_budget": -1}, "thinking_budget", "integer_below_min_value"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort", VALUE),
    ({"reasoning_effort": 5}, "reasoning_effort", TYPE),
    ({"enable_thinking": "no"}, "enable_thinking", TYPE),
    ({"chat_template_kwargs": []}, "chat_template_kwargs", TYPE),
    (
        {"chat_template_kwargs": {"return_tensors": "np"}},
        "chat_template_kwargs.return_tensors",
        UNSUPPORTED,
    ),
    (
        {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
        "chat_template_kwargs.chat_template",
        UNSUPPORTED,
    ),
    (
        {"chat_template_kwargs": {"thinking": [1]}},
        "chat_template_kwargs.thinking",
        TYPE,
    ),
    (
        {"chat_template_kwargs": {"date_string": "x" * 1001}},
        "chat_template_kwargs.date_string",
        VALUE,
    ),
]


SERVER = front(*SCRIPTS["text"])


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    REFUSALS,
    ids=[f"{number}-{param}-{code}" for number, (_, param, code) in enumerate(REFUSALS)],
)
async def test_a_wrong_field_is_refused_by_name_and_the_next_request_works(
    fields: dict[str, Any], param: str, code: str
) -> None:
    for live in (False, True):
        response = await SERVER.ask(**({"stream": live} | fields))
        error = await error_of(response)
        assert (response.status_code, error["type"]) == (400, "invalid_request_error")
        assert (error["param"], error["code"]) == (param, code)
        assert param in error["message"] or code == VALUE
        assert len(error["message"]) < 400
    assert not SERVER.heard()
    assert (await SERVER.ask()).status_code == 200
    assert SERVER.heard()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"messages": None},
            "Invalid type for 'messages': expected an array, but got null instead.",
        ),
        (
            {"temperature": "hot"},
            "Invalid type for 'temperature': expected a decimal, but got a string instead.",
        ),
        (
            {"temperature": 2.5},
            "Invalid 'temperature': decimal above maximum value. "
            "Expected a value <= 2, but got 2.5 instead.",
        ),
        (
            {"repetition_penalty": 0},
            "Invalid 'repetition_penalty': decimal below minimum value. "
            "Expected a value >= 0.01, but got 0 instead.",
        ),
        (
            {"seed": 2**63},
            "Invalid 'seed': integer above maximum value. "
            "Expected a value <= 9223372036854775807, but got 9223372036854775808 instead.",
        ),
        (
            {"messages": []},
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
        ),
        (
            {"stop": ["a"] * 33},
            "Invalid 'stop': array too long. Expected an array with maximum length 32, "
            "but got an array with length 33 instead.",
        ),
        (
            {"reasoning_effort": "extreme"},
            "Invalid value: 'extreme'. Supported values are: "
            "'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'.",
        ),
        (
            message(role="tool", content="x"),
            "Missing required parameter: 'messages[1].tool_call_id'.",
        ),
    ],
)
async def test_the_message_says_what_was_expected_and_what_came(
    fields: dict[str, Any], sentence: str
) -> None:
    assert (await error_of(await SERVER.ask(**fields)))["message"] == sentence


async def test_missing_messages_are_asked_for_in_openais_words() -> None:
    error = await error_of(await SERVER.post({"model": "demo"}))
    assert error == {
        "message": "Missing required parameter: 'messages'.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "missing_required_parameter",
    }


async def test_the_status_of_malformed_requests_can_be_422() -> None:
    server = front(*SCRIPTS["text"], settings=settings_for(validation_status=422))
    assert (await server.ask(temperature=3)).status_code == 422
    assert (await server.send(b"{")).status_code == 422
    assert (await server.get(CHAT)).status_code == 405
    assert (await server.ask()).status_code == 200


async def test_a_hundred_thousand_wrong_items_are_one_short_refusal() -> None:
    response = await SERVER.ask(messages=[0] * 90_000)
    assert (await error_of(response))["param"] == "messages[0]"


def test_every_error_has_a_row_of_its_own() -> None:
    leaves = {each for each in errors.subclasses(errors.MlxdError) if not errors.subclasses(each)}
    assert set(TABLE) == leaves


@pytest.mark.parametrize(
    ("error", "status", "headers", "expected"),
    [
        (
            errors.ContextTooLong(prompt_tokens=9000, context_length=4096),
            400,
            {},
            {
                "message": "This model's maximum context length is 4096 tokens. However, your "
                "messages resulted in 9000 tokens. Please reduce the length of the messages.",
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
                "n_prompt_tokens": 9000,
                "n_ctx": 4096,
            },
        ),
        (errors.QueueFull(retry_after=1.2, limit=64), 503, {"retry-after": "2"}, {"param": None}),
        (errors.EngineStopped(), 503, {"retry-after": "1"}, {"type": "server_error"}),
        (errors.EngineCrashed("x"), 503, {"retry-after": "1"}, {"code": "engine_crashed"}),
        (errors.DeadlineExceeded(60), 504, {"x-should-retry": "false"}, {}),
        (errors.RateLimited(), 429, {"retry-after": "1"}, {"type": "rate_limit_error"}),
        (
            errors.ConfigError("/etc/secret.toml", "a", "b"),
            500,
            {},
            {"message": "The server's configuration can't be used."},
        ),
        (
            errors.InvalidField("logit_bias", "value", "Token 9 does not exist."),
            400,
            {},
            {"param": "logit_bias", "code": "invalid_value"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, errors.MlxdError) else None,
)
async def test_an_error_of_the_engine_has_its_status_headers_and_words(
    error: errors.MlxdError, status: int, headers: dict[str, str], expected: dict[str, Any]
) -> None:
    def refuse(_: object) -> Any:
        raise error

    response = await front(play=refuse).ask()
    assert response.status_code == status
    assert {name: response.headers.get(name) for name in headers} == headers
    body = await error_of(response)
    assert {key: body[key] for key in expected} == expected


async def test_an_unknown_model_is_a_404_that_lists_what_there_is() -> None:
    server = front(*SCRIPTS["text"], models=(DEMO, OTHER))
    response = await server.ask(model="gpt-9")
    assert response.status_code == 404
    assert await error_of(response) == {
        "message": "The model `gpt-9` does not exist. Available: demo, gpt-4o, other.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
