"""The terminal apps' HTTP client: answers, streams, refusals, and what it says of failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxd.tui.client import ServerClient, ServerEvent
from mlxd.tui.problems import ConnectionLost, NotAllowed, NotRunning, NotUnderstood, ServerRefused

STREAM = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENTS = (
    ': hello\n\nevent: status\ndata: {"a": "é\u2028漢"}\n\nid: 7\nretry: 5\ndata: one\n'
    "data: two\r\n\r\nevent: last\rdata:three\r\rdata: cut off"
)
TOLD = [
    ServerEvent("status", '{"a": "é\u2028漢"}'),
    ServerEvent("message", "one\ntwo"),
    ServerEvent("last", "three"),
]

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Canned:
    """A server that takes one request and then does what `answer` says."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.head = b""
        self.left = asyncio.Event()
        self.talks: set[asyncio.Task[None]] = set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talks.add(asyncio.create_task(self._talk(reader, writer)))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        await self._answer(reader, writer)
        await reader.read()
        self.left.set()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(answer: Answering) -> AsyncIterator[tuple[Canned, str]]:
    canned = Canned(answer)
    server = await asyncio.start_server(canned.connected, "127.0.0.1", 0)
    async with asyncio.timeout(60):
        yield canned, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        await asyncio.gather(*canned.talks)


def saying(*pieces: bytes, end: bool = True) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if end:
            writer.write_eof()

    return answer


def whole(status: str, body: str, *headers: str) -> Answering:
    data = body.encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(data)}", *headers, "", ""]
    return saying("\r\n".join(lines).encode() + data)


async def events_of(pieces: Sequence[bytes]) -> list[ServerEvent]:
    async with (
        serving(saying(*pieces)) as (_, url),
        ServerClient(url) as client,
        client.stream("GET", "/admin/events") as (_, events),
    ):
        return [event async for event in events]


async def test_a_typed_answer_comes_with_the_token_sent() -> None:
    async with (
        serving(whole("200 OK", '{"a": 1}')) as (canned, url),
        ServerClient(url + "/", "secret") as client,
    ):
        assert await client.get("/admin/status", dict[str, int]) == {"a": 1}
    assert b"GET /admin/status HTTP/1.1" in canned.head
    assert b"authorization: Bearer secret\r\n" in canned.head.lower().replace(b"bearer", b"Bearer")


async def test_an_answer_without_a_body_is_an_empty_object() -> None:
    async with serving(whole("202 Accepted", "")) as (_, url), ServerClient(url) as client:
        assert await client.post("/admin/models/demo/load") == {}


async def test_events_are_read_as_the_standard_says() -> None:
    assert await events_of([STREAM.encode(), EVENTS.encode()]) == TOLD


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_events_do_not_depend_on_where_the_stream_is_cut(size: int) -> None:
    data = EVENTS.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert await events_of([STREAM.encode(), *pieces]) == TOLD


@given(st.lists(st.integers(1, len(EVENTS.encode()) - 1), max_size=6))
def test_events_do_not_depend_on_any_cuts(cuts: list[int]) -> None:
    data = EVENTS.encode()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert asyncio.run(events_of([STREAM.encode(), *pieces])) == TOLD


@pytest.mark.parametrize("read", [0, 1])
async def test_leaving_a_stream_closes_its_connection(read: int) -> None:
    endless = saying(STREAM.encode(), b"data: 1\n\n", end=False)
    async with serving(endless) as (canned, url), ServerClient(url) as client:
        async with client.stream("POST", "/v1/responses", {"stream": True}) as (_, events):
            for _ in range(read):
                assert (await anext(events)).data == "1"
            assert not canned.left.is_set()
        async with asyncio.timeout(60):
            await canned.left.wait()


async def test_cancelling_whoever_reads_closes_the_connection_too() -> None:
    seen = asyncio.Event()

    async def read(client: ServerClient) -> None:
        async with client.stream("GET", "/admin/events") as (_, events):
            async for _ in events:
                seen.set()

    endless = saying(STREAM.encode(), b"data: 1\n\n", end=False)
    async with serving(endless) as (canned, url), ServerClient(url) as client:
        task = asyncio.create_task(read(client))
        await seen.wait()
        task.cancel()
        await canned.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_refusal_carries_the_servers_words() -> None:
    body = '{"error": {"message": "The queue is full.", "code": "queue_full", "type": "x"}}'
    async with (
        serving(whole("503 Busy", body, "retry-after: 2")) as (_, url),
        ServerClient(url) as client,
    ):
        with pytest.raises(ServerRefused, match=r"^The queue is full\.$") as raised:
            await client.post("/v1/responses", {})
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (
        503,
        "queue_full",
        2.0,
    )


@pytest.mark.parametrize("body", ["<html>oops</html>", "", '{"detail": 3}', '{"error": "x"}'])
async def test_a_refusal_without_readable_words_says_its_status(body: str) -> None:
    async with serving(whole("502 Bad", body)) as (_, url), ServerClient(url) as client:
        with pytest.raises(ServerRefused, match="status 502"):
            await client.get("/health", dict)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_wrong_token_is_told_apart(status: str) -> None:
    async with serving(whole(status, "")) as (_, url), ServerClient(url) as client:
        with pytest.raises(NotAllowed, match="token"):
            async with client.stream("GET", "/admin/events"):
                pass


@pytest.mark.parametrize("body", ["welcome", "[]", '{"a": "b"}'])
async def test_an_answer_of_another_shape_is_not_understood(body: str) -> None:
    async with serving(whole("200 OK", body)) as (_, url), ServerClient(url) as client:
        with pytest.raises(NotUnderstood, match="/admin/status"):
            await client.get("/admin/status", dict[str, int])


async def test_a_page_instead_of_events_is_not_understood() -> None:
    page = whole("200 OK", "<html>", "content-type: text/html")
    async with serving(page) as (_, url), ServerClient(url) as client:
        with pytest.raises(NotUnderstood, match="text/event-stream"):
            async with client.stream("GET", "/admin/events") as (_, events):
                await anext(events)


async def test_an_answer_that_breaks_off_is_a_lost_connection() -> None:
    short = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")
    async with serving(short) as (_, url), ServerClient(url) as client:
        with pytest.raises(ConnectionLost):
            await client.get("/health", dict)


async def test_a_stream_that_breaks_off_is_a_lost_connection() -> None:
    head = STREAM.replace("connection: close", "transfer-encoding: chunked")
    short = saying(head.encode() + b"9\r\ndata: 1\n\n\r\n")
    async with (
        serving(short) as (_, url),
        ServerClient(url) as client,
        client.stream("GET", "/admin/events") as (_, events),
    ):
        assert (await anext(events)).data == "1"
        with pytest.raises(ConnectionLost):
            await anext(events)


async def test_where_nothing_listens_nothing_runs() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    async with ServerClient(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(NotRunning, match="refused"):
            await client.get("/health", dict)


@pytest.mark.parametrize(
    "url", ["here", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[::1"]
)
async def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    async with ServerClient(url) as client:
        with pytest.raises(NotRunning, match="not an address"):
            await client.get("/health", dict)
