"""A model that can't be batched, in the engine process: its requests take turns, and say so."""

import asyncio
import logging
from pathlib import Path

import pytest

from mlxd.engine.supervision.wait_reasons import UNBATCHED
from tests.engine.asking import until
from tests.engine.process.test_engine import answer_of, ask
from tests.engine.process.test_fatal_modules import LLAMA, engine_of

pytestmark = pytest.mark.mlx

REFUSES_TWO = (
    LLAMA
    + """
class Model(Llama):
  def __call__(self, inputs, cache=None):
    if len(inputs) > 1:
      raise ValueError("rows")
    return super().__call__(inputs, cache=cache)
"""
)
PLAIN = LLAMA + "Model = Llama\n"


async def test_a_model_that_can_not_be_batched_serves_one_request_after_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codes = {"plain": PLAIN, "lone": REFUSES_TWO}
    async with engine_of(tmp_path, codes) as engine:
        expected = [(await answer_of(engine, ask(f"q {n}", model="plain"))).text for n in range(5)]
        with caplog.at_level(logging.WARNING):
            await engine.load("lone")
        assert "model lone is served one request at a time: ValueError" in caplog.text
        unbatched = {model.id: bool(model.unbatched) for model in engine.models()}
        assert unbatched == {"tiny": False, "plain": False, "lone": True}
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
