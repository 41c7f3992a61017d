"""The parts that messages and tool outputs of the Responses API are made of."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, assert_never

from pydantic import Discriminator, Tag

from mlxd.api.openai.errors import unsupported
from mlxd.api.openai.images import read_image
from mlxd.api.openai.wire import (
    AN_OBJECT,
    FAIL_FAST,
    NULL_AS_EMPTY,
    TEXT_OR_OBJECTS,
    RefusalPart,
    TextPart,
    Wire,
    text_or,
    type_tag,
)
from mlxd.api.wire.images import Unseen
from mlxd.errors import InvalidField
from mlxd.messages import Image, Text


class ImagePart(Wire):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Any = None


class FilePart(Wire):
    type: Literal["input_file"]
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: Any = None


class OtherPart(Wire):
    """A part that the API has and this server can't read."""

    type: Literal["input_audio", "input_video", "computer_screenshot"]


ContentPart = Annotated[
    Annotated[TextPart, Tag("#input_text")]
    | Annotated[TextPart, Tag("#output_text")]
    | Annotated[TextPart, Tag("#text")]
    | Annotated[TextPart, Tag("#summary_text")]
    | Annotated[TextPart, Tag("#reasoning_text")]
    | Annotated[RefusalPart, Tag("#refusal")]
    | Annotated[ImagePart, Tag("#input_image")]
    | Annotated[FilePart, Tag("#input_file")]
    | Annotated[OtherPart, Tag("#input_audio")]
    | Annotated[OtherPart, Tag("#input_video")]
    | Annotated[OtherPart, Tag("#computer_screenshot")],
    Discriminator(type_tag),
    AN_OBJECT,
]


Content = Annotated[
    list[ContentPart],
    FAIL_FAST,
    text_or(list, lambda text: [{"type": "input_text", "text": text}], TEXT_OR_OBJECTS),
    NULL_AS_EMPTY,
]
"""A string is the same as one part of text; null the same as none."""


def neutral_parts(
    parts: Sequence[ContentPart], field: str, unseen: Unseen | None
) -> Iterator[Text | Image]:
    """The parts in no dialect, without empty text.

    Raises `InvalidField` for what is no text, where `unseen` does not take note of it.
    """
    for index, part in enumerate(parts):
        place = f"{field}.{index}"
        if isinstance(part, TextPart | RefusalPart):
            text = part.text if isinstance(part, TextPart) else part.refusal
            if text:
                yield Text(text)
        elif isinstance(part, ImagePart) and unseen is not None:
            yield unseen.text("image", place)
        else:
            try:
                yield _read(part, place)
            except InvalidField:
                if unseen is None:
                    raise
                what = part.type.removeprefix("input_").rpartition("_")[2]
                yield unseen.text(what, place)


def _read(part: ImagePart | FilePart | OtherPart, place: str) -> Text | Image:
    match part:
        case ImagePart(image_url=url):
            if url is None:
                raise _not_here("images", f"{place}.file_id")
            return read_image(url, place, "image_url")
        case FilePart():
            return _file(part, place)
        case OtherPart():
            reason = f"this server can't read parts of type '{part.type}'."
            raise unsupported(f"{place}.type", reason)
        case _:
            assert_never(part)


def _file(part: FilePart, field: str) -> Text:
    """A text file's words in a tag with its name."""
    data = part.file_data
    if data is None:
        raise _not_here("files", f"{field}.{'file_url' if part.file_url else 'file_id'}")
    header, comma, payload = data.partition(",")
    kind = header.removeprefix("data:").partition(";")[0].strip().lower() if comma else "text/plain"
    try:
        text = b64decode(payload if comma else data, validate=True).decode()
    except ValueError:
        text = "\0"
    # The type is the caller's guess: what is text decodes, and text has no zero bytes.
    if "\0" in text:
        why = f"files of type '{kind[:64]}' are not read here; send their text in UTF-8."
        raise unsupported(f"{field}.file_data", why)
    name = (part.filename or "file").replace('"', "'")
    return Text(f'<file name="{name}">\n{text}\n</file>')


def _not_here(what: str, field: str) -> Exception:
    return unsupported(field, f"{what} are not stored or fetched here; send the content itself.")
