"""What a Chat Completions request wants its answer to look like, in OpenAI's words and others'."""

import json
from collections.abc import Callable, Mapping
from typing import Any, assert_never

import msgspec

from mlxd.api.openai.chat.wire import (
    ChatRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    StructuredOutputs,
    TextFormat,
)
from mlxd.api.openai.errors import wrong_value
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
    """The one form of output that is asked for; raises `InvalidField` when there are several."""
    asked = {**_formats(wire), **_named(wire, _FIELDS), **_structured(wire.structured_outputs)}
    if len(asked) > 1:
        first, second = list(asked)[:2]
        raise wrong_value(second, f"it can't be combined with '{first}'.")
    return next(iter(asked.values()), TextOutput())


def _formats(wire: ChatRequest) -> dict[str, Output]:
    match wire.response_format:
        case None | TextFormat():
            return {}
        case JsonObjectFormat():
            return {"response_format": JsonOutput()}
        case JsonSchemaFormat(json_schema=described):
            schema = msgspec.json.encode(described.schema_ or {}).decode()
            strict = described.strict or False
            return {"response_format": JsonSchemaOutput(schema, described.name, strict)}
        case _:
            assert_never(wire.response_format)


def _structured(wanted: StructuredOutputs | None) -> dict[str, Output]:
    if wanted is None:
        return {}
    found = _named(wanted, _STRUCTURED)
    if wanted.json_object:
        found["json_object"] = JsonOutput()
    return {f"structured_outputs.{name.rstrip('_')}": made for name, made in found.items()}


def _named(wire: object, makers: Mapping[str, Maker]) -> dict[str, Output]:
    values = {name: getattr(wire, name) for name in makers}
    return {name: makers[name](value) for name, value in values.items() if value is not None}


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
