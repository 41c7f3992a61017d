"""What the listener does with well-behaved, slow, absent and hostile clients."""

import asyncio
import errno
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from mlxd.server.addresses import cannot_listen
from mlxd.server.connection import Limits
from mlxd.server.listener import bind, is_fair
from tests.server.support import PATIENT, QUICK, Client, serving, until


async def test_two_requests_share_a_connection() -> None:
    async with serving() as served, await served.connect() as client:
        assert (await client.get("/hello")).body == b"hello"
        answer = await client.get("/hello")
    assert answer.body == b"hello"
    assert "server" not in answer.headers


async def test_no_answer_waits_for_an_acknowledgement_of_its_head() -> None:
    async with serving() as served, await served.connect() as client:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            await client.get("/hello")
            times.append(time.perf_counter() - begin)
    # A kernel acknowledges at once in the beginning, and after 40 ms from then on.
    assert min(times[5:]) < 0.03


async def test_an_answer_before_the_end_of_its_body_says_that_the_connection_ends() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nwhole")
        assert "connection" not in (await client.answer()).headers
        client.send(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.rest() == b""


async def test_a_body_larger_than_every_buffer_arrives_whole() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        client.send(b"x" * 3_000_000)
        assert (await client.answer()).body == b"3000000"


async def test_a_pipelined_request_is_answered_in_turn() -> None:
    async with serving() as served, await served.connect() as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: served.record.begun == 1)
        served.record.finish.set()
        assert (await client.answer()).body == b"waited"
        assert (await client.answer()).body == b"hello"


async def test_both_loopback_addresses_are_served() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("::1", served.port)
        client = Client(reader, writer)
        assert (await client.get("/hello")).status == 200
        client.close()


class TestWhoComesIn:
    async def test_connections_past_the_limit_are_told_to_retry(self) -> None:
        async with serving(replace(PATIENT, connections=2)) as served:
            crowd = [await served.connect() for _ in range(2)]
            assert [(await client.get("/hello")).status for client in crowd] == [200, 200]
            answer = await served.get("/hello")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.headers["connection"] == "close"
            crowd[0].close()
            await until(lambda: served.listener.open_connections == 1)
            assert (await served.get("/hello")).status == 200
            crowd[1].close()

    async def test_connections_far_past_the_limit_are_closed_at_once(self) -> None:
        async with serving(replace(PATIENT, connections=1)) as served:
            crowd = [await served.connect() for _ in range(40)]
            assert (await crowd[0].get("/hello")).status == 200
            await crowd[-1].is_closed()
            assert served.listener.open_connections <= 20
            for client in crowd:
                client.close()
            await until(lambda: served.listener.open_connections == 0)

    @pytest.mark.parametrize(
        "owed",
        [b"", b"GET /hello HT", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"],
        ids=["another request", "the rest of its head", "its body"],
    )
    async def test_who_keeps_us_waiting_gives_way_in_a_full_house(self, owed: bytes) -> None:
        async with (
            serving(replace(PATIENT, connections=2, grace=0.1)) as served,
            await served.connect() as busy,
            await served.connect() as slow,
        ):
            busy.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await slow.get("/hello")).status == 200
            slow.send(owed)
            await until(lambda: served.record.begun == 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.reader.read(1), 0.2)
            assert (await served.get("/hello")).status == 200
            with suppress(ConnectionError):
                assert await slow.rest() == b""
            served.record.finish.set()
            assert (await busy.answer()).body == b"waited"

    def test_an_address_may_not_take_every_place(self) -> None:
        limits = Limits(connections_per_address=2)
        taken = ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
        assert not is_fair(taken, "192.0.2.1", limits)
        assert is_fair(taken, "192.0.2.2", limits)
        assert is_fair(["fe80::1%eth0"], "fe80::1%eth0", limits)

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1", ""])
    def test_local_clients_share_an_address_and_are_not_counted_by_it(self, address: str) -> None:
        assert is_fair([address] * 9, address, Limits(connections_per_address=2))

    async def test_accepting_goes_on_after_file_descriptors_ran_out(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serving(PATIENT) as served:
            assert (await served.get("/hello")).status == 200
            await until(lambda: served.listener.open_connections == 0)
            sock = socket.socket()
            sock.setblocking(False)
            with _no_file_descriptors_left():
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", served.port))
                await until(lambda: "can't accept connections" in caplog.text)
            client = Client(*await asyncio.open_connection(sock=sock))
            assert (await client.get("/hello")).status == 200
            client.close()
        assert caplog.text.count("can't accept connections") == 1


@contextmanager
def _no_file_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with suppress(OSError):
            while True:
                spare.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in spare:
            os.close(descriptor)


class TestPatience:
    async def test_a_silent_connection_is_closed_without_a_word(self) -> None:
        async with serving(replace(PATIENT, head=0.4)) as served:
            client = await served.connect()
            await client.is_closed()
            client.close()

    async def test_a_slow_head_is_answered_408(self) -> None:
        async with serving() as served, await served.connect() as client:
            client.send(b"GET /hello HTTP/1.1\r\nHost:")
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert await client.rest() == b""

    async def test_a_trickled_head_gets_no_more_time_than_a_silent_one(self) -> None:
        async with serving() as served, await served.connect() as client:
            trickling = asyncio.create_task(_trickle(client, b"GET / HTTP/1.1\r\nX: "))
            assert (await client.answer()).status == 408
            trickling.cancel()

    async def test_a_slow_second_head_is_limited_like_the_first(self) -> None:
        async with serving(replace(QUICK, idle=600.0)) as served, await served.connect() as client:
            await client.get("/hello")
            client.send(b"GET /hello")
            assert (await client.answer()).status == 408

    @pytest.mark.parametrize("path", [b"/echo", b"/wait"])
    async def test_a_slow_body_is_answered_408(self, path: bytes) -> None:
        async with serving() as served, await served.connect() as client:
            client.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" % path)
            trickling = asyncio.create_task(_trickle(client, b"body"))
            assert (await client.answer()).status == 408
            trickling.cancel()
            await until(lambda: served.record.ended == served.record.begun)

    async def test_an_idle_connection_is_closed(self) -> None:
        async with serving(replace(PATIENT, idle=0.4)) as served:
            client = await served.connect()
            await client.get("/hello")
            await client.is_closed()
            client.close()

    async def test_a_long_answer_outlives_every_limit_on_requests(self) -> None:
        async with serving() as served, await served.connect() as client:
            client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 1.5)
            served.record.finish.set()
            assert (await client.answer()).body == b"waited"


async def _trickle(client: Client, data: bytes) -> None:
    client.send(data)
    while True:
        await asyncio.sleep(0.05)
        client.send(b"x")


class TestReaders:
    async def test_a_client_that_stops_reading_is_dropped_and_nobody_else_notices(self) -> None:
        async with serving() as served, await served.connect() as client:
            client.stop_reading()
            client.send(b"GET /stream?size=60000 HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: served.record.begun == 1)
            while served.record.ended == 0:
                assert (await served.get("/hello")).status == 200
            await until(lambda: served.listener.open_connections == 0)

    async def test_a_slow_reader_is_not_a_stalled_one(self) -> None:
        limits = replace(PATIENT, stall=1.5)
        async with serving(limits) as served, await served.connect() as client:
            client.send(b"GET /stream?size=60000 HTTP/1.1\r\nHost: x\r\n\r\n")
            loop = asyncio.get_running_loop()
            begun = loop.time()
            while loop.time() < begun + 2 * limits.stall:
                await client.reader.readexactly(300_000)
                await asyncio.sleep(0.03)
            assert served.record.ended == 0
            served.record.finish.set()
            assert await client.ends_with(b"finished\r\n0\r\n\r\n")

    async def test_an_early_refusal_can_be_read_by_a_client_that_is_still_sending(self) -> None:
        async with serving() as served, await served.connect() as client:
            client.send(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n\r\n")
            client.send(b"x" * 2_000_000)
            assert (await client.answer()).body == b"no, thank you"


LEAVING = {"end": Client.close, "reset": Client.reset, "half-close": Client.half_close}


class TestLeaving:
    @pytest.mark.parametrize("leave", LEAVING)
    @pytest.mark.parametrize("extra", [b"", b"\r", b"GET /hello HTTP/1.1\r\n"])
    @pytest.mark.parametrize("path", [b"/wait", b"/stream", b"/stream?size=60000"])
    async def test_a_client_that_leaves_ends_its_handler(
        self, path: bytes, extra: bytes, leave: str
    ) -> None:
        async with serving(PATIENT) as served:
            client = await served.connect()
            client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n%s" % (path, extra))
            await until(lambda: served.record.begun == 1)
            LEAVING[leave](client)
            await until(lambda: served.record.ended == 1)
            client.close()
            await until(lambda: served.listener.open_connections == 0)

    async def test_a_client_that_leaves_inside_its_body_ends_its_handler(self) -> None:
        async with serving(PATIENT) as served:
            client = await served.connect()
            client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbody")
            await until(lambda: served.record.begun == 1)
            client.close()
            await until(lambda: served.record.ended == 1)

    async def test_a_flood_behind_a_request_ends_the_connection(self) -> None:
        async with serving(PATIENT) as served, await served.connect() as client:
            client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: served.record.begun == 1)
            client.send(b"x" * 1_000_000)
            await until(lambda: served.record.ended == 1)

    async def test_a_dead_idle_connection_is_released_at_once(self) -> None:
        async with serving(PATIENT) as served:
            clients = [await served.connect() for _ in range(20)]
            assert {(await client.get("/hello")).status for client in clients} == {200}
            for client in clients:
                client.close()
            await until(lambda: served.listener.open_connections == 0)


class TestBinding:
    def test_a_port_in_use_is_an_error_that_says_so(self) -> None:
        sockets = bind("127.0.0.1", 0)
        with pytest.raises(OSError, match="in use") as caught:
            bind("127.0.0.1", sockets[0].getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
        _close(sockets)

    @pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
    def test_an_address_that_this_machine_lacks_is_an_error_that_says_so(self, host: str) -> None:
        with pytest.raises(OSError, match="address") as caught:
            bind(host, 0)
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert f"no address {host}." in cannot_listen(caught.value, host, 80)

    def test_ipv4_loopback_brings_ipv6_loopback_on_the_same_port(self) -> None:
        sockets = bind("127.0.0.1", 0)
        names = {sock.getsockname()[:2] for sock in sockets}
        port = sockets[0].getsockname()[1]
        assert names == {("127.0.0.1", port), ("::1", port)}
        _close(sockets)

    def test_a_port_that_is_free_on_ipv4_only_still_serves(self) -> None:
        taken = socket.create_server(("::1", 0), family=socket.AF_INET6)
        sockets = bind("127.0.0.1", taken.getsockname()[1])
        assert [sock.family for sock in sockets] == [socket.AF_INET]
        _close([taken, *sockets])

    def test_localhost_is_both_addresses_on_one_port(self) -> None:
        sockets = bind("localhost", 0)
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert ("127.0.0.1") in {sock.getsockname()[0] for sock in sockets}
        _close(sockets)

    @pytest.mark.parametrize("host", ["x" * 64, "a..b"])
    def test_what_is_no_host_name_is_an_error(self, host: str) -> None:
        with pytest.raises(socket.gaierror):
            bind(host, 0)


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_a_process_lets_itself_open_as_many_files_as_it_may() -> None:
    code = (
        "import resource\n"
        "from mlxd.server.listener import ENOUGH_FILES, raise_file_limit\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))\n"
        "raise_file_limit()\n"
        "enough = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (enough, hard)\n"
        "raise_file_limit()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
