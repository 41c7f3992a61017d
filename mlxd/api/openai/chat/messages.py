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
from mlxd.api.wire.images import Unseen
from mlxd.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult


class ImageUrl(Wire):
    url: str


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: ImageUrl


class OtherPart(Wire):
    """A part that the API has and this server can't read."""

    type: Literal["input_audio", "file"]


_Part = (
    Annotated[TextPart, Tag("#text")]
    | Annotated[TextPart, Tag("#input_text")]
    | Annotated[TextPart, Tag("#output_text")]
    | Annotated[ImagePart, Tag("#image_url")]
    | Annotated[RefusalPart, Tag("#refusal")]
    | Annotated[OtherPart, Tag("#input_audio")]
    | Annotated[OtherPart, Tag("#file")]
)
TEXT_AS_PART = text_or(list, lambda text: [{"type": "text", "text": text}], TEXT_OR_OBJECTS)


class ThinkingPart(Wire):
    """The model's thinking among the parts of its answer."""

    type: Literal["thinking"]
    thinking: Annotated[list[TextPart], FAIL_FAST, TEXT_AS_PART]
    signature: Any = None
    closed: Any = None


ContentPart = Annotated[_Part, Discriminator(type_tag), AN_OBJECT]
Content = Annotated[list[ContentPart], FAIL_FAST, TEXT_AS_PART]
AssistantPart = Annotated[
    _Part | Annotated[ThinkingPart, Tag("#thinking")], Discriminator(type_tag), AN_OBJECT
]
AssistantContent = Annotated[list[AssistantPart], FAIL_FAST, TEXT_AS_PART]


class FunctionCall(Wire):
    name: str
    arguments: CallArguments = ""


class FunctionToolCall(Wire):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Any = None


class CustomCall(Wire):
    name: str
    input: str = ""


class CustomToolCall(Wire):
    id: str
    type: Literal["custom"]
    custom: CustomCall
    index: Any = None


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
    """An answer, with all that an answer from here carries."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    annotations: Any = None
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


def neutral_messages(messages: Sequence[ChatMessage], unseen: Unseen) -> tuple[Message, ...]:
    """The same turns in no dialect; raises `InvalidField` for parts that can't be honoured.

    Content is the same whether it came as a string or as parts: empty text is left out.
    """
    translated = []
    legacy_calls: dict[str, str] = {}
    heard = (UserMessage, ToolMessage, FunctionMessage)
    newest = max((n for n, each in enumerate(messages) if isinstance(each, heard)), default=-1)
    for index, message in enumerate(messages):
        field = f"messages.{index}"
        match message:
            case SystemMessage():
                translated.append(Message("system", tuple(_parts(message.content, field, unseen))))
            case UserMessage():
                passed = None if index == newest else unseen
                translated.append(Message("user", tuple(_parts(message.content, field, passed))))
            case AssistantMessage():
                # Calls had no ids then: a result goes to the last call of its function.
                if message.function_call is not None:
                    legacy_calls[message.function_call.name] = f"call_{index}"
                parts = tuple(_assistant(message, index, unseen))
                translated.append(Message("assistant", parts))
            case ToolMessage():
                content = tuple(_parts(message.content or [], field, unseen))
                translated.append(Message("tool", (ToolResult(message.tool_call_id, content),)))
            case FunctionMessage():
                content = tuple(_parts(message.content or [], field, unseen))
                call_id = legacy_calls.get(message.name, f"call_{message.name}")
                translated.append(Message("tool", (ToolResult(call_id, content),)))
            case _:
                assert_never(message)
    return tuple(translated)


def _assistant(message: AssistantMessage, index: int, unseen: Unseen) -> Iterator[Part]:
    thoughts = [part for part in message.content or [] if isinstance(part, ThinkingPart)]
    parted = "\n".join(text.text for part in thoughts for text in part.thinking)
    # Where the same thinking comes in several ways, it is read once.
    if reasoning := message.reasoning_content or message.reasoning or parted:
        yield Reasoning(reasoning)
    yield from _parts(message.content or [], f"messages.{index}", unseen)
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


def _parts(
    parts: Sequence[ContentPart | AssistantPart], field: str, unseen: Unseen | None
) -> Iterator[Text | Image]:
    """What is no text is refused, or passed over where `unseen` takes note of it."""
    for index, part in enumerate(parts):
        place = f"{field}.content.{index}"
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                if text:
                    yield Text(text)
            case ImagePart():
                if unseen is not None:
                    yield unseen.text("image", place)
                else:
                    yield read_image(part.image_url.url, place, "image_url.url")
            case OtherPart():
                if unseen is None:
                    reason = f"this server can't read parts of type '{part.type}'."
                    raise unsupported(f"{place}.type", reason)
                yield unseen.text(part.type.removeprefix("input_"), place)
            case ThinkingPart():
                pass
            case _:
                assert_never(part)
