"""What a scripted answer says of itself while it is played."""

import asyncio

from mlxd.engine.scripted.answers import block
from mlxd.engine.scripted.engine import Gate, ScriptedEngine
from mlxd.events import Finished, Started
from mlxd.messages import Text
from tests.engine.support import LIMIT, ask


async def test_the_tokens_of_a_whole_block_are_counted_once() -> None:
    gate = asyncio.Event()
    script = (Started("", 0), *block(0, Text("Hello there")), Gate(gate))
    engine = ScriptedEngine(lambda _: script)
    async with asyncio.timeout(LIMIT), engine.generate(ask()) as generation:
        await anext(generation)
        (status,) = engine.status().requests
        gate.set()
        end = (await anext(generation))[-1]
    assert isinstance(end, Finished)
    # The token that ends an answer is one more.
    assert end.usage.completion == status.figures.completion_tokens + 1
