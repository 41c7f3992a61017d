"""The messages of a Chat Completions request, and what they say in no dialect."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, assert_never

from pydantic import Discriminator, Tag

from mlxd.api.openai.errors import unsupported
from mlxd.api.openai.images import read_image
from mlxd.api.openai.tools import custom_arguments
from mlxd.api.openai.wire import (
    AN_OBJECT,
    FAIL_FAST,
    TEXT_OR_OBJECTS,
    CallArguments,
    RefusalPart,
    TextPart,
    Wire,
    text_or,
    type_tag,
)
from mlxd.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult


class ImageUrl(Wire):
    url: str


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: ImageUrl


class OtherPart(Wire):
    """A part that the API has and this server can't read."""

    type: Literal["input_audio", "file"]


ContentPart = Annotated[
    Annotated[TextPart, Tag("#text")]
    | Annotated[TextPart, Tag("#input_text")]
    | Annotated[TextPart, Tag("#output_text")]
    | Annotated[ImagePart, Tag("#image_url")]
    | Annotated[RefusalPart, Tag("#refusal")]
    | Annotated[OtherPart, Tag("#input_audio")]
    | Annotated[OtherPart, Tag("#file")],
    Discriminator(type_tag),
    AN_OBJECT,
]


Content = Annotated[
    list[ContentPart],
    FAIL_FAST,
    text_or(list, lambda text: [{"type": "text", "text": text}], TEXT_OR_OBJECTS),
]


class FunctionCall(Wire):
    name: str
    arguments: CallArguments = ""


class FunctionToolCall(Wire):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class CustomCall(Wire):
    name: str
    input: str = ""


class CustomToolCall(Wire):
    id: str
    type: Literal["custom"]
    custom: CustomCall


def _call_type_tag(value: dict[str, Any]) -> str:
    # Often left out.
    return f"#{value.get('type') or 'function'}"


PastCall = Annotated[
    Annotated[FunctionToolCall, Tag("#function")] | Annotated[CustomToolCall, Tag("#custom")],
    Discriminator(_call_type_tag),
    AN_OBJECT,
]


class SystemMessage(Wire):
    """`developer` is the newer name of the role."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(Wire):
    role: Literal["user"]
    content: Content


class AssistantMessage(Wire):
    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Annotated[list[PastCall], FAIL_FAST] | None = None
    function_call: FunctionCall | None = None


class ToolMessage(Wire):
    role: Literal["tool"]
    tool_call_id: str
    content: Content | None = None


class FunctionMessage(Wire):
    role: Literal["function"]
    name: str
    content: Content | None = None


def _role_tag(value: dict[str, Any]) -> str | None:
    role = value.get("role")
    return None if role is None else f"#{role}"


ChatMessage = Annotated[
    Annotated[SystemMessage, Tag("#system")]
    | Annotated[SystemMessage, Tag("#developer")]
    | Annotated[UserMessage, Tag("#user")]
    | Annotated[AssistantMessage, Tag("#assistant")]
    | Annotated[ToolMessage, Tag("#tool")]
    | Annotated[FunctionMessage, Tag("#function")],
    Discriminator(_role_tag),
    AN_OBJECT,
]


def neutral_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The same turns in no dialect; raises `InvalidField` for parts that can't be honoured.

    Content is the same whether it came as a string or as parts: empty text is left out.
    """
    translated = []
    legacy_calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        field = f"messages.{index}"
        match message:
            case SystemMessage():
                translated.append(Message("system", tuple(_texts(message.content, field))))
            case UserMessage():
                translated.append(Message("user", tuple(_content(message.content, field))))
            case AssistantMessage():
                # Calls had no ids then: a result goes to the last call of its function.
                if message.function_call is not None:
                    legacy_calls[message.function_call.name] = f"call_{index}"
                translated.append(Message("assistant", tuple(_assistant(message, index))))
            case ToolMessage():
                parts = tuple(_content(message.content or [], field))
                result = ToolResult(message.tool_call_id, parts)
                translated.append(Message("tool", (result,)))
            case FunctionMessage():
                parts = tuple(_content(message.content or [], field))
                call_id = legacy_calls.get(message.name, f"call_{message.name}")
                translated.append(Message("tool", (ToolResult(call_id, parts),)))
            case _:
                assert_never(message)
    return tuple(translated)


def _assistant(message: AssistantMessage, index: int) -> Iterator[Part]:
    if reasoning := message.reasoning_content or message.reasoning:
        yield Reasoning(reasoning)
    yield from _texts(message.content or [], f"messages.{index}")
    if message.refusal:
        # The model's own words all the same; the next answer may refer to them.
        yield Text(message.refusal)
    for call in message.tool_calls or []:
        if isinstance(call, FunctionToolCall):
            yield ToolCall(call.id, call.function.name, call.function.arguments)
        else:
            yield ToolCall(call.id, call.custom.name, custom_arguments(call.custom.input))
    if legacy := message.function_call:
        yield ToolCall(f"call_{index}", legacy.name, legacy.arguments)


def _texts(parts: Sequence[ContentPart], field: str) -> Iterator[Text]:
    for part in _content(parts, field):
        if isinstance(part, Image):
            raise unsupported(f"{field}.content", "only user messages may hold images.")
        yield part


def _content(parts: Sequence[ContentPart], field: str) -> Iterator[Text | Image]:
    for index, part in enumerate(parts):
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                if text:
                    yield Text(text)
            case ImagePart():
                yield read_image(part.image_url.url, f"{field}.content.{index}.image_url.url")
            case OtherPart():
                reason = f"this server can't read parts of type '{part.type}'."
                raise unsupported(f"{field}.content.{index}.type", reason)
            case _:
                assert_never(part)
