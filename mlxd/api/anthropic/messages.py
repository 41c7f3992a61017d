"""The messages of a Messages request, in no dialect.

What is said the same becomes the same, so that a longer conversation keeps its beginning: a string
is one block of text, empty text is nothing, and ids of messages, `cache_control` and signatures are
left out. Neighbours of one role are one message.
"""

import binascii
import html
from base64 import b64decode
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import assert_never

import msgspec
from pydantic import ValidationError

from mlxd.api.anthropic.content_blocks import (
    Base64Source,
    CompactionBlock,
    ContentBlock,
    ContentSource,
    DocumentBlock,
    ImageBlock,
    InlineDefinition,
    NamedReference,
    NotReadBlock,
    OtherReference,
    OtherSource,
    RedactedBlock,
    ResultItem,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ThinkingBlock,
    ToolChangeBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    WireMessage,
)
from mlxd.api.anthropic.errors import from_pydantic, unsupported, wrong_value
from mlxd.api.anthropic.tools import CustomTool, described, neutral_tool
from mlxd.api.wire.images import ImageRefused, Unseen, image_from_base64
from mlxd.api.wire.opaque_text import unseal
from mlxd.errors import InvalidField
from mlxd.messages import Image, Message, Part, Reasoning, Text, Tool, ToolCall, ToolResult

BILLING = "x-anthropic-billing-header:"
"""How a line of some clients' system prompt begins that is for billing alone, and often another."""

UNREADABLE = "INVALID_JSON"
"""The only key of an `input` that stands for arguments that were no JSON object."""


def system_message(blocks: Sequence[TextBlock]) -> Iterator[Message]:
    """The system prompt, if there is one, without the line that is for billing."""
    texts = []
    for block in blocks:
        billed = block.text.startswith(BILLING)
        texts.append(block.text.partition("\n")[2].lstrip("\n") if billed else block.text)
    if parts := tuple(Text(text) for text in texts if text):
        yield Message("system", parts)


class Translator:
    """Reads one request's messages.

    `known` are the tools that messages may refer to, and `schemas` the places of their schemas;
    `loaded`, by name, those that they did refer to, or brought along. `dropped` are the names of
    blocks that were left out, `unseen` tells of those that are no text.
    """

    def __init__(self, known: dict[str, Tool], schemas: dict[str, str]) -> None:
        self._known = known
        self.schemas = schemas
        self.loaded: dict[str, Tool] = {}
        self.dropped: list[str] = []
        self.unseen = Unseen()

    def messages(self, messages: Sequence[WireMessage]) -> Iterator[Message]:
        """The same conversation; raises `InvalidField` for what can't be honoured."""
        newest = max((n for n, each in enumerate(messages) if each.role == "user"), default=-1)
        translated = (
            (message.role, tuple(self._parts(message, index, newest=index == newest)))
            for index, message in enumerate(messages)
        )
        # Roles must alternate in many chat templates, and clients do not keep to it.
        nonempty = ((role, parts) for role, parts in translated if parts)
        for role, neighbours in groupby(nonempty, key=lambda each: each[0]):
            joined = [part for _, parts in neighbours for part in parts]
            # Results of tools have a role of their own, and come first.
            if results := tuple(part for part in joined if isinstance(part, ToolResult)):
                yield Message("tool", results)
            if rest := tuple(part for part in joined if not isinstance(part, ToolResult)):
                yield Message(role, rest)

    def _parts(self, message: WireMessage, number: int, *, newest: bool) -> Iterator[Part]:
        for index, block in enumerate(message.content):
            field = f"messages.{number}.content.{index}"
            for part in self._block(block, field, None if newest else self.unseen):
                match part:
                    case Reasoning() | ToolCall():
                        owner, what = "assistant", "`tool_use` and `thinking` blocks"
                    case ToolResult() | Image():
                        owner, what = "user", "`tool_result` and `image` blocks"
                    case Text():
                        owner, what = message.role, "text"
                    case _:
                        assert_never(part)
                if message.role != owner:
                    raise wrong_value(field, f"{what} can only be in `{owner}` messages.")
                yield part

    def _block(self, block: ContentBlock, field: str, unseen: Unseen | None) -> Iterator[Part]:
        match block:
            case ThinkingBlock(thinking=thinking, signature=signature):
                # A client that asked for thinking without its text sends the signature alone.
                if thought := thinking or unseal(signature or ""):
                    yield Reasoning(thought)
            case RedactedBlock(data=data):
                if thought := unseal(data):
                    yield Reasoning(thought)
            case ToolUseBlock():
                given = block.input or {}
                # What is no JSON object came as the only value of one; see `call_input`.
                arguments = given.get(UNREADABLE) if len(given) == 1 else None
                if not isinstance(arguments, str):
                    arguments = msgspec.json.encode(given).decode()
                yield ToolCall(block.id, block.name, arguments)
            case ToolResultBlock():
                items = enumerate(block.content)
                parts = (
                    self._item(item, f"{field}.content.{index}", self.unseen)
                    for index, item in items
                )
                result = tuple(part for item in parts for part in item)
                yield ToolResult(block.tool_use_id, result, block.is_error or False)
            case CompactionBlock(content=content):
                if content:
                    yield Text(content)
            case ToolChangeBlock():
                yield from self._change(block, field)
            case NotReadBlock(type=kind):
                self.dropped.append(f"messages.content.{kind}")
            case _:
                yield from self._item(block, field, unseen)

    def _item(self, item: ResultItem, field: str, unseen: Unseen | None) -> Iterator[Text | Image]:
        """What may stand in a tool's result too; what is no text is refused without `unseen`."""
        match item:
            case TextBlock(text=text):
                if text:
                    yield Text(text)
            case ImageBlock():
                yield _image(item, field) if unseen is None else unseen.text("image", field)
            case DocumentBlock():
                try:
                    yield from list(_document(item, field, unseen))
                except InvalidField:
                    if unseen is None:
                        raise
                    yield unseen.text("document", field)
            case SearchResultBlock():
                found = "\n".join(block.text for block in item.content)
                yield Text(_tagged("search_result", found, source=item.source, title=item.title))
            case ToolReferenceBlock(tool_name=name):
                yield Text(self._load(name))
            case _:
                assert_never(item)

    def _change(self, block: ToolChangeBlock, field: str) -> Iterator[Text]:
        match block.tool:
            case InlineDefinition(definition=definition):
                try:
                    tool = neutral_tool(CustomTool.model_validate(definition))
                except ValidationError as error:
                    why = str(from_pydantic(error))
                    raise unsupported(f"{field}.tool.definition", why) from None
                self._known[tool.name] = tool
                self.schemas[tool.name] = f"{field}.tool.definition.input_schema"
                name = tool.name
            case NamedReference(name=name):
                pass
            case OtherReference():
                self.dropped.append(f"messages.content.{block.type}")
                return
            case _:
                assert_never(block.tool)
        if block.type == "tool_addition":
            yield Text(self._load(name))
        else:
            self.loaded.pop(name, None)
            yield Text(f"The tool {name} is no longer available.")

    def _load(self, name: str) -> str:
        """What the model reads of a tool that it may call from here on."""
        if (tool := self._known.get(name)) is None:
            return f"The tool {name} is not available."
        self.loaded[name] = tool
        return described(tool)


def _image(block: ImageBlock, field: str) -> Image:
    match block.source:
        case Base64Source(data=data):
            try:
                return image_from_base64(data, field)
            except ImageRefused as error:
                raise wrong_value(f"{field}.source", str(error)) from None
        case OtherSource(type=kind):
            raise _not_here(kind, f"{field}.source")
        case _:
            assert_never(block.source)


def _document(block: DocumentBlock, field: str, unseen: Unseen | None) -> Iterator[Text | Image]:
    """The document's text in a tag that holds its title, images behind it."""
    source, images = block.source, list[Text | Image]()
    match source:
        case TextSource(data=text):
            pass
        case ContentSource(content=items):
            texts = [item.text for item in items if isinstance(item, TextBlock)]
            text = "\n".join(texts)
            for number, item in enumerate(items):
                if isinstance(item, ImageBlock):
                    place = f"{field}.source.content.{number}"
                    images.append(unseen.text("image", place) if unseen else _image(item, place))
        case Base64Source():
            text = _decoded(source, f"{field}.source")
        case OtherSource(type=kind):
            raise _not_here(kind, f"{field}.source")
        case _:
            assert_never(source)
    if block.context:
        text = f"{_tagged('context', block.context)}\n{text}"
    yield Text(_tagged("document", text, title=block.title))
    yield from images


def _decoded(source: Base64Source, field: str) -> str:
    kind = source.media_type.partition(";")[0].strip().lower()
    if not kind.startswith("text/"):
        why = f"documents of type '{kind[:64]}' are not read here; send their text instead."
        raise unsupported(field, why)
    try:
        return b64decode(source.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise wrong_value(field, "the document is not UTF-8 text in Base64.") from None


def _not_here(kind: str, field: str) -> Exception:
    what = "an address" if kind == "url" else "a file id"
    why = f"nothing is fetched from {what} here; send the content itself."
    return unsupported(field, why)


def _tagged(tag: str, text: str, **attributes: str | None) -> str:
    listed = "".join(
        f' {name}="{html.escape(value)}"' for name, value in attributes.items() if value
    )
    return f"<{tag}{listed}>\n{text}\n</{tag}>"
