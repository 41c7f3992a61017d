"""What Responses refuses, in OpenAI's words: which field, what was expected, what came."""

from typing import Any

import pytest

from mlxd import errors
from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.conversation_bodies import new_items
from tests.api.responses import (
    CUSTOM,
    DIALECT,
    FUNCTION,
    SEARCH,
    Json,
    answered,
    call,
    caller,
    compact,
    items,
    parsed,
    result,
    user,
)
from tests.api.support import RESPONSES, error_of, front
from tests.scripts import SCRIPTS

MISSING = "missing_required_parameter"
TYPE = "invalid_type"
VALUE = "invalid_value"
UNSUPPORTED = "unsupported_value"


def item(**fields: Any) -> Json:
    return {"input": [user("Hi"), fields]}


def part(**fields: Any) -> Json:
    return {"input": [{"role": "user", "content": [fields]}]}


def tool(**fields: Any) -> Json:
    return {"tools": [fields]}


def choice(value: Any, *tools: Json) -> Json:
    return {"tools": list(tools or (FUNCTION,)), "tool_choice": value}


def text_format(**fields: Any) -> Json:
    return {"text": {"format": fields}}


DATA = "data:application/pdf;base64,JVBERi0AAA=="
AT_AN_ADDRESS = "https://example.com/cat.png"
REFUSALS: list[tuple[Json, str, str]] = [
    ({"input": None}, "input", MISSING),
    ({"input": 5}, "input", TYPE),
    ({"input": {}}, "input", TYPE),
    ({"input": []}, "input", "empty_array"),
    ({"input": [None]}, "input[0]", TYPE),
    ({"input": ["Hi"]}, "input[0]", TYPE),
    ({"input": [{}]}, "input[0].role", MISSING),
    ({"input": [{"type": "nothing_known"}]}, "input", VALUE),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input", VALUE),
    (item(type=5), "input[1].type", TYPE),
    (item(type=[]), "input[1].type", TYPE),
    (item(type="message", content="Hi"), "input[1].role", MISSING),
    (item(role="robot", content="Hi"), "input[1].role", VALUE),
    (item(role="tool", content="Hi"), "input[1].role", VALUE),
    (item(role="user", content=5), "input[1].content", TYPE),
    (item(role="user", content=["Hi"]), "input[1].content[0]", TYPE),
    (item(role="user", content=[{}]), "input[1].content[0].type", MISSING),
    (item(type="function_call", name="f"), "input[1].call_id", MISSING),
    (item(type="function_call", call_id="c"), "input[1].name", MISSING),
    (item(type="function_call", call_id="c", name=5), "input[1].name", TYPE),
    (item(type="function_call", call_id="c", name="f", arguments=5), "input[1].arguments", TYPE),
    (item(type="function_call_output", output="42"), "input[1].call_id", MISSING),
    (item(type="function_call_output", call_id="c", output=5), "input[1].output", TYPE),
    (item(type="custom_tool_call", call_id="c", name="f", input={}), "input[1].input", TYPE),
    (item(type="item_reference"), "input[1].id", MISSING),
    (item(type="item_reference", id=5), "input[1].id", TYPE),
    (item(type="compaction"), "input[1].encrypted_content", MISSING),
    (item(type="additional_tools", tools=[{}]), "input[1].tools[0].type", MISSING),
    (part(type="text"), "input[0].content[0].text", MISSING),
    (part(type="input_text", text=5), "input[0].content[0].text", TYPE),
    (part(type="magic"), "input[0].content[0].type", VALUE),
    (part(type="input_audio"), "input[0].content[0].type", UNSUPPORTED),
    (part(type="input_image"), "input[0].content[0].file_id", UNSUPPORTED),
    (part(type="input_image", file_id="f"), "input[0].content[0].file_id", UNSUPPORTED),
    (
        part(type="input_image", image_url=AT_AN_ADDRESS),
        "input[0].content[0].image_url",
        UNSUPPORTED,
    ),
    (part(type="input_image", image_url="data:,x"), "input[0].content[0].image_url", VALUE),
    (part(type="input_image", image_url={"url": "x"}), "input[0].content[0].image_url", TYPE),
    (part(type="input_file", file_id="f"), "input[0].content[0].file_id", UNSUPPORTED),
    (part(type="input_file", file_url="http://x"), "input[0].content[0].file_url", UNSUPPORTED),
    (part(type="input_file", file_data=DATA), "input[0].content[0].file_data", UNSUPPORTED),
    (part(type="input_file", file_data="!"), "input[0].content[0].file_data", UNSUPPORTED),
    ({"model": 5}, "model", TYPE),
    ({"stream": "true"}, "stream", TYPE),
    ({"stream_options": True}, "stream_options", TYPE),
    ({"store": 1}, "store", TYPE),
    ({"background": "yes"}, "background", TYPE),
    ({"background": True, "store": False}, "background", VALUE),
    ({"instructions": ["Hi"]}, "instructions", TYPE),
    ({"previous_response_id": 5}, "previous_response_id", TYPE),
    ({"previous_response_id": ""}, "previous_response_id", "empty_string"),
    ({"conversation": 5}, "conversation", TYPE),
    ({"conversation": {}}, "conversation.id", MISSING),
    (
        {"conversation": "conv_1", "previous_response_id": "resp_1"},
        "previous_response_id",
        "mutually_exclusive_parameters",
    ),
    ({"input": None, "prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    (text_format(type="json_object", schema="x"), "text.format.schema", TYPE),
    ({"include": "all"}, "include", TYPE),
    ({"include": [5]}, "include[0]", TYPE),
    ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
    ({"max_output_tokens": 1.5}, "max_output_tokens", TYPE),
    ({"max_tool_calls": 0}, "max_tool_calls", "integer_below_min_value"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": "1"}, "temperature", TYPE),
    ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
    ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
    ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"logit_bias": {"x": 1}}, "logit_bias", VALUE),
    ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs.messages", UNSUPPORTED),
    ({"truncation": "oldest"}, "truncation", VALUE),
    ({"reasoning": "low"}, "reasoning", TYPE),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", VALUE),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary", VALUE),
    ({"text": "json"}, "text", TYPE),
    ({"text": {"verbosity": "loud"}}, "text.verbosity", VALUE),
    (text_format(), "text.format.type", MISSING),
    (text_format(type="xml"), "text.format.type", VALUE),
    (text_format(type="json_schema", name="n"), "text.format.schema", MISSING),
    (text_format(type="json_schema", schema="x"), "text.format.schema", TYPE),
    ({"metadata": []}, "metadata", TYPE),
    ({"metadata": {"a": 5}}, "metadata.a", TYPE),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "object_above_max_properties"),
    ({"metadata": {"k" * 65: "x"}}, "metadata", "string_above_max_length"),
    ({"metadata": {"k": "x" * 513}}, "metadata.k", "string_above_max_length"),
    ({"tools": {}}, "tools", TYPE),
    ({"tools": ["f"]}, "tools[0]", TYPE),
    (tool(), "tools[0].type", MISSING),
    (tool(type="function"), "tools[0].name", MISSING),
    (tool(type="function", name=""), "tools[0].name", "empty_string"),
    (tool(type="function", name="f", parameters=[]), "tools[0].parameters", TYPE),
    (tool(type="function", name="f", strict="yes"), "tools[0].strict", TYPE),
    (tool(type="custom"), "tools[0].name", MISSING),
    (tool(type="namespace", name="n"), "tools[0].tools", MISSING),
    (tool(type="namespace", name="n", tools=[{}]), "tools[0].tools[0].type", MISSING),
    ({"tool_choice": "required"}, "tool_choice", VALUE),
    (choice("required", SEARCH), "tool_choice", VALUE),
    (choice("always"), "tool_choice", TYPE),
    (choice(5), "tool_choice", TYPE),
    (choice({}), "tool_choice.type", MISSING),
    (choice({"type": "function"}), "tool_choice.name", MISSING),
    (choice({"type": "function", "name": "g"}), "tool_choice", VALUE),
    (choice({"type": "web_search"}, SEARCH, FUNCTION), "tool_choice", UNSUPPORTED),
    (choice({"type": "mcp", "server_label": "s"}), "tool_choice", UNSUPPORTED),
    (choice({"type": "allowed_tools"}), "tool_choice.tools", MISSING),
    (
        choice({"type": "allowed_tools", "mode": "no", "tools": []}),
        "tool_choice.mode",
        VALUE,
    ),
    (
        choice({"type": "allowed_tools", "tools": [{"type": "function", "name": "g"}]}, CUSTOM),
        "tool_choice",
        VALUE,
    ),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSALS, ids=lambda value: str(value)[:60])
def test_a_wrong_field_is_refused_by_name(fields: Json, param: str, code: str) -> None:
    with pytest.raises(errors.InvalidField) as refused:
        parsed(**fields).resolve(Past())
    error = DIALECT.error(refused.value, caller()).body["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert param in error["message"] or code in ("unsupported_parameter", VALUE)


@pytest.mark.parametrize("fields", [{"model": None}, {"input": None}, {"input": []}])
def test_a_compaction_needs_a_model_and_something_to_compact(fields: Json) -> None:
    with pytest.raises(errors.InvalidField):
        compact(**fields)


def test_items_of_a_conversation_are_refused_by_their_place() -> None:
    for values, field in (
        ("Hi", "items"),
        ([5], "items.0"),
        ([{"role": "user"}, {"role": "robot"}], "items.1.role"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "items.0.content.0.type"),
    ):
        with pytest.raises(errors.InvalidField) as refused:
            new_items(values, {})
        assert refused.value.field == field


def test_the_output_of_a_call_that_nobody_made_does_not_go_on_from_anything() -> None:
    past = items(user("Hi"), call("f", 1))
    assert answered(past, previous_response_id="resp_1", input=[result("x", 1)])
    with pytest.raises(errors.InvalidField, match="No tool call found .* call_id call_2") as caught:
        answered(past, previous_response_id="resp_1", input=[result("x", 2)])
    assert caught.value.field == "input"
    # A caller that sends the history may have left the call out.
    assert answered(input=[user("Hi"), result("x", 2)])


async def test_a_prompt_that_does_not_fit_is_the_inputs_fault() -> None:
    reply = DIALECT.error(errors.ContextTooLong(9000, 4096), caller())
    error = reply.body["error"]
    assert (reply.status, error["param"], error["code"]) == (
        400,
        "input",
        "context_length_exceeded",
    )
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (9000, 4096)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.PreviousNotFound("resp_x"), 400, "previous_response_not_found"),
        (errors.ItemNotFound("msg_x"), 404, None),
        (errors.ResponseNotFound("resp_x"), 404, None),
        (errors.ConversationNotFound("conv_x"), 404, None),
        (errors.NotCancellable(), 400, None),
        (errors.QueueFull(limit=1), 503, "queue_full"),
    ],
)
def test_each_error_has_its_status_and_code(
    error: errors.MlxdError, status: int, code: str | None
) -> None:
    reply = DIALECT.error(error, caller())
    assert (reply.status, reply.body["error"]["code"]) == (status, code)


async def test_a_refusal_goes_out_before_a_stream_begins() -> None:
    server = front(*SCRIPTS["text"], dialects=(DIALECT,))
    response = await server.post({"model": "demo", "input": [{}], "stream": True}, RESPONSES)
    assert response.status_code == 400
    assert (await error_of(response))["param"] == "input[0].role"
    assert not server.engine.requests
