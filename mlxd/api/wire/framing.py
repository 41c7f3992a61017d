"""How the frames of a stream are written: as server-sent events, or as lines of JSON."""

from collections.abc import Iterable

from mlxd.api.dialect import Frame

_LINE_ENDS = tuple(
    (char.encode(), f"\\u{ord(char):04x}".encode()) for char in ("\u0085", "\u2028", "\u2029")
)


class SseFraming:
    """`text/event-stream`, as the HTML standard has it (section 9.2)."""

    media_type = "text/event-stream; charset=utf-8"
    keep_alive = b": keep-alive\n\n"

    def encode(self, frames: Iterable[Frame]) -> bytes:
        """See `Framing.encode`."""
        pieces: list[bytes] = []
        for frame in frames:
            data = _on_one_line(frame.data)
            if frame.event is None:
                pieces += (b"data: ", data, b"\n\n")
            else:
                pieces += (b"event: ", frame.event.encode(), b"\ndata: ", data, b"\n\n")
        return b"".join(pieces)


class NdjsonFraming:
    """`application/x-ndjson`: one JSON value a line, which knows no comments."""

    media_type = "application/x-ndjson"
    keep_alive = b""

    def encode(self, frames: Iterable[Frame]) -> bytes:
        """See `Framing.encode`; the names of events are not written."""
        return b"".join(_on_one_line(frame.data) + b"\n" for frame in frames)


SSE = SseFraming()
NDJSON = NdjsonFraming()


def _on_one_line(data: bytes) -> bytes:
    """JSON without the characters that end a line for many clients, though not by the standard."""
    if data.isascii():
        return data
    for raw, escaped in _LINE_ENDS:
        data = data.replace(raw, escaped)
    return data
