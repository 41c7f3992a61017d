"""The content blocks and messages of Anthropic's API as they arrive.

`cache_control` is taken everywhere and needs nothing: prefixes are always cached.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from mlxd.api.wire.base import AN_OBJECT, FAIL_FAST, NULL_AS_EMPTY, Wire, text_or, type_tag

NOT_READ = frozenset(
    {
        *("server_tool_use", "web_search_tool_result", "web_fetch_tool_result"),
        *("advisor_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result"),
        *("text_editor_code_execution_tool_result", "tool_search_tool_result", "mcp_tool_use"),
        *("mcp_tool_result", "mcp_tool_listing", "container_upload", "fallback"),
    }
)
"""Blocks that tell of what Anthropic's servers did; left out of the prompt, and named."""


class AnyBlock(Wire):
    """What every block may carry."""

    cache_control: Any = None


class TextBlock(AnyBlock):
    type: Literal["text"] = "text"
    text: str


class Base64Source(Wire):
    type: Literal["base64"]
    data: str
    media_type: str = ""


class TextSource(Wire):
    type: Literal["text"]
    data: str
    media_type: str = "text/plain"


class OtherSource(Wire):
    """A file that is not in the request."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["url", "file"]


ImageSource = Annotated[
    Annotated[Base64Source, Tag("#base64")]
    | Annotated[OtherSource, Tag("#url")]
    | Annotated[OtherSource, Tag("#file")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class ImageBlock(AnyBlock):
    type: Literal["image"]
    source: ImageSource


TEXT_OR_BLOCKS = text_or(
    list,
    lambda text: [{"type": "text", "text": text}],
    "a string or an array of content blocks",
)

SourceItem = Annotated[
    Annotated[TextBlock, Tag("#text")] | Annotated[ImageBlock, Tag("#image")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class ContentSource(Wire):
    type: Literal["content"]
    content: Annotated[list[SourceItem], FAIL_FAST, TEXT_OR_BLOCKS, NULL_AS_EMPTY]


DocumentSource = Annotated[
    Annotated[TextSource, Tag("#text")]
    | Annotated[ContentSource, Tag("#content")]
    | Annotated[Base64Source, Tag("#base64")]
    | Annotated[OtherSource, Tag("#url")]
    | Annotated[OtherSource, Tag("#file")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class DocumentBlock(AnyBlock):
    type: Literal["document"]
    source: DocumentSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(AnyBlock):
    type: Literal["search_result"]
    source: str
    title: str
    content: Annotated[list[TextBlock], FAIL_FAST]


class ThinkingBlock(AnyBlock):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedBlock(AnyBlock):
    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(AnyBlock):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any] | None = None
    caller: Any = None
    """Who made the call; some clients send it back."""


class ToolReferenceBlock(AnyBlock):
    """Brings a tool into the conversation that was deferred so far."""

    type: Literal["tool_reference"]
    tool_name: str


class NotReadBlock(Wire):
    """One of `NOT_READ`, whatever is in it."""

    model_config = ConfigDict(extra="ignore")

    type: str


def _block_type_tag(value: dict[str, Any]) -> str | None:
    tag = type_tag(value)
    return "#server_tool_use" if tag is not None and tag[1:] in NOT_READ else tag


ResultItem = Annotated[
    Annotated[TextBlock, Tag("#text")]
    | Annotated[ImageBlock, Tag("#image")]
    | Annotated[DocumentBlock, Tag("#document")]
    | Annotated[SearchResultBlock, Tag("#search_result")]
    | Annotated[ToolReferenceBlock, Tag("#tool_reference")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class ToolResultBlock(AnyBlock):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[list[ResultItem], FAIL_FAST, TEXT_OR_BLOCKS, NULL_AS_EMPTY] = Field(
        default_factory=list
    )
    is_error: bool | None = None


class NamedReference(Wire):
    type: Literal["tool_reference"]
    name: str


class InlineDefinition(Wire):
    """A tool that is defined in the middle of a conversation."""

    type: Literal["tool_definition"]
    definition: dict[str, Any]


class OtherReference(Wire):
    """Tools that only Anthropic's servers can reach."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["mcp_tool_reference", "mcp_toolset_reference"]


ChangedTool = Annotated[
    Annotated[NamedReference, Tag("#tool_reference")]
    | Annotated[InlineDefinition, Tag("#tool_definition")]
    | Annotated[OtherReference, Tag("#mcp_tool_reference")]
    | Annotated[OtherReference, Tag("#mcp_toolset_reference")],
    Discriminator(type_tag),
    AN_OBJECT,
]


class ToolChangeBlock(AnyBlock):
    """From here on a tool may, or may no longer, be called."""

    type: Literal["tool_addition", "tool_removal"]
    tool: ChangedTool


class CompactionBlock(AnyBlock):
    """What stands for the earlier conversation; null where that failed."""

    type: Literal["compaction"]
    content: str | None = None


ContentBlock = Annotated[
    Annotated[TextBlock, Tag("#text")]
    | Annotated[ImageBlock, Tag("#image")]
    | Annotated[DocumentBlock, Tag("#document")]
    | Annotated[SearchResultBlock, Tag("#search_result")]
    | Annotated[ThinkingBlock, Tag("#thinking")]
    | Annotated[RedactedBlock, Tag("#redacted_thinking")]
    | Annotated[ToolUseBlock, Tag("#tool_use")]
    | Annotated[ToolResultBlock, Tag("#tool_result")]
    | Annotated[ToolReferenceBlock, Tag("#tool_reference")]
    | Annotated[ToolChangeBlock, Tag("#tool_addition")]
    | Annotated[ToolChangeBlock, Tag("#tool_removal")]
    | Annotated[CompactionBlock, Tag("#compaction")]
    | Annotated[NotReadBlock, Tag("#server_tool_use")],
    Discriminator(_block_type_tag),
    AN_OBJECT,
]


class WireMessage(Wire):
    """A turn; an answer may come back as a whole, with what was said about it."""

    id: Any = None
    type: Any = None
    model: Any = None
    stop_reason: Any = None
    stop_sequence: Any = None
    usage: Any = None
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[ContentBlock], FAIL_FAST, TEXT_OR_BLOCKS, NULL_AS_EMPTY]


SystemPrompt = Annotated[list[TextBlock], FAIL_FAST, TEXT_OR_BLOCKS, NULL_AS_EMPTY]
