"""Requests and readers that the tests of both engines use."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from mlxd.engine.interface import Engine, Generation
from mlxd.events import Answer, Event, check_order, collect
from mlxd.messages import GenerateRequest, Message, Part, Text, ToolResult

LIMIT = 60.0
"""Seconds after which a test that waits has failed."""
TICK = 0.002


def ask(text: str = "Hello", *, model: str = "scripted") -> GenerateRequest:
    """A plain request; use `msgspec.structs.replace` for the rest."""
    return GenerateRequest(id="req", model=model, messages=(user(text),))


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def tool_result(text: str, call_id: str = "call_1") -> Message:
    part: Part = ToolResult(call_id, (Text(text),))
    return Message("tool", (part,))


def then(request: GenerateRequest, *messages: Message) -> GenerateRequest:
    """The same request with more messages."""
    return replace(request, messages=(*request.messages, *messages))


async def read(generation: Generation) -> list[Event]:
    """All events, which must be one whole stream."""
    events = [event async for batch in generation for event in batch]
    return list(check_order(events))


async def events_of(engine: Engine, request: GenerateRequest) -> list[Event]:
    async with asyncio.timeout(LIMIT), engine.generate(request) as generation:
        return await read(generation)


async def answer_of(engine: Engine, request: GenerateRequest) -> Answer:
    return collect(await events_of(engine, request))


@asynccontextmanager
async def stopping(engine: Engine) -> AsyncIterator[None]:
    """Start the engine, and stop it whatever happens."""
    await engine.start()
    try:
        yield
    finally:
        await engine.stop(0)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until `holds()`; fails the test when it does not for long."""
    for _ in range(round(LIMIT / TICK)):
        if holds():
            return
        await asyncio.sleep(TICK)
    raise AssertionError("it did not come to hold")


def kinds(events: Iterable[Event]) -> list[str]:
    return [type(event).__name__ for event in events]
