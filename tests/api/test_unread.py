"""Errors below the application, in the words of those who use the path that the request names."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from mlxd.api.http.framework import Tuning
from mlxd.server.connection import Limits
from mlxd.server.listener import Listener, bind
from tests.api.support import Front, front
from tests.server.support import PATIENT, Client

Json = dict[str, Any]
LARGE = b"X-Large: " + b"x" * 66_000 + b"\r\n\r\n"
OPENAI = ("/v1/chat/completions", "/v1/responses/resp_1?stream=true", "/openai/v1/responses", "/v1")
ANTHROPIC = (
    "/v1/messages?beta=true",
    "/messages",
    "/v1/v1/messages/count_tokens",
    "/v1/mess%61ges",
)
NOBODY = ("/", "/health", "/v10/messages", "/%ff", "*", "http://x/v1/messages", "", "/v1messages")


@asynccontextmanager
async def port(limits: Limits = PATIENT) -> AsyncIterator[int]:
    """The port of the whole server, on a scripted engine."""
    server: Front = front(tuning=Tuning())
    sockets = bind("127.0.0.1", 0)
    await server.app.startup()
    listener = Listener(server.app, limits, server.app.unread)
    listener.start(sockets)
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        await listener.stop_accepting()
        await listener.close(0.2)
        await server.app.shutdown()


async def refusal(number: int, request: bytes) -> tuple[int, Json, dict[str, str]]:
    """What a request is answered with: its status, body, and header fields."""
    async with await Client.open(number) as client:
        client.send(request)
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        assert await client.rest() == b""
        return answer.status, json.loads(answer.body), answer.headers


def shape(body: Json) -> str:
    """Whose shape it is."""
    error = body["error"]
    assert error["message"]
    if body.get("type") == "error":
        assert set(body) == {"type", "error", "request_id"}
        return "anthropic"
    assert set(body) == {"error"}
    if set(error) == {"message"}:
        return "nobody"
    assert set(error) == {"message", "type", "param", "code"}
    return "openai"


async def test_a_broken_head_is_refused_in_the_shape_of_its_path() -> None:
    sets = ((OPENAI, "openai"), (ANTHROPIC, "anthropic"), (NOBODY, "nobody"))
    cases = [(path, whose) for paths, whose in sets for path in paths]
    async with port() as number:
        for path, whose in cases:
            line = b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % path.encode()
            status, body, _ = await refusal(number, line + b"X : y\r\n\r\n")
            assert (status, shape(body)) == (400, whose), path
            _, body, _ = await refusal(number, line + LARGE)
            assert shape(body) == whose, path


async def test_what_names_no_path_is_refused_in_nobodys_shape() -> None:
    async with port() as number:
        for odd in (b"\x16\x03\x01\x02\x00\r\n", b"POST\r\n", b"\r\n \r\n", b"/v1/messages\r\n"):
            status, body, _ = await refusal(number, odd + b"\r\n")
            assert (status, shape(body)) == (400, "nobody")


async def test_a_version_that_is_not_spoken_is_refused_in_the_shape_of_its_path() -> None:
    async with port() as number:
        version = b"POST /v1/messages HTTP/3.0\r\nHost: localhost\r\n\r\n"
        status, body, _ = await refusal(number, version)
        assert (status, shape(body)) == (505, "anthropic")
        assert body["error"]["type"] == "invalid_request_error"


async def test_the_line_may_come_byte_by_byte_and_behind_another_request() -> None:
    async with port() as number, await Client.open(number) as client:
        first = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        second = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n"
        client.send(first + second)
        assert (await client.answer()).status == 200
        assert shape(json.loads((await client.answer()).body)) == "anthropic"
    async with port() as number, await Client.open(number) as client:
        client.send(first)
        assert (await client.answer()).status == 200
        for byte in second:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert shape(json.loads((await client.answer()).body)) == "anthropic"


async def test_a_request_that_does_not_come_to_its_end_is_told_so_in_its_shape() -> None:
    async with port(replace(PATIENT, head=0.3)) as number:
        for path, whose in (("/v1/messages", "anthropic"), ("/v1/responses", "openai")):
            line = b"POST %b HTTP/1.1\r\nHost: local" % path.encode()
            status, body, _ = await refusal(number, line)
            assert (status, shape(body)) == (408, whose)


@pytest.mark.parametrize(
    ("path", "status", "whose"),
    [("/v1/messages", 529, "anthropic"), ("/v1/responses", 503, "openai"), ("/x", 503, "nobody")],
)
async def test_a_full_server_says_so_as_everywhere(path: str, status: int, whose: str) -> None:
    async with port(replace(PATIENT, connections=1)) as number, await Client.open(number) as taken:
        taken.send(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        line = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
        found, body, headers = await refusal(number, line)
        assert (found, shape(body), headers["retry-after"]) == (status, whose, "1")
        assert "too many open connections" in body["error"]["message"]
