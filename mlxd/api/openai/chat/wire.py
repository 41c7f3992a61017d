"""The body of a Chat Completions request as it arrives, checked field by field."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, Discriminator, Field, Tag

from mlxd.api.openai.chat.messages import ChatMessage
from mlxd.api.openai.chat.tools import LegacyChoice, OfferedTool, WireChoice
from mlxd.api.openai.sampling import AnswerLimit, Effort, SamplingFields, ThinkingOption
from mlxd.api.openai.tools import FunctionDefinition
from mlxd.api.openai.wire import (
    AN_OBJECT,
    FAIL_FAST,
    TEXT_OR_OBJECT,
    JsonObjectFormat,
    TextFormat,
    Wire,
    expected,
    type_tag,
)
from mlxd.messages import read_switch

MAX_CHOICES = 8

HARMLESS = frozenset(
    {
        *("user", "metadata", "store", "safety_identifier", "verbosity"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
        *("prediction", "modalities", "audio", "web_search_options", "moderation"),
    }
)
"""Fields of the API that change nothing here: ignored and named, like unknown ones."""


MAX_CHOSEN = 1000
"""Texts that an answer may be chosen from."""


class StreamOptions(Wire):
    include_usage: bool | None = None


class JsonSchema(Wire):
    name: str = "response"
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(Wire):
    """The schema is inside of `json_schema`; other servers, and Responses, have it beside."""

    type: Literal["json_schema"]
    json_schema: JsonSchema | None = None
    name: str = "response"
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("#text")]
    | Annotated[JsonObjectFormat, Tag("#json_object")]
    | Annotated[JsonSchemaFormat, Tag("#json_schema")],
    Discriminator(type_tag),
    AN_OBJECT,
]


def _as_schema_text(value: object) -> object:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str):
        return value
    raise expected(TEXT_OR_OBJECT)


SchemaText = Annotated[str, BeforeValidator(_as_schema_text)]
Chosen = Annotated[
    list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_CHOSEN)
]


class StructuredOutputs(Wire):
    """How vLLM's clients ask for constrained output."""

    json_: Annotated[SchemaText | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Chosen | None = None
    grammar: str | None = None
    json_object: bool | None = None


def _as_thinking(value: object) -> object:
    if isinstance(value, dict):
        return value
    if (switch := read_switch(value)) is None:
        raise expected("an object")
    return {"type": "enabled" if switch else "disabled"}


class ChatRequest(SamplingFields):
    """The whole body; null is the same as absent everywhere but in `messages`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1), FAIL_FAST]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: str | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: AnswerLimit | None = None
    max_completion_tokens: AnswerLimit | None = None
    logprobs: bool | None = None
    tools: Annotated[list[OfferedTool], FAIL_FAST] | None = None
    tool_choice: WireChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], FAIL_FAST] | None = None
    function_call: LegacyChoice | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    thinking: Annotated[ThinkingOption, BeforeValidator(_as_thinking)] | None = None
    # How clients of vLLM, SGLang and llama.cpp ask for constrained output.
    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaText | None = None
    guided_regex: str | None = None
    guided_choice: Chosen | None = None
    guided_grammar: str | None = None
    json_schema: SchemaText | None = None
    regex: str | None = None
    ebnf: str | None = None
    grammar: str | None = None


HONOURED = frozenset(ChatRequest.model_fields)
