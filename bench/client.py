"""A streaming HTTP client that costs almost nothing: bytes and arrival times, read afterwards.

It asks the way `curl` would and closes the connection after each answer. A full HTTP library would
take a visible share of the processor that it shares with the server.
"""

import asyncio
import json
import re
import time
from dataclasses import dataclass

from bench.prompts import Chat

FIRST_TEXT = re.compile(rb'"content":\s*"[^"]')
FIRST_PIECE = re.compile(rb'"content":\s*"[^"]|"tool_calls":\s*\[\{|"finish_reason":\s*"')
"""The first piece of an answer, be it text, a call, or its end."""
PROMPT = re.compile(rb'"prompt_tokens":\s*(\d+)')
USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')
CACHED = re.compile(rb'"cached_tokens":\s*(\d+)')
MARK = b"data: "
READ_SIZE = 256 * 1024
END_SIZE = 500
"""Bytes of a stream's end that are kept."""


@dataclass(frozen=True)
class Reply:
    """One answer: seconds to its first text and to its end, and its token counts."""

    first_text: float
    seconds: float
    tokens: int
    cached: int
    prompt: int = 0


@dataclass(frozen=True)
class Run:
    """Answers that were asked for at the same moment."""

    seconds: float
    replies: list[Reply]

    @property
    def tokens_per_second(self) -> float:
        return sum(reply.tokens for reply in self.replies) / self.seconds

    @property
    def first_text(self) -> float:
        """Median seconds to the first text."""
        times = sorted(reply.first_text for reply in self.replies)
        return times[len(times) // 2]


def post(port: int, body: dict[str, object]) -> bytes:
    """The bytes of a request to the chat endpoint."""
    payload = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def chat_body(messages: Chat, max_tokens: int) -> dict[str, object]:
    """A greedy streaming request."""
    return {
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def stream(port: int, body: dict[str, object]) -> Reply:
    """Ask once and read to the end; raises `RuntimeError` when the answer is not a whole one."""
    return read_reply(await arrivals(port, body))


async def arrivals(port: int, body: dict[str, object]) -> list[tuple[float, bytes]]:
    """Ask once; the bytes of the answer and the seconds after which each piece of it came."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(port, body))
    pieces: list[tuple[float, bytes]] = []
    while data := await reader.read(READ_SIZE):
        pieces.append((time.perf_counter() - started, data))
    writer.close()
    await writer.wait_closed()
    return pieces


def read_reply(pieces: list[tuple[float, bytes]], first: re.Pattern[bytes] = FIRST_TEXT) -> Reply:
    """Make sense of what arrived when; an answer begins with what `first` finds."""
    whole = b"".join(data for _, data in pieces)
    usage, text = USAGE.search(whole), first.search(whole)
    if b"[DONE]" not in whole or usage is None or text is None:
        raise RuntimeError(f"not a whole answer: {whole[:2000]!r}")
    seen = 0
    first_text = pieces[-1][0]
    for at, data in pieces:
        seen += len(data)
        if seen >= text.end():
            first_text = at
            break
    cached, prompt = CACHED.search(whole), PROMPT.search(whole)
    return Reply(
        first_text=first_text,
        seconds=pieces[-1][0],
        tokens=int(usage[1]),
        cached=int(cached[1]) if cached else 0,
        prompt=int(prompt[1]) if prompt else 0,
    )


async def ask_all(port: int, chats: list[Chat], max_tokens: int) -> Run:
    """Ask all `chats` at once and wait for the last answer."""
    started = time.perf_counter()
    replies = await asyncio.gather(
        *(stream(port, chat_body(messages, max_tokens)) for messages in chats)
    )
    return Run(seconds=time.perf_counter() - started, replies=replies)


async def count_events(port: int, connections: int) -> tuple[int, float]:
    """Events over `connections` streams that run at once, and the seconds they took."""
    body: dict[str, object] = {"messages": [{"role": "user", "content": "go"}], "stream": True}
    started = time.perf_counter()
    counts = await asyncio.gather(*(count_stream(port, body) for _ in range(connections)))
    return sum(counts), time.perf_counter() - started


async def count_stream(port: int, body: dict[str, object]) -> int:
    """The events of one stream; nothing is kept but what a cut event could need."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(port, body))
    events, end = 0, b""
    while data := await reader.read(READ_SIZE):
        # An event's mark can be cut between two reads: count it with the one that completes it.
        beginning = end[-len(MARK) + 1 :]
        events += (beginning + data).count(MARK)
        end = (end + data)[-END_SIZE:]
    writer.close()
    await writer.wait_closed()
    if b"[DONE]" not in end:
        raise RuntimeError(f"the stream was cut: {end!r}")
    return events
