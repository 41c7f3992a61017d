"""The body of a Responses request as it arrives, checked field by field."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mlxd.api.openai.responses.format.items import InputItems, user_message
from mlxd.api.openai.responses.format.output_items import Style
from mlxd.api.openai.responses.format.tools import OfferedTool, WireChoice
from mlxd.api.openai.sampling import Effort, SamplingFields, TokenLimit
from mlxd.api.openai.wire import (
    AN_OBJECT,
    FAIL_FAST,
    TEXT_OR_OBJECT,
    TEXT_OR_OBJECTS,
    JsonObjectFormat,
    TextFormat,
    Wire,
    text_or,
    type_tag,
)

UNHEEDED = (
    *("moderation", "context_management", "client_metadata", "prompt_cache_options", "prompt"),
    *("prompt_cache_retention",),
)
"""Fields of the API that change nothing here: ignored and named, like unknown ones."""

ReasoningEvents = Literal["auto", "text", "summary", "none"]
"""How thinking is shown; `auto` goes by the request."""


class JsonSchemaFormat(Wire):
    type: Literal["json_schema"]
    name: str = "response"
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None
    description: str | None = None


Format = Annotated[
    Annotated[TextFormat, Tag("#text")]
    | Annotated[JsonObjectFormat, Tag("#json_object")]
    | Annotated[JsonSchemaFormat, Tag("#json_schema")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class TextOptions(Wire):
    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningFields(Wire):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """The older name of `summary`."""
    context: Any = None
    mode: Any = None


class StreamOptions(Wire):
    include_obfuscation: bool | None = None


class ConversationReference(Wire):
    id: Annotated[str, Field(min_length=1)]


ConversationOrId = Annotated[
    ConversationReference, text_or(dict, lambda name: {"id": name}, TEXT_OR_OBJECT)
]


class HistoryRequest(Wire):
    """A body that says what the model is to read; null is the same as absent."""

    model: str | None = None
    input: Annotated[InputItems, text_or(list, user_message, TEXT_OR_OBJECTS)] | None = None
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(min_length=1)] | None = None
    conversation: ConversationOrId | None = None
    prompt_cache_key: str | None = None


class CompactRequest(HistoryRequest):
    """A body of `compact`."""

    model: str
    tools: Annotated[list[OfferedTool], FAIL_FAST] | None = None
    """Those of the conversation; they are described as in its turns, and can't be called."""
    service_tier: Any = None


class ResponsesRequest(HistoryRequest, SamplingFields):
    """A body of `respond`, or of `count`."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    generate: bool | None = None
    """False over a WebSocket: only get ready for the turn that comes."""
    store: bool | None = None
    include: list[str] | None = None
    max_output_tokens: TokenLimit | None = None
    max_tool_calls: TokenLimit | None = None
    tools: Annotated[list[OfferedTool], FAIL_FAST] | None = None
    tool_choice: WireChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningFields | None = None
    truncation: Literal["auto", "disabled"] | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    prompt: Any = None
    moderation: Any = None
    context_management: Any = None
    client_metadata: Any = None

    def includes(self, name: str) -> bool:
        """Whether `name` is to be part of the answer."""
        return name in (self.include or [])

    def reasoning_style(self, setting: ReasoningEvents) -> Style:
        """How thinking is shown, by the request where the server leaves it to that."""
        if setting != "auto":
            return setting
        reasoning = self.reasoning or ReasoningFields()
        if reasoning.effort == "none" or reasoning.summary == "none":
            return "none"
        return "summary" if reasoning.summary or reasoning.generate_summary else "text"
