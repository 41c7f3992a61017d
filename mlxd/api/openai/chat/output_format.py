"""What a Chat Completions request wants its answer to look like, in OpenAI's words and others'."""

import json
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from mlxd.api.openai.chat.wire import ChatRequest, JsonSchemaFormat
from mlxd.api.openai.errors import wrong_value
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


def output(wire: ChatRequest) -> Output:
    """The one form of output that is requested; raises `InvalidField` when there are several."""
    return next(iter(_forms(wire).values()), TextOutput())


def output_places(wire: ChatRequest) -> dict[str, str]:
    """Where the form of the output stands, and the schema in it."""
    field = next(iter(_forms(wire)), "response_format")
    inner = ".json_schema.schema" if isinstance(wire.response_format, JsonSchemaFormat) else ""
    return {"response_format": field, "response_format.schema": f"{field}{inner}"}


def _forms(wire: ChatRequest) -> dict[str, Output]:
    """The forms by the fields that ask for them: one, or none."""
    forms: dict[str, Output] = {}
    match wire.response_format:
        case None | TextFormat():
            pass
        case JsonObjectFormat():
            forms["response_format"] = JsonOutput()
        case JsonSchemaFormat(json_schema=described):
            schema = msgspec.json.encode(described.schema_ or {}).decode()
            strict = described.strict or False
            forms["response_format"] = JsonSchemaOutput(schema, described.name, strict)
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
    return forms


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
