"""Constrained answers of the tiny random-weight model, alone and among others."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import msgspec
import pytest

from mlxd.engine.batch import MlxBatch
from mlxd.engine.detokenize import RowText
from mlxd.engine.grammar import Constrainer
from mlxd.engine.models import LoadedModel, load
from mlxd.engine.prefixes import Prefixes
from mlxd.engine.prompt import Prompt, PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.engine.scheduler import Row, Scheduler
from mlxd.events import TokenLogprob
from mlxd.messages import (
    GenerateRequest,
    JsonSchemaOutput,
    Message,
    ReasoningOptions,
    Sampling,
    Text,
)
from tests.random_schemas import Schema, random_object
from tests.tiny_model import make_tiny_model

PROMPT = Prompt(list(range(40, 60)))
ENOUGH = 144
"""Tokens that the shortest answers to all random schemas fit into."""


class Got(msgspec.Struct):
    text: str = ""
    tokens: int = 0
    reason: str = ""
    logprobs: list[TokenLogprob] = []


class Bench:
    """A model with what prepares and runs its rows."""

    def __init__(self, folder: Path) -> None:
        self.loaded: LoadedModel = load(ModelSpec(id="tiny", source=str(folder)))
        size = self.loaded.vocab_size
        self.builder = PromptBuilder(
            self.loaded.tokenizer, self.loaded.spec, self.loaded.context_length, vocab_size=size
        )
        self.constrainer = Constrainer(
            self.loaded.tokenizer, self.builder, ends=sorted(self.loaded.eos_ids), vocab_size=size
        )

    def run(
        self, requests: Sequence[GenerateRequest], prompt: Prompt = PROMPT, stop: str = ""
    ) -> list[Got]:
        """Run all requests as one batch of up to eight rows."""
        batch = MlxBatch(self.loaded, Prefixes(0), max_batch=8, prefill_budget=0.25)
        batch.kv_bytes = 2**40
        scheduler = Scheduler(batch, max_batch=8, clock=lambda: 0.0)
        got = [Got() for _ in requests]
        for number, request in enumerate(requests):
            scheduler.submit(self._row(number, request, prompt, stop))
        while scheduler.busy:
            turn = scheduler.turn()
            assert not turn.broken
            assert not turn.faults
            for row in turn.decode:
                one = got[row.id]
                one.text += row.text
                one.tokens += row.tokens
                one.logprobs = [*one.logprobs, *row.logprobs]
                one.reason = row.end.reason if row.end else ""
        batch.close()
        return got

    def _row(self, number: int, request: GenerateRequest, prompt: Prompt, stop: str) -> Row:
        recipe = self.constrainer.recipe(request, prompt)
        tokens = request.max_tokens or 16
        return Row(
            id=number,
            tokens=list(prompt.tokens),
            max_tokens=tokens,
            text=RowText(self.loaded.tokenizer.detokenizer, (stop,) if stop else ()),
            sampling=request.sampling,
            logprobs=request.logprobs,
            steering=recipe.start(tokens) if recipe else None,
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(make_tiny_model(tmp_path_factory.mktemp("tiny")))


def ask(seed: int = 1, *, max_tokens: int = ENOUGH, **more: object) -> GenerateRequest:
    """A request without thinking, so that the answer is all there is."""
    plain = GenerateRequest(
        id="test",
        model="tiny",
        messages=(Message("user", (Text("Hello"),)),),
        max_tokens=max_tokens,
        sampling=Sampling(temperature=1.0, seed=seed),
        reasoning=ReasoningOptions(enabled=False),
    )
    return msgspec.structs.replace(plain, **more)


def schemas(count: int, seed: int) -> list[Schema]:
    rng = random.Random(seed)
    return [random_object(rng, depth=1) for _ in range(count)]


def output(schema: Schema) -> JsonSchemaOutput:
    return JsonSchemaOutput(json.dumps(schema), strict=True)


def test_answers_to_200_random_schemas_are_valid_alone_and_in_batches(bench: Bench) -> None:
    wanted = schemas(200, seed=7)
    requests = [ask(number, output=output(schema)) for number, schema in enumerate(wanted)]
    for start in range(0, len(wanted), 8):
        group = requests[start : start + 7]
        free = ask(start, max_tokens=40)
        together = bench.run([*group, free])
        for schema, got in zip(wanted[start:], together[:-1], strict=False):
            assert got.reason == "stop", (schema, got.text)
            jsonschema.validate(json.loads(got.text), schema)
        assert together[-1].text == bench.run([free])[0].text
        alone = bench.run([group[0]])[0]
        assert alone == together[0]
