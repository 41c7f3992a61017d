"""What a model brings with it, in the engine process: if it can be batched, how it is sampled."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.engine.supervision.wait_reasons import UNBATCHED
from mlxd.events import Started
from mlxd.messages import NoTools, Sampling, Tool
from tests.engine.process.test_engine import GREEDY, MARKUP_IDS, NEVER, answer_of, ask, events_of
from tests.engine.process.test_fatal_modules import LIMIT, engine_of
from tests.engine.support import until
from tests.own_code import PLAIN, REFUSES_TWO

pytestmark = [pytest.mark.mlx, pytest.mark.asyncio(loop_scope="module")]


Shared = tuple[Supervisor, Path]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    """An engine, and the folder of its models, which it reads when they are asked for."""
    folder = tmp_path_factory.mktemp("own")
    codes = {"greedy": PLAIN, "hot": PLAIN, "plain": PLAIN, "lone": REFUSES_TWO}
    async with engine_of(folder, codes) as engine:
        yield engine, folder


TOOL_CALL = MARKUP_IDS[5]


async def test_a_model_that_can_not_be_batched_serves_one_request_after_the_other(
    shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    engine, _ = shared
    async with asyncio.timeout(LIMIT):
        expected = [(await answer_of(engine, ask(f"q {n}", model="plain"))).text for n in range(5)]
        with caplog.at_level(logging.INFO):
            await engine.load("lone")
        assert "model lone: 0.0 GB read, trying it out" in caplog.text
        assert "model lone is served one request at a time: ValueError" in caplog.text
        unbatched = [model.id for model in engine.models() if model.unbatched]
        assert unbatched == ["lone"]
        async with engine.generate(ask(model="lone", max_tokens=2000)) as running:
            await anext(running)
            waiting = [
                asyncio.create_task(answer_of(engine, ask(f"q {n}", model="lone")))
                for n in range(5)
            ]
            await until(
                lambda: (
                    [row.wait_note for row in engine.status().requests] == ["", *[UNBATCHED] * 5]
                )
            )
            assert (await answer_of(engine, ask())).finished.usage.completion == 8
        answers = await asyncio.gather(*waiting)
        assert [answer.text for answer in answers] == expected
        again = await answer_of(engine, ask("q 4", model="lone"))
        assert again.text == expected[4]
        assert again.finished.usage.cached > 0
        assert engine.status().restarts == 0


async def test_what_a_request_leaves_open_is_as_its_models_file_says(shared: Shared) -> None:
    engine, folder = shared
    async with asyncio.timeout(LIMIT):
        files = {"greedy": {"do_sample": False, "top_p": 0.9}, "hot": {"temperature": 2.0}}
        for number, advice in enumerate(files.values()):
            file = folder / f"own{number}" / "generation_config.json"
            file.write_text(json.dumps(advice))
        never = Sampling(logit_bias=NEVER)
        coldest = (await answer_of(engine, ask(model="tiny", max_tokens=20))).text

        async def texts(model: str, sampling: Sampling) -> set[str]:
            request = ask(model=model, max_tokens=20, sampling=sampling)
            return {(await answer_of(engine, request)).text for _ in range(3)}

        assert await texts("greedy", never) == {coldest}
        assert coldest not in await texts("hot", never)
        assert await texts("hot", GREEDY) == {coldest}
        started = {name: (await events_of(engine, ask(model=name)))[0] for name in files}
        assert isinstance(started["greedy"], Started)
        assert (found := started["greedy"].sampling).temperature == 0
        assert found.top_p == 0.9
        assert isinstance(started["hot"], Started)
        assert started["hot"].sampling.top_p is None


async def test_a_token_that_opens_a_call_is_not_drawn_where_none_may_be_made(
    tmp_path: Path,
) -> None:
    async with engine_of(tmp_path, {}) as engine:
        opening = Sampling(temperature=0, logit_bias={**NEVER, TOOL_CALL: 100.0})
        drawn = await answer_of(engine, ask(sampling=opening))
        assert drawn.text == 8 * "<tool_call>"
        forbidden = ask(sampling=opening, tools=(Tool("run"),), tool_choice=NoTools())
        answer = await answer_of(engine, forbidden)
        assert answer.text
        assert "<tool_call>" not in answer.text
        assert answer.finished.usage.completion == 8
