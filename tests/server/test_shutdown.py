"""How a listener ends while clients of every kind are connected."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.server.support import DEADLINE, PATIENT, Client, Served, serving, until

STREAM = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"


async def _read_on(client: Client) -> None:
    client.send(STREAM)
    await client.head()


async def _stop_reading(client: Client) -> None:
    client.stop_reading()
    client.send(b"GET /stream?size=60000 HTTP/1.1\r\nHost: x\r\n\r\n")


async def _wait_with_extra_byte(client: Client) -> None:
    client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n\r")


async def _send_slowly(client: Client) -> None:
    client.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nbody")


async def _hang_around(client: Client) -> None:
    await client.get("/hello")


async def _start_a_head(client: Client) -> None:
    client.send(b"GET /hello HT")


async def _say_nothing(client: Client) -> None:
    pass


Habit = Callable[[Client], Awaitable[None]]
HABITS: list[Habit] = [
    *(_read_on, _stop_reading, _wait_with_extra_byte, _send_slowly),
    *(_hang_around, _start_a_head, _say_nothing),
]
BUSY = 4


async def _shut_down(served: Served, patience: float) -> None:
    async with asyncio.timeout(DEADLINE):
        await served.listener.stop_accepting()
        await served.listener.close(patience)


@pytest.mark.parametrize("habit", HABITS)
async def test_no_kind_of_client_delays_the_end(habit: Habit) -> None:
    async with serving(PATIENT) as served, await served.connect() as client:
        await habit(client)
        await _shut_down(served, 0.5)
        assert served.listener.open_connections == 0
        assert served.record.ended == served.record.begun


async def test_handlers_have_ended_when_close_returns() -> None:
    async with serving(PATIENT) as served:
        clients = [await served.connect() for _ in HABITS * 3]
        for client, habit in zip(clients, HABITS * 3, strict=True):
            await habit(client)
        await until(lambda: served.record.begun == 3 * BUSY)
        await _shut_down(served, 0.3)
        assert (served.record.ended, served.listener.open_connections) == (3 * BUSY, 0)
        for client in clients:
            client.close()


async def test_answers_that_end_in_time_arrive_whole() -> None:
    async with serving(PATIENT) as served, await served.connect() as reader:
        async with await served.connect() as waiter:
            await _read_on(reader)
            await _wait_with_extra_byte(waiter)
            await until(lambda: served.record.begun == 2)
            await served.listener.stop_accepting()
            closing = asyncio.create_task(served.listener.close(PATIENT.idle))
            served.record.finish.set()
            assert await reader.ends_with(b"finished\r\n0\r\n\r\n")
            answer = await waiter.answer()
            assert (answer.body, answer.headers["connection"]) == (b"waited", "close")
        reader.close()
        await asyncio.wait_for(closing, DEADLINE)


async def test_idle_connections_do_not_use_up_the_patience() -> None:
    async with serving(PATIENT) as served:
        clients = [await served.connect() for _ in range(3)]
        for client, habit in zip(clients, (_hang_around, _start_a_head, _say_nothing), strict=True):
            await habit(client)
        closing = asyncio.create_task(_shut_down(served, PATIENT.idle))
        for client in clients:
            await client.is_closed()
            client.close()
        await closing


async def test_kept_alive_connections_are_answered_once_more_while_draining() -> None:
    async with serving(PATIENT) as served, await served.connect() as client:
        await client.get("/hello")
        await served.listener.stop_accepting()
        answer = await client.get("/hello")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.rest() == b""


async def test_new_connections_are_refused_while_draining() -> None:
    async with serving(PATIENT) as served, await served.connect() as client:
        port = served.port
        await _read_on(client)
        await served.listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await Client.open(port)
        assert (await client.reader.read(1)) != b""
