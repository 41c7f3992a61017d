"""Images come inside the request or not at all."""

import base64

import pytest

from mlxd.api.wire.images import MAX_IMAGE, ImageRefused, image_from_url
from mlxd.messages import Image
from tests.api.support import PNG, PNG_URL, error_of, front


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a\0", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
    ],
)
def test_an_image_is_what_its_bytes_say(data: bytes, media_type: str) -> None:
    url = "data:image/whatever;base64," + base64.b64encode(data).decode()
    assert image_from_url(url) == Image(data, media_type)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/a.png", "https://example.com/a.png", "file:///etc/passwd"),
        *("HTTP://127.0.0.1/", "//example.com/a.png", "ftp://x/y", "", "image.png", "\\\\host\\x"),
        *(
            "data:image/png,raw",
            "data:image/png;base64",
            "data:;base64,",
            "data:image/png;base64,!",
        ),
        *(PNG_URL[:-1], PNG_URL + "=", PNG_URL + "\n", "data:text/html;base64,PGI+", "data:"),
        "data:image/png;base64," + base64.b64encode(b"GIF?").decode(),
        "data:image/png;base64," + "A" * (MAX_IMAGE * 4 // 3 + 5),
    ],
    ids=range(20),
)
def test_nothing_but_an_image_inside_the_request_is_taken(url: str) -> None:
    with pytest.raises(ImageRefused):
        image_from_url(url)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.com/a.png", "unsupported_value"),
        ("http://169.254.169.254/latest/meta-data", "unsupported_value"),
        ("file:///etc/passwd", "unsupported_value"),
        ("data:image/png;base64,!", "invalid_value"),
    ],
)
async def test_the_refusal_names_the_part_and_not_the_address(url: str, code: str) -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": url}}]
    server = front()
    response = await server.ask(messages=[{"role": "user", "content": parts}])
    error = await error_of(response)
    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"] == "messages[0].content[1].image_url.url"
    assert url not in error["message"]
    assert not server.engine.requests


def test_an_image_may_only_be_so_large() -> None:
    payload = base64.b64encode(PNG).decode().rstrip("=") + "A" * (MAX_IMAGE * 4 // 3)
    with pytest.raises(ImageRefused, match="larger than"):
        image_from_url(f"data:image/png;base64,{payload}")
