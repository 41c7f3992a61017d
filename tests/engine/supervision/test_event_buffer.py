"""Where a reader's events wait: together, in order, and how long a slow one is waited for."""

import asyncio

from mlxd.engine.supervision.event_buffer import EventBuffer, Unread
from mlxd.events import Event, Progress

LIMIT = Unread(events=2, seconds=10.0)


def event(number: int) -> Event:
    return Progress("prefill", number, 100)


def filled(buffer: EventBuffer, count: int) -> list[Event]:
    made = [event(number) for number in range(count)]
    for each in made:
        buffer.put(each)
    return made


async def test_a_reader_gets_all_that_is_there_and_then_the_end() -> None:
    buffer = EventBuffer(LIMIT)
    made = filled(buffer, 3)
    assert await buffer.take() == made
    waiting = asyncio.create_task(buffer.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    buffer.put(event(9))
    assert await waiting == [event(9)]
    buffer.close()
    assert (await buffer.take(), await buffer.take()) == ([], [])


async def test_what_came_before_the_end_is_still_read() -> None:
    buffer = EventBuffer(LIMIT)
    made = filled(buffer, 2)
    buffer.close()
    assert await buffer.take() == made
    assert await buffer.take() == []


def test_a_reader_may_leave_as_much_as_is_allowed_for_ever() -> None:
    buffer = EventBuffer(LIMIT)
    filled(buffer, 2)
    assert not any(buffer.overdue(now) for now in (0.0, 10.0, 1e6))


def test_a_reader_that_leaves_more_is_given_its_time_to_the_last_second() -> None:
    buffer = EventBuffer(LIMIT)
    filled(buffer, 3)
    assert [buffer.overdue(now) for now in (5.0, 14.9, 15.0)] == [False, False, True]


async def test_a_reader_that_recovered_is_given_its_time_anew() -> None:
    buffer = EventBuffer(LIMIT)
    filled(buffer, 3)
    assert not buffer.overdue(0.0)
    assert not buffer.overdue(9.0)
    await buffer.take()
    buffer.put(event(0))
    assert not buffer.overdue(9.5)
    filled(buffer, 3)
    assert [buffer.overdue(now) for now in (11.0, 20.9, 21.0)] == [False, False, True]
