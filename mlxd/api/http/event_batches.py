"""The events of several generations as one stream of batches."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

from mlxd.engine.interface import Generation
from mlxd.errors import InternalError
from mlxd.events import TERMINAL, Event, Failed

Batch = tuple[int, list[Event]]
"""A generation's number and the events that were ready."""

LOST = Failed(InternalError("a generation ended without an end").report())


def merged(
    generations: Sequence[Generation], patience: Callable[[], float | None]
) -> AsyncGenerator[list[Batch], None]:
    """The batches of all generations as they become ready, each ending in a terminal event.

    An empty list when nothing came for `patience()` seconds (None: wait for ever). Raises what a
    generation raises. Closing it leaves no task behind.
    """
    if len(generations) == 1:
        return _one(generations[0], patience)
    return _all(generations, patience)


async def _one(
    generation: Generation, patience: Callable[[], float | None]
) -> AsyncGenerator[list[Batch], None]:
    """The common case needs no task for each batch."""
    ended = False
    while not ended:
        ready: list[Batch] = []
        # A wait that is given up loses no event, the contract of `Generation` says.
        with suppress(TimeoutError):
            async with asyncio.timeout(patience()):
                ready = [(0, await _take(generation) or [LOST])]
        ended = bool(ready) and isinstance(ready[0][1][-1], TERMINAL)
        yield ready


async def _all(
    generations: Sequence[Generation], patience: Callable[[], float | None]
) -> AsyncGenerator[list[Batch], None]:
    waiting = {_next_batch(each): number for number, each in enumerate(generations)}
    try:
        while waiting:
            done, _ = await asyncio.wait(
                waiting, timeout=patience(), return_when=asyncio.FIRST_COMPLETED
            )
            # In the order of the choices: two runs of one request give the same frames.
            ready = sorted((waiting.pop(task), task.result() or [LOST]) for task in done)
            for number, batch in ready:
                if not isinstance(batch[-1], TERMINAL):
                    waiting[_next_batch(generations[number])] = number
            yield ready
    finally:
        for task in waiting:
            task.cancel()
        # Waited for, as a generation must not be left while somebody still reads from it.
        await asyncio.gather(*waiting, return_exceptions=True)


def _next_batch(generation: Generation) -> asyncio.Task[list[Event] | None]:
    return asyncio.ensure_future(_take(generation))


async def _take(generation: Generation) -> list[Event] | None:
    """The next batch, None after the last."""
    return await anext(aiter(generation), None)
