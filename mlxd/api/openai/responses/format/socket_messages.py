"""The messages of a Responses WebSocket: a body to answer comes in, events go out."""

import msgspec

from mlxd.api.dialect import ErrorReply, JsonObject
from mlxd.errors import InvalidField

TRANSPORT_FIELDS = ("stream", "stream_options", "background")
"""Fields that say how an answer is transported, which is settled here."""


def requested_body(message: JsonObject) -> tuple[JsonObject, tuple[str, ...]]:
    """The body that a message amounts to, and its fields that are not done as they say.

    Raises `InvalidField` for what is no request.
    """
    if (kind := message.pop("type", None)) != "response.create":
        text = f"Invalid value: {kind!r:.64}. Supported values are: 'response.create'."
        raise InvalidField("type", "missing" if kind is None else "value", text)
    body = {name: value for name, value in message.items() if name not in TRANSPORT_FIELDS}
    ignored = ["stream"] if message.get("stream") is False else []
    ignored += ["background"] if message.get("background") else []
    return {**body, "stream": True}, tuple(ignored)


def with_fields(event: bytes, fields: JsonObject) -> bytes:
    """An event with what HTTP would say outside of it: the status, the names of a header."""
    body: JsonObject = msgspec.json.decode(event)
    return msgspec.json.encode({**body, **fields})


def error_message(reply: ErrorReply) -> bytes:
    """An error that no response shows."""
    error = reply.body["error"]
    body = {**error, "code": error["code"] or error["type"]}
    return msgspec.json.encode({"type": "error", "status": reply.status, "error": body})
