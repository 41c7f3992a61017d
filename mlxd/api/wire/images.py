"""Images that come inside a request, in Base64. Nothing is ever fetched.

Models are served for text alone. An image that has to be seen now is refused by the engine. One
that a tool has brought, or that an earlier turn was about, must not end the session: agents send
it again with every turn.
"""

import binascii
from urllib.parse import unquote_to_bytes

from mlxd.api.wire.errors import bracketed
from mlxd.messages import Image, Text

MAX_IMAGE = 20 * 1024 * 1024
"""Bytes of one decoded image."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class ImageRefused(ValueError):
    """`str()` is a sentence; `remote` says that the URL points elsewhere."""

    def __init__(self, reason: str, *, remote: bool = False) -> None:
        super().__init__(reason)
        self.remote = remote


class Unseen:
    """What a conversation goes on without; `places` are where it stands in the caller's body."""

    def __init__(self) -> None:
        self.places: list[str] = []

    def text(self, what: str, place: str) -> Text:
        """What the model reads in its place: always the same, so that prompts keep their prefix."""
        self.places.append(bracketed(place))
        return Text(f"[{what} left out: this model reads text only]")


def image_from_url(url: str, place: str = "") -> Image:
    """The image in a `data:` URL; raises `ImageRefused`."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        reason = "images at an address are not fetched; send the image itself as a data: URL."
        raise ImageRefused(reason, remote=True)
    header, comma, payload = rest.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise ImageRefused("expected data:image/...;base64,... with an image in Base64.")
    return image_from_base64(payload, place)


def image_from_base64(payload: str, place: str = "") -> Image:
    """The image that `payload` encodes; raises `ImageRefused`."""
    # Before anything is decoded: Base64 makes four characters of three bytes, and pads.
    if len(payload) > MAX_IMAGE * 4 // 3 + 4:
        raise ImageRefused(f"the image is larger than {MAX_IMAGE} bytes.")
    # Some clients escape the payload, as the rest of a URL has to be.
    encoded = unquote_to_bytes(payload) if "%" in payload else payload.encode()
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        raise ImageRefused("the image is not valid Base64.") from None
    return Image(data, _media_type(data), place)


def _media_type(data: bytes) -> str:
    """What the bytes say they are; callers get it wrong."""
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise ImageRefused("the data is not a PNG, JPEG, GIF or WebP image.")
