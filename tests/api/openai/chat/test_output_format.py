"""How Chat Completions asks for structured output and thinking, as the engine gets to know it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mlxd.api.dialect import Caller, ParsedCall
from mlxd.api.openai.chat.dialect import OpenAIChat
from mlxd.api.openai.sampling import MAX_TOKENS
from mlxd.errors import InvalidField
from mlxd.messages import (
    GenerateRequest,
    GrammarOutput,
    JsonOutput,
    JsonSchemaOutput,
    Output,
    RegexOutput,
    TextOutput,
)

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
TEXT = json.dumps(SCHEMA, separators=(",", ":"))


def parsed(**fields: Any) -> ParsedCall:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return OpenAIChat().parse(body, Caller("req_1"))


def neutral(**fields: Any) -> GenerateRequest:
    return parsed(**fields).requests[0]


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({}, TextOutput()),
        ({"response_format": {"type": "text"}}, TextOutput()),
        ({"response_format": {"type": "json_object"}}, JsonOutput()),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": SCHEMA},
                }
            },
            JsonSchemaOutput(TEXT, "n", strict=True),
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA},
                }
            },
            JsonSchemaOutput(TEXT, "n", strict=False),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            JsonSchemaOutput(TEXT),
        ),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, JsonSchemaOutput(TEXT)),
        (
            {"response_format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
            JsonSchemaOutput(TEXT, "n"),
        ),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JsonSchemaOutput(TEXT)),
        ({"response_format": {"type": "json_object", "schema": {}}}, JsonOutput()),
        ({"response_format": {"type": "json_object", "schema": None}}, JsonOutput()),
        ({"guided_json": SCHEMA}, JsonSchemaOutput(TEXT, strict=True)),
        ({"guided_json": TEXT}, JsonSchemaOutput(TEXT, strict=True)),
        ({"guided_regex": "a+"}, RegexOutput("a+")),
        ({"guided_choice": ["yes", 'n"o']}, GrammarOutput('start: "yes" | "n\\"o"\n')),
        ({"guided_grammar": "start: A"}, GrammarOutput("start: A")),
        ({"structured_outputs": {"json": SCHEMA}}, JsonSchemaOutput(TEXT, strict=True)),
        ({"structured_outputs": {"regex": "a+"}}, RegexOutput("a+")),
        ({"structured_outputs": {"choice": ["a"]}}, GrammarOutput('start: "a"\n')),
        ({"structured_outputs": {"grammar": "start: A"}}, GrammarOutput("start: A")),
        ({"structured_outputs": {"json_object": True}}, JsonOutput()),
        ({"json_schema": SCHEMA}, JsonSchemaOutput(TEXT, strict=True)),
        ({"regex": "a+"}, RegexOutput("a+")),
        ({"ebnf": 'root ::= "a"'}, GrammarOutput('root ::= "a"')),
        ({"grammar": 'root ::= "a"'}, GrammarOutput('root ::= "a"')),
    ],
)
def test_every_way_to_ask_for_a_form_is_one_output(fields: dict[str, Any], output: Output) -> None:
    assert neutral(**fields).output == output
    assert parsed(**fields).ignored == ()


@pytest.mark.parametrize(
    ("format_", "field"),
    [
        ({"type": "json_object", "schema": "x"}, "response_format.schema"),
        ({"type": "json_object", "schema": True}, "response_format.schema"),
        ({"type": "json_schema", "schema": []}, "response_format.schema"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": 1}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": SCHEMA}, "schema": SCHEMA},
            "response_format.schema",
        ),
    ],
)
def test_a_schema_that_is_none_is_refused_by_its_place(format_: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        neutral(response_format=format_)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_regex": "a+"}, "guided_regex"),
        ({"structured_outputs": {"json": SCHEMA}}, "structured_outputs.json"),
    ],
)
def test_what_the_engine_says_of_the_form_names_the_field_that_asked(
    fields: dict[str, Any], place: str
) -> None:
    with pytest.raises(InvalidField) as refused, parsed(**fields).in_callers_words():
        raise InvalidField("response_format", "value", "Nothing can satisfy it.")
    assert refused.value.field == place


THINKING: list[tuple[dict[str, Any], bool | None]] = [
    *(({"enable_thinking": text}, True) for text in (True, "true", "True", " TRUE ", 1)),
    *(({"enable_thinking": text}, False) for text in (False, "false", "False", 0)),
    ({"enable_thinking": None}, None),
    *(({"thinking": {"type": kind}}, None) for kind in ("auto", "adaptive")),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, True),
    ({"thinking": {"type": "disabled"}}, False),
    ({"thinking": "false"}, False),
    ({"thinking": {"type": "enabled"}, "reasoning_effort": "none"}, False),
    ({"thinking": {"type": "enabled"}, "enable_thinking": False}, False),
]


@pytest.mark.parametrize(("fields", "enabled"), THINKING)
def test_thinking_is_switched_by_what_reads_as_true_or_false(
    fields: dict[str, Any], enabled: bool | None
) -> None:
    call = parsed(**fields)
    assert (call.requests[0].reasoning.enabled, call.ignored) == (enabled, ())
    if "enable_thinking" in fields and len(fields) == 1:
        for name in ("enable_thinking", "thinking"):
            arguments = {name: fields["enable_thinking"]}
            request = neutral(chat_template_kwargs=arguments)
            assert request.reasoning.enabled == enabled
            expected = {} if enabled is None else {name: enabled}
            assert request.template_args == expected


def test_the_budget_may_stand_in_the_switch_of_thinking() -> None:
    thinking = {"type": "enabled", "budget_tokens": 9}
    assert neutral(thinking=thinking).reasoning.budget == 9
    assert neutral(thinking=thinking, thinking_budget=5).reasoning.budget == 5


@pytest.mark.parametrize("value", ["yes", "no", "on", "1", "", 2, -1, 0.5, [], {}])
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (lambda value: {"enable_thinking": value}, "enable_thinking"),
        (
            lambda value: {"chat_template_kwargs": {"enable_thinking": value}},
            "chat_template_kwargs.enable_thinking",
        ),
        (
            lambda value: {"chat_template_kwargs": {"clear_thinking": value}},
            "chat_template_kwargs.clear_thinking",
        ),
        (lambda value: {"thinking": value or "no"}, "thinking"),
    ],
)
def test_anything_else_for_a_switch_is_refused_by_name(
    fields: Callable[[Any], dict[str, Any]], place: str, value: Any
) -> None:
    with pytest.raises(InvalidField) as refused:
        neutral(**fields(value))
    assert refused.value.field.startswith(place)


def test_minus_one_is_no_limit() -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        assert neutral(**{field: -1}).max_tokens == MAX_TOKENS
        for wrong in (0, -2, -1.0, "-1"):
            with pytest.raises(InvalidField):
                neutral(**{field: wrong})


def test_many_stop_strings_are_taken() -> None:
    many = [f"stop{number}" for number in range(32)]
    assert neutral(stop=many).stop == tuple(many)
    assert neutral(stop=["ab", "a", "a", ""]).stop == ("ab", "a", "a")
    with pytest.raises(InvalidField, match="maximum length 32, but got an array with length 33"):
        neutral(stop=[*many, "x"])


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        ({}, None),
        ({"thinking_budget": 0}, 0),
        ({"thinking_budget": 64}, 64),
        ({"chat_template_kwargs": {"thinking_budget": 32}}, 32),
        ({"thinking_budget": 64, "chat_template_kwargs": {"thinking_budget": 32}}, 64),
    ],
)
def test_a_thinking_budget_reaches_the_engine(fields: dict[str, Any], budget: int | None) -> None:
    assert neutral(**fields).reasoning.budget == budget
