"""What grammars cost: a decode step with constrained rows, and the compilation of a schema.

Prints one JSON object with lists of milliseconds: of a step of eight rows of which none (`free`),
`one` or `all` are constrained, and of a compilation.
"""

import json
import statistics
import sys
import time
from typing import Any

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.grammar.constrainer import Constrainer
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.parsing.detokenize import RowText, Streamed
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.engine.scheduling.scheduler import BatchRow, Scheduler
from mlxd.messages import GenerateRequest, JsonSchemaOutput, Message, Sampling, Text, TextOutput

ROWS = 8
STEPS = 48
KINDS = ("string", "integer", "number", "boolean")
ENDLESS = {
    "type": "array",
    "minItems": 400,
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["name", "size"],
    },
}


def wide_schema(number: int) -> dict[str, Any]:
    """A schema of 100 properties, another one for each number."""
    properties = {f"p{number}_{index}": {"type": KINDS[index % 4]} for index in range(100)}
    return {"type": "object", "properties": properties, "required": list(properties)}


class Worker:
    """A loaded model with its grammars."""

    def __init__(self, folder: str) -> None:
        self._loaded: LoadedModel = load(ModelSpec(id="bench", source=folder))
        size = self._loaded.vocab_size
        tokenizer = self._loaded.tokenizer
        self._builder = PromptBuilder(
            tokenizer, self._loaded.spec, self._loaded.context_length, vocab_size=size
        )
        ends = sorted(self._loaded.eos_ids)
        self._constrainer = Constrainer(tokenizer, self._builder, ends=ends, vocab_size=size)
        self._free = self._request(None)
        self._endless = self._request(ENDLESS)
        self._prompt = self._builder.build(self._free)

    def step_ms(self, constrained: int) -> float:
        """The median time of a decode step with so many constrained rows."""
        batch = MlxBatch(self._loaded, Prefixes(0), max_batch=ROWS, prefill_budget=0.25)
        batch.kv_bytes = 2**40
        scheduler = Scheduler(batch, max_batch=ROWS, clock=time.perf_counter)
        for number in range(ROWS):
            request = self._endless if number < constrained else self._free
            scheduler.submit(self._row(number, request, self._prompt))
        times: list[float] = []
        while scheduler.busy:
            started = time.perf_counter()
            result = scheduler.step()
            if len(result.decode) == ROWS:
                times.append(time.perf_counter() - started)
        batch.close()
        return statistics.median(times[2:]) * 1000

    def compile_ms(self, number: int) -> float:
        """The time of a first compilation."""
        request = self._request(wide_schema(number))
        started = time.perf_counter()
        self._constrainer.recipe(request, Prompt([1]))
        return (time.perf_counter() - started) * 1000

    def _request(self, schema: dict[str, Any] | None) -> GenerateRequest:
        return GenerateRequest(
            id="bench",
            model="bench",
            messages=(Message("user", (Text("Name things."),)),),
            output=TextOutput() if schema is None else JsonSchemaOutput(json.dumps(schema)),
        )

    def _row(self, number: int, request: GenerateRequest, prompt: Prompt) -> BatchRow:
        recipe = self._constrainer.recipe(request, prompt)
        never = dict.fromkeys(self._loaded.eos_ids, -100.0)
        return BatchRow(
            id=number,
            tokens=list(prompt.tokens),
            max_tokens=STEPS,
            text=RowText(Streamed(self._loaded.tokenizer.detokenizer), ()),
            sampling=Sampling(temperature=0.0, logit_bias=never),
            steering=recipe.start(STEPS) if recipe else None,
        )


def main() -> None:
    worker = Worker(sys.argv[1])
    rounds = int(sys.argv[2])
    worker.step_ms(0)
    steps: dict[int, list[float]] = {0: [], 1: [], ROWS: []}
    for _ in range(rounds):
        for constrained, times in steps.items():
            times.append(worker.step_ms(constrained))
    figures = {
        "free": steps[0],
        "one": steps[1],
        "all": steps[ROWS],
        "compile": [worker.compile_ms(number) for number in range(rounds + 1)][1:],
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
