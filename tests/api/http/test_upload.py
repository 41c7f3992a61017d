"""How bodies arrive: size, encoding, type and pace, and what all of them may take together."""

import asyncio
import dataclasses
import gzip
import json
import zlib
from typing import cast

import pytest

from mlxd.api.http.body import INFLATE_STEP, BodyBudget, CountedBody
from mlxd.api.http.framework import ApiRequest
from mlxd.engine.scripted.engine import Gate
from tests.api.support import CHAT, FIXED, HELLO, LIMIT, Front, error_of, front, settings_for, soon
from tests.scripts import SCRIPTS, STARTED, finished

MIB = 1024 * 1024
GOOD = json.dumps({"messages": HELLO}).encode()


def serving(**server: int) -> Front:
    return front(*SCRIPTS["text"], settings=settings_for(**server))


def budget_of(server: Front) -> BodyBudget:
    return cast(type[ApiRequest], server.app.request_class).budget


def padded(size: int) -> bytes:
    """A sound body of exactly `size` bytes."""
    start = b'{"messages":[{"role":"user","content":"'
    end = b'"}]}'
    return start + b"x" * (size - len(start) - len(end)) + end


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(("size", "status"), [(4096, 200), (4097, 413), (100_000, 413)])
async def test_a_body_may_be_as_long_as_configured_and_no_longer(size: int, status: int) -> None:
    server = serving(max_body=4096)
    assert (await server.send(padded(size))).status_code == status
    assert (await server.send(GOOD)).status_code == 200
    assert budget_of(server).held == 0


async def test_a_body_that_grows_past_the_limit_is_refused_as_it_comes() -> None:
    server = serving(max_body=4096)
    async with asyncio.timeout(LIMIT), server.client.request(CHAT, method="POST") as client:
        for _ in range(5):
            await client.send(b" " * 1024)
        response = await client.as_response() if await client.receive() else None
        await client.disconnect()
    assert response is not None
    assert response.status_code == 413


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(GOOD, mtime=0)),
        ("x-gzip", gzip.compress(GOOD, mtime=0)),
        ("GZIP", gzip.compress(GOOD, mtime=0)),
        ("deflate", zlib.compress(GOOD)),
        ("deflate", bare_deflate(GOOD)),
        ("identity", GOOD),
        ("", GOOD),
    ],
)
async def test_compressed_bodies_are_read(encoding: str, data: bytes) -> None:
    server = serving()
    assert (await server.send(data, content_encoding=encoding)).status_code == 200
    assert budget_of(server).held == 0


@pytest.mark.parametrize(
    ("encoding", "data", "words"),
    [
        ("gzip", GOOD, "what its Content-Encoding says"),
        ("gzip", b"", "end where the body ends"),
        ("gzip", gzip.compress(GOOD, mtime=0)[:-9], "end where the body ends"),
        ("gzip", gzip.compress(GOOD, mtime=0) + b"more", "end where the body ends"),
        ("gzip", gzip.compress(GOOD, mtime=0) * 2, "end where the body ends"),
        ("deflate", b"\x00\x01\x02", "end where the body ends"),
        ("br", GOOD, "one of gzip, deflate"),
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), "one of gzip"),
        ("\xff", GOOD, "one of gzip, deflate"),
    ],
)
async def test_a_body_that_is_not_what_its_encoding_says_is_refused(
    encoding: str, data: bytes, words: str
) -> None:
    server = serving()
    error = await error_of(response := await server.send(data, content_encoding=encoding))
    assert response.status_code == 400
    assert error["message"].startswith("We could not parse the JSON body")
    assert words in error["message"]
    assert budget_of(server).held == 0


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, bare_deflate])
async def test_a_small_body_that_decompresses_to_a_large_one_is_refused(compress: object) -> None:
    assert callable(compress)
    bomb = compress(padded(16 * MIB))
    assert len(bomb) < MIB // 10
    server = serving(max_body=2 * MIB, max_bodies=3 * MIB + INFLATE_STEP)
    response = await server.send(bomb, content_encoding="gzip")
    assert response.status_code == 413
    assert budget_of(server).held == 0


async def test_decompressed_bytes_count_in_the_budget_of_all_bodies() -> None:
    server = serving(max_body=8 * MIB, max_bodies=MIB)
    response = await server.send(gzip.compress(padded(4 * MIB)), content_encoding="gzip")
    assert response.status_code == 503
    assert budget_of(server).held == 0


async def test_bodies_that_take_too_much_together_are_refused_with_retry_after() -> None:
    server = serving(max_body=4096, max_bodies=6000)
    async with asyncio.timeout(LIMIT), server.client.request(CHAT, method="POST") as first:
        await first.send(padded(4096))
        await soon(lambda: budget_of(server).held > 0)
        second = await server.send(padded(4096))
        assert (await error_of(second))["code"] == "overloaded"
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        await first.send_complete()
        assert b"chat.completion" in await first.receive()
        await first.disconnect()
    assert (await server.send(padded(4096))).status_code == 200
    assert budget_of(server).held == 0


async def test_a_body_stops_counting_once_it_is_parsed() -> None:
    gate = asyncio.Event()
    server = front(STARTED, Gate(gate), finished())
    async with server.connection():
        await server.engine.reaches(lambda engine: engine.running == 1)
        assert budget_of(server).held == 0
        gate.set()


async def test_a_client_that_leaves_while_it_sends_gives_its_share_back() -> None:
    server = serving()
    async with asyncio.timeout(LIMIT), server.client.request(CHAT, method="POST") as client:
        await client.send(padded(4096)[:-1])
        await soon(lambda: budget_of(server).held > 0)
        await client.disconnect()
    assert budget_of(server).held == 0
    assert not server.engine.requests


async def test_what_comes_behind_a_refusal_is_neither_kept_nor_counted() -> None:
    server = front(*SCRIPTS["text"], settings=settings_for(api_keys=("key",)))
    async with asyncio.timeout(LIMIT), server.client.request(CHAT, method="POST") as client:
        for _ in range(3):
            await client.send(b" " * 4096)
        await client.receive()
        assert (await client.as_response()).status_code == 401
        for _ in range(3):
            await client.send(b" " * 4096)
        assert budget_of(server).held == 0
        await client.disconnect()
    assert budget_of(server).held == 0


async def test_a_body_that_was_released_takes_no_more_bytes() -> None:
    budget = BodyBudget(100)
    body = CountedBody(None, None, budget)
    body.append(b"x" * 60)
    assert budget.held == 60
    body.release()
    # More than the budget has: what is not kept can't be too much either.
    for _ in range(5):
        body.append(b"y" * 60)
    body.set_complete()
    assert (budget.held, await body) == (0, b"")
    body.release()
    assert budget.held == 0


async def test_a_body_that_does_not_arrive_is_waited_for_only_so_long() -> None:
    tuning = dataclasses.replace(FIXED, body_timeout=0.01)
    server = front(*SCRIPTS["text"], tuning=tuning)
    async with asyncio.timeout(LIMIT), server.client.request(CHAT, method="POST") as client:
        await client.send(b"{")
        await client.receive()
        assert (await client.as_response()).status_code == 408
        await client.disconnect()
    assert budget_of(server).held == 0


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.api+json", 200),
        ("application/octet-stream", 200),
        ("", 200),
        ("text/plain", 400),
        ("text/plain;charset=UTF-8", 400),
        ("Text/Plain", 400),
        ("application/x-www-form-urlencoded", 400),
        ("multipart/form-data; boundary=x", 400),
    ],
)
async def test_what_a_web_form_can_send_is_not_read_as_json(content_type: str, status: int) -> None:
    response = await serving().send(GOOD, content_type=content_type)
    assert response.status_code == status


async def test_a_missing_content_type_is_read_as_json() -> None:
    server = serving()
    async with asyncio.timeout(LIMIT), server.client.request(CHAT, method="POST") as client:
        await client.send(GOOD)
        await client.send_complete()
        assert b"chat.completion" in await client.receive()
        assert (await client.as_response()).status_code == 200
        await client.disconnect()
