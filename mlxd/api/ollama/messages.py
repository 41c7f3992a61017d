"""The messages of a chat in no dialect: images, and results of tools that may have no ids."""

from collections.abc import Iterator, Sequence

from mlxd.api.ollama.errors import wrong
from mlxd.api.ollama.wire import ChatMessage
from mlxd.api.wire.images import ImageRefused, Unseen, image_from_base64, image_from_url
from mlxd.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult


class OpenCalls:
    """Calls of the latest answers that have no result yet."""

    def __init__(self) -> None:
        self._calls: list[ToolCall] = []

    def add(self, call: ToolCall) -> None:
        self._calls.append(call)

    def answered_by(self, message: ChatMessage, number: int) -> str:
        """The id of the call that a result belongs to: by id, else by name, else in order."""
        name = message.tool_name or message.name
        found = next(
            (each for each in self._calls if name in (None, "", each.name)),
            self._calls[0] if self._calls else None,
        )
        if message.tool_call_id:
            by_id = (each for each in self._calls if each.id == message.tool_call_id)
            found = next(by_id, None)
        if found is None:
            return message.tool_call_id or f"call_{number}_0"
        self._calls.remove(found)
        return found.id


def neutral_messages(messages: Sequence[ChatMessage], unseen: Unseen) -> tuple[Message, ...]:
    """The same turns in no dialect; raises `InvalidField` for images that are none."""
    heard = [n for n, each in enumerate(messages) if each.role in ("user", "tool")]
    newest = max(heard, default=-1)
    calls = OpenCalls()
    translated = []
    for number, message in enumerate(messages):
        field = f"messages.{number}"
        seen = message.role == "user" and number == newest
        content = tuple(neutral_content(message, field, None if seen else unseen))
        match message.role:
            case "assistant":
                parts = tuple(_answer(message, content, number))
                for part in parts:
                    if isinstance(part, ToolCall):
                        calls.add(part)
                translated.append(Message("assistant", parts))
            case "tool":
                result = ToolResult(calls.answered_by(message, number), content)
                translated.append(Message("tool", (result,)))
            case role:
                translated.append(Message(role, content))
    return tuple(translated)


def neutral_content(
    message: ChatMessage, field: str, unseen: Unseen | None
) -> Iterator[Text | Image]:
    """Text and images; these are passed over where `unseen` takes note of them."""
    if message.content:
        yield Text(message.content)
    yield from neutral_images(message.images or [], field, unseen)


def neutral_images(
    images: Sequence[str], field: str, unseen: Unseen | None
) -> Iterator[Text | Image]:
    """The `images` of the object at `field`; raises `InvalidField`."""
    for number, encoded in enumerate(images):
        place = f"{field}.images.{number}" if field else f"images.{number}"
        if unseen is not None:
            yield unseen.text("image", place)
            continue
        # Bare Base64 is what the API has; the prefix of an URL is a slip that costs nothing.
        read = image_from_url if encoded.startswith("data:") else image_from_base64
        try:
            yield read(encoded, place)
        except ImageRefused as error:
            raise wrong(place, str(error)) from None


def _answer(message: ChatMessage, content: Sequence[Text | Image], number: int) -> Iterator[Part]:
    if message.thinking:
        yield Reasoning(message.thinking)
    yield from content
    for index, call in enumerate(message.tool_calls or []):
        # Older clients and servers have no ids.
        yield ToolCall(
            call.id or f"call_{number}_{index}", call.function.name, call.function.arguments
        )
