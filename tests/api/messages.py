"""Short ways to write Messages requests, and to see what the engine hears of them."""

import base64
from typing import Any

from mlxd.messages import GenerateRequest, Message
from tests.api.support import HELLO, MESSAGES, PNG, front
from tests.scripts import SCRIPTS

BASE: dict[str, Any] = {"model": "demo", "max_tokens": 100, "messages": HELLO}
PNG_SOURCE = {
    "type": "base64",
    "media_type": "image/png",
    "data": base64.b64encode(PNG).decode(),
}
CACHED = {"type": "ephemeral", "ttl": "1h"}
SERVER = front(*SCRIPTS["text"])


async def heard(**fields: Any) -> GenerateRequest:
    """The one request that the engine gets."""
    SERVER.heard()
    response = await SERVER.post(BASE | fields, f"{MESSAGES}?beta=true")
    assert response.status_code == 200, await response.get_data()
    (request,) = SERVER.heard()
    return request


async def said(*messages: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    return (await heard(messages=messages, **fields)).messages


async def ignored(**fields: Any) -> list[str]:
    """What the response names as ignored."""
    response = await SERVER.post(BASE | fields, MESSAGES)
    assert response.status_code == 200, await response.get_data()
    return response.headers.get("x-mlxd-ignored", "").split(",")


def user(*content: Any) -> dict[str, Any]:
    alone = len(content) == 1 and not isinstance(content[0], dict)
    return {"role": "user", "content": content[0] if alone else list(content)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}
