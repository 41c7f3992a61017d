"""Requests that nobody sends by accident: refused cleanly, and the next client is served."""

import asyncio
import logging
from dataclasses import replace

import pytest

from tests.server.support import QUICK, Served, serving, until

HOST = b"Host: localhost\r\n"
MANY_FIELDS = b"".join(b"X-%d: y\r\n" % number for number in range(101))
LARGE_FIELD = b"X-Large: " + b"x" * 66_000 + b"\r\n"

REFUSED: dict[str, tuple[bytes, int]] = {
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\nHost: x\r\n\r\nSM\r\n\r\n", 505),
    "a version that does not exist": (b"GET /hello HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "no host": (b"GET /hello HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /hello HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "a whole URL as target": (b"GET http://x/hello HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a broken URL as target": (b"GET http://[/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no path": (b"GET ?x=1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a star": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tunnel": (b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in the target": (b"GET /hel\x00lo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a space in the target": (b"GET /hel lo HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in a field": (b"GET /hello HTTP/1.1\r\n" + HOST + b"X: \x00\r\n\r\n", 400),
    "a space before the colon": (b"GET /hello HTTP/1.1\r\n" + HOST + b"X : y\r\n\r\n", 400),
    "too many fields": (b"GET /hello HTTP/1.1\r\n" + HOST + MANY_FIELDS + b"\r\n", 431),
    "too large fields": (b"GET /hello HTTP/1.1\r\n" + HOST + LARGE_FIELD + b"\r\n", 431),
    "fields without end": (b"GET /hello HTTP/1.1\r\nX: " + b"x" * 1_000_000, 431),
    "a negative length": (b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n" + HOST + b"\r\n", 400),
    "a signed length": (b"POST /echo HTTP/1.1\r\nContent-Length: +5\r\n" + HOST + b"\r\n", 400),
    "two lengths": (
        b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n" + HOST + b"\r\nhello!",
        400,
    ),
    "a length and chunks": (
        b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        + HOST
        + b"\r\n0\r\n\r\n",
        400,
    ),
    "an unknown coding": (
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HOST + b"\r\n",
        501,
    ),
    "broken chunks": (
        b"POST /wait HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\nzz\r\n",
        400,
    ),
}

ANSWERED: dict[str, tuple[bytes, int]] = {
    "a host that is not text": (b"GET /hello HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", 200),
    "an escaped NUL": (b"GET /%00 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "a path that is not text": (b"GET /%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "an odd method": (b"BREW /hello HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "large fields": (
        b"GET /hello HTTP/1.1\r\n" + HOST + b"X-Large: " + b"x" * 60_000 + b"\r\n\r\n",
        200,
    ),
    "an offer to upgrade to HTTP/2": (
        b"GET /hello HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" + HOST + b"\r\n",
        200,
    ),
    "an offer to upgrade to something": (
        b"GET /hello HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: gopher\r\n" + HOST + b"\r\n",
        200,
    ),
}
WEBSOCKET = (
    b"GET /hello HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\n" + HOST
)


@pytest.mark.parametrize("name", REFUSED)
async def test_a_hostile_request_is_refused_and_the_connection_ends(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, status = REFUSED[name]
    async with serving() as served, await served.connect() as client:
        client.send(data)
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert b'"message"' in answer.body
        assert await client.rest() == b""
        await _is_unharmed(served, caplog)


@pytest.mark.parametrize("name", ANSWERED)
async def test_an_odd_request_is_answered(name: str, caplog: pytest.LogCaptureFixture) -> None:
    data, status = ANSWERED[name]
    async with serving() as served, await served.connect() as client:
        client.send(data)
        assert (await client.answer()).status == status
        assert (await client.get("/hello")).status == 200
        await _is_unharmed(served, caplog)


@pytest.mark.parametrize("turns", range(8))
async def test_a_reset_at_any_moment_of_a_refusal_is_no_error(turns: int) -> None:
    async with serving() as served:
        client = await served.connect()
        client.send(b"nonsense\r\n\r\n")
        for _ in range(turns):
            await asyncio.sleep(0)
        client.reset()
        await until(lambda: served.listener.open_connections == 0)
        assert (await served.get("/hello")).status == 200


async def test_a_refusal_of_head_has_no_body() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(b"HEAD * HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 400
        assert await client.rest() == b""


async def test_a_refusal_after_an_answered_head_request_has_its_body() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(b"HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        client.send(b"nonsense\r\n\r\n")
        assert b'"message"' in (await client.answer()).body


@pytest.mark.parametrize("key", [b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""])
async def test_a_websocket_is_refused_and_its_connection_ends(
    key: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(replace(QUICK, idle=600.0)) as served, await served.connect() as client:
        client.send(WEBSOCKET + key + b"\r\n")
        assert (await client.head()).status == 400
        await client.rest()
        client.close()
        await until(lambda: served.listener.open_connections == 0)
        await _is_unharmed(served, caplog)


async def test_a_body_of_tiny_chunks_leaves_room_for_others() -> None:
    async with serving(replace(QUICK, body=30.0)) as served, await served.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"1\r\nx\r\n" * 100_000)
        assert (await served.get("/hello")).status == 200
        assert served.listener.open_connections == 2
        client.send(b"0\r\n\r\n")
        assert (await client.answer()).body == b"100000"


async def _is_unharmed(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert (await served.get("/hello")).body == b"hello"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
