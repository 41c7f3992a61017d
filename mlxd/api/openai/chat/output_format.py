"""What a Chat Completions request wants its answer to look like, in OpenAI's words and others'."""

import json
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from mlxd.api.openai.chat.wire import ChatRequest, JsonSchemaFormat
from mlxd.api.openai.errors import missing, wrong_value
from mlxd.api.openai.wire import JsonObjectFormat, TextFormat
from mlxd.messages import (
    GrammarOutput,
    JsonOutput,
    JsonSchemaOutput,
    Output,
    RegexOutput,
    TextOutput,
)

Maker = Callable[[Any], Output]


def output(wire: ChatRequest) -> tuple[str, Output]:
    """The one form of output that is requested, and the field that does; the text's is empty.

    Raises `InvalidField` when there are several.
    """
    forms: dict[str, Output] = {}
    match wire.response_format:
        case None | TextFormat():
            pass
        case JsonObjectFormat():
            forms["response_format"] = wire.response_format.output
        case JsonSchemaFormat():
            forms["response_format"] = _described(wire.response_format)
        case _:
            assert_never(wire.response_format)
    forms |= _named(wire, _FIELDS)
    if structured := wire.structured_outputs:
        forms |= _named(structured, _STRUCTURED, "structured_outputs.")
        if structured.json_object:
            forms["structured_outputs.json_object"] = JsonOutput()
    if len(forms) > 1:
        first, second = list(forms)[:2]
        raise wrong_value(second, f"it can't be combined with '{first}'.")
    return next(iter(forms.items()), ("", TextOutput()))


def schema_place(wire: ChatRequest, field: str) -> str:
    """Where in the form of output that `field` requests its schema stands."""
    match wire.response_format:
        case JsonSchemaFormat(json_schema=inner) if inner is not None:
            return "response_format.json_schema.schema"
        case JsonSchemaFormat() | JsonObjectFormat():
            return "response_format.schema"
    return field


def _described(format_: JsonSchemaFormat) -> Output:
    inner, beside = format_.json_schema, format_.schema_
    if inner is None and beside is None:
        raise missing("response_format.json_schema")
    if inner is not None and beside is not None:
        why = "it can't be combined with 'response_format.json_schema'."
        raise wrong_value("response_format.schema", why)
    described = inner or format_
    schema = msgspec.json.encode(described.schema_ or {}).decode()
    return JsonSchemaOutput(schema, described.name, described.strict or False)


def _named(wire: object, makers: Mapping[str, Maker], prefix: str = "") -> dict[str, Output]:
    """What the fields of `wire` ask for, by the fields' names."""
    return {
        f"{prefix}{name.rstrip('_')}": make(value)
        for name, make in makers.items()
        if (value := getattr(wire, name)) is not None
    }


def _schema(text: str) -> Output:
    return JsonSchemaOutput(text, strict=True)


def _choice(values: list[str]) -> Output:
    # Lark's strings are JSON's.
    choices = " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    return GrammarOutput(f"start: {choices}\n")


_FIELDS: dict[str, Maker] = {
    **{"guided_json": _schema, "guided_regex": RegexOutput, "guided_choice": _choice},
    **{"guided_grammar": GrammarOutput, "json_schema": _schema, "regex": RegexOutput},
    **{"ebnf": GrammarOutput, "grammar": GrammarOutput},
}
_STRUCTURED: dict[str, Maker] = {
    **{"json_": _schema, "regex": RegexOutput, "choice": _choice, "grammar": GrammarOutput},
}
