"""Which prefixes an engine process keeps where memory is short: a conversation before all else."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.events import Usage
from mlxd.messages import GenerateRequest, Message, Sampling, Source, Text
from tests.engine.support import answer_of, then, user
from tests.tiny_model import HEADS, HIDDEN, KV_HEADS, LAYERS, make_tiny_model

pytestmark = [pytest.mark.mlx, pytest.mark.asyncio(loop_scope="module")]

TOKEN_BYTES = 2 * LAYERS * KV_HEADS * (HIDDEN // HEADS) * 4
ROOM = 900
"""Tokens that the prefix cache holds."""
SAYS_A = Sampling(temperature=0, logit_bias={65: 1000.0})
"""A token a byte, so that lengths are known: the tokenizer knows few words."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervisor]:
    model = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    os.environ["MLXD_BLAS"] = "reference"
    limits = EngineLimits(max_batch=8, prefix_cache_bytes=ROOM * TOKEN_BYTES)
    specs = (ModelSpec(id="tiny", source=str(model)),)
    engine = Supervisor(specs, limits, preload="tiny", stall_timeout=20, load_timeout=60)
    await engine.start()
    yield engine
    await engine.stop(1)
    del os.environ["MLXD_BLAS"]


def conversation(key: str, words: str) -> GenerateRequest:
    """One of its own key, so that no test finds what another has left."""
    source = Source(dialect="test", key=key)
    messages = (Message("system", (Text(words),)), user("Begin."))
    return GenerateRequest("req", "tiny", messages, max_tokens=8, sampling=SAYS_A, source=source)


async def ask(engine: Supervisor, request: GenerateRequest) -> tuple[GenerateRequest, Usage]:
    """The request that goes on from the answer, and what this one took."""
    answer = await answer_of(engine, request)
    said = Message("assistant", answer.parts)
    return then(request, said, user("and then? " * 8)), answer.finished.usage


async def test_what_is_asked_beside_a_conversation_does_not_drive_it_out(
    engine: Supervisor,
) -> None:
    talk, first = await ask(engine, conversation("beside", "You repair clocks. " * 12))
    talk, second = await ask(engine, talk)
    for number in range(24):
        aside = conversation("beside", f"{number}: give it a title. " * 4)
        if number % 3 == 0:
            await engine.count_tokens(aside)
        await ask(engine, aside)
    talk, third = await ask(engine, talk)
    assert second.cached >= first.prompt - 1
    assert third.cached >= second.prompt - 1


async def test_a_conversation_that_outgrows_the_cache_keeps_what_it_had(
    engine: Supervisor,
) -> None:
    talk, cached, prompts = conversation("long", "You repair clocks. " * 12), list[int](), [0]
    for _ in range(12):
        talk, usage = await ask(engine, talk)
        cached.append(usage.cached)
        prompts.append(usage.prompt)
    assert prompts[-1] > ROOM
    assert cached == sorted(cached)
    # A block may be given up for the one that is computed now.
    assert cached[-1] >= ROOM - 256


async def test_two_agents_with_one_system_prompt_hold_it_once(engine: Supervisor) -> None:
    system = "Follow these rules. " * 32
    _, alone = await ask(engine, conversation("team", system))
    for number in range(4):
        request = conversation("team", system)
        other = replace(request, messages=(request.messages[0], user(f"{number} is your part")))
        _, usage = await ask(engine, other)
        # Five copies would be three times what the cache has room for.
        assert usage.cached > 0.9 * alone.prompt - 30
