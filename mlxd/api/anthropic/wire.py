"""The body of a Messages request as it arrives, checked field by field."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mlxd.api.anthropic.content_blocks import SystemPrompt, WireMessage
from mlxd.api.anthropic.tools import OfferedTool, WireChoice
from mlxd.api.wire.base import AN_OBJECT, FAIL_FAST, Wire, type_tag

MAX_STOPS = 64
MAX_STOP_LENGTH = 256
"""Characters."""


class EnabledThinking(Wire):
    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    display: str | None = None


class AdaptiveThinking(Wire):
    """The model decides."""

    type: Literal["adaptive", "between_tools"]
    display: str | None = None


class DisabledThinking(Wire):
    type: Literal["disabled"]


Thinking = Annotated[
    Annotated[EnabledThinking, Tag("#enabled")]
    | Annotated[AdaptiveThinking, Tag("#adaptive")]
    | Annotated[AdaptiveThinking, Tag("#between_tools")]
    | Annotated[DisabledThinking, Tag("#disabled")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class OutputFormat(Wire):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Wire):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(Wire):
    user_id: str | None = None


class MessagesRequest(Wire):
    """The body, also where tokens are counted; null is the same as absent where that is allowed."""

    messages: Annotated[list[WireMessage], Field(min_length=1), FAIL_FAST]
    model: str | None = None
    system: SystemPrompt | None = None
    tools: Annotated[list[OfferedTool], FAIL_FAST] | None = None
    tool_choice: WireChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """The older place of `output_config.format`."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop_sequences: (
        Annotated[
            list[Annotated[str, Field(max_length=MAX_STOP_LENGTH)]],
            Field(max_length=MAX_STOPS),
        ]
        | None
    ) = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    cache_control: Any = None
