"""What the wire models of OpenAI's APIs have in common; the rest is in `wire`."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, Field

from mlxd.api.wire.base import (
    AN_OBJECT,
    FAIL_FAST,
    NULL_AS_EMPTY,
    ToolName,
    Wire,
    expected,
    text_or,
    type_tag,
    unknown_fields,
    without_nulls,
)
from mlxd.messages import JsonOutput, JsonSchemaOutput, Output

__all__ = (
    "AN_OBJECT",
    "FAIL_FAST",
    "NULL_AS_EMPTY",
    "ToolName",
    "Wire",
    "expected",
    "text_or",
    "type_tag",
    "unknown_fields",
    "without_nulls",
)

TEXT_OR_OBJECTS = "one of a string or array of objects"
TEXT_OR_OBJECT = "one of a string or object"


class TextPart(Wire):
    """Text under any of its names; what an answer carries with it says nothing new."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str
    annotations: Any = None
    logprobs: Any = None


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: str


class TextFormat(Wire):
    type: Literal["text"]


class JsonObjectFormat(Wire):
    """Any object; with a `schema`, as other servers have it, one that satisfies it."""

    type: Literal["json_object"]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None

    @property
    def output(self) -> Output:
        """The same in no dialect."""
        if not self.schema_:
            return JsonOutput()
        return JsonSchemaOutput(msgspec.json.encode(self.schema_).decode())


def arguments_text(value: object) -> object:
    """Arguments of a past call: any text, as the model may have broken it; some send objects."""
    if value is None:
        return ""
    return msgspec.json.encode(value).decode() if isinstance(value, dict) else value


CallArguments = Annotated[str, BeforeValidator(arguments_text)]
