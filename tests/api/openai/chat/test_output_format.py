"""How Chat Completions asks for structured output and thinking, as the engine gets to know it."""

import json
from typing import Any

import pytest

from mlxd.api.dialect import Caller
from mlxd.api.openai.chat.dialect import OpenAIChat
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


def neutral(**fields: Any) -> GenerateRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return OpenAIChat().parse(body, Caller("req_1")).requests[0]


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
