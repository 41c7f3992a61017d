"""Constrained answers of the tiny random-weight model, alone and among others."""

import json
import math
import random
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import jsonschema
import msgspec
import pytest

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.grammar.constrainer import Constrainer
from mlxd.engine.grammar.token_masks import PATIENCE
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.parsing.detokenize import RowText, Streamed
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.engine.scheduling.scheduler import BatchRow, Scheduler
from mlxd.errors import InvalidField
from mlxd.events import TokenLogprob
from mlxd.messages import (
    GenerateRequest,
    GrammarOutput,
    JsonOutput,
    JsonSchemaOutput,
    Message,
    ReasoningOptions,
    RegexOutput,
    RequiredTools,
    Sampling,
    Text,
    Tool,
)
from tests.random_schemas import Schema, random_object
from tests.tiny_model import OPEN_THINK_TEMPLATE, make_tiny_model

pytestmark = pytest.mark.mlx

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
            result = scheduler.step()
            assert not result.broken
            assert not result.faults
            for row in result.decode:
                one = got[row.id]
                one.text += row.text
                one.tokens += row.tokens
                one.logprobs = [*one.logprobs, *row.logprobs]
                one.reason = row.end.reason if row.end else ""
        batch.close()
        return got

    def _row(self, number: int, request: GenerateRequest, prompt: Prompt, stop: str) -> BatchRow:
        recipe = self.constrainer.recipe(request, prompt)
        tokens = request.max_tokens or 16
        return BatchRow(
            id=number,
            tokens=list(prompt.tokens),
            max_tokens=tokens,
            text=RowText(Streamed(self.loaded.tokenizer.detokenizer), (stop,) if stop else ()),
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


@pytest.mark.parametrize("seed", range(7, 9))
def test_answers_to_random_schemas_are_valid_alone_and_in_batches(bench: Bench, seed: int) -> None:
    wanted = schemas(14, seed)
    requests = [ask(number, output=output(schema)) for number, schema in enumerate(wanted)]
    for start in range(0, len(wanted), 7):
        group = requests[start : start + 7]
        free = ask(start, max_tokens=40)
        together = bench.run([*group, free])
        for schema, got in zip(wanted[start:], together[:-1], strict=False):
            assert got.reason == "stop", (schema, got.text)
            jsonschema.validate(json.loads(got.text), schema)
        assert together[-1].text == bench.run([free])[0].text
        # Alone each row costs what all of them cost together.
        for number in (0, 4):
            assert bench.run([group[number]])[0] == together[number]


HOSTILE: dict[str, Schema] = {
    "itself": {"$ref": "#"},
    "each other": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "endless nesting": {
        "$defs": {"n": {"type": "object", "properties": {"c": {"$ref": "#/$defs/n"}}}},
        "$ref": "#/$defs/n",
    },
    "a billion characters": {"type": "string", "minLength": 10**9},
    "a billion items": {"type": "array", "minItems": 10**9},
    "a billion repeats": {"type": "string", "pattern": "^a{1,1000000000}$"},
    "nested quantifiers": {"type": "string", "pattern": "^(((a{1,1000}b?){1,1000}c?){1,1000})+$"},
    "backtracking": {"type": "string", "pattern": "^(a+)+(b+)+(c|d|e)*(.*x){20}$"},
    "look-around": {"type": "string", "pattern": "^(?=.*a).*$"},
    "a long pattern": {"type": "string", "pattern": "a" * 1025},
    "a product of unions": {
        "allOf": [
            {"anyOf": [{"properties": {f"p{i}_{j}": {"type": "string"}}} for j in range(9)]}
            for i in range(9)
        ]
    },
    "many values": {"enum": [f"value {number}" for number in range(1001)]},
    "many properties": {
        "type": "object",
        "properties": {f"p{number}": {"type": "string"} for number in range(5001)},
    },
    "many optional properties": {
        "type": "object",
        "properties": {f"p{number}": {"type": "string"} for number in range(3000)},
    },
    "a far reference": {"$ref": "http://localhost/schema"},
    "what is not enforced": {"type": "object", "propertyNames": {"pattern": "^a"}},
    "what nothing satisfies": {"type": "integer", "minimum": 5, "maximum": 3},
    "large": {"const": "a" * 70_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_or_enforced_and_never_slow(bench: Bench, name: str) -> None:
    started = time.process_time()
    wanted = ask(output=output(HOSTILE[name]), max_tokens=40)
    with suppress(InvalidField):
        recipe = bench.constrainer.recipe(wanted, PROMPT)
        assert recipe is not None
        assert recipe.grammar is not None
        (got,) = bench.run([wanted])
        assert got.reason == "length" or json.loads(got.text) is not None
    assert time.process_time() - started < 3


REFUSED = (
    *("itself", "each other", "look-around", "a long pattern", "a product of unions"),
    *("many values", "many properties", "a far reference", "what is not enforced"),
    *("what nothing satisfies", "large"),
)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_enforced_is_refused_with_a_reason(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        bench.constrainer.recipe(ask(output=output(HOSTILE[name])), PROMPT)
    assert refusal.value.field.startswith("response_format")
    assert len(str(refusal.value)) > 20


def nested(depth: int) -> Schema:
    inner: Schema = {"type": "string"}
    for _ in range(depth):
        inner = {"type": "object", "properties": {"a": inner}}
    return inner


def test_schemas_nest_ten_deep_and_no_deeper(bench: Bench) -> None:
    assert bench.constrainer.recipe(ask(output=output(nested(10))), PROMPT) is not None
    with pytest.raises(InvalidField, match="more than 10 deep"):
        bench.constrainer.recipe(ask(output=output(nested(11))), PROMPT)


@pytest.mark.parametrize(
    "text",
    [
        *("start: (", "start: missing", "start: " + "(" * 30_000, "a: B\n" * 2000, "x" * 70_000),
        *("root ::= x y z (", 'root ::= "a', "root ::= [a-", "::=", "root ::= \0"),
        *('root ::= "a"{99,1}', "root ::= missing", "root ::= root", "root ::= " + "(" * 5000),
    ],
)
def test_a_grammar_that_cannot_be_read_is_refused(bench: Bench, text: str) -> None:
    with pytest.raises(InvalidField):
        bench.constrainer.recipe(ask(output=GrammarOutput(text)), PROMPT)


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        (RegexOutput("[a-c]{3,5}-[0-9]+"), r"[a-c]{3,5}-[0-9]+"),
        (GrammarOutput('start: "yes" | "no"'), r"yes|no"),
        (GrammarOutput('root ::= "a" [0-9]+ "b"'), r"a[0-9]+b"),
        (JsonOutput(), r"\s*\{.*\}"),
    ],
    ids=["regex", "lark", "gbnf", "json"],
)
def test_other_outputs_are_held_to_their_form(
    bench: Bench, wanted: RegexOutput | GrammarOutput | JsonOutput, pattern: str
) -> None:
    for got in bench.run([ask(seed, output=wanted, max_tokens=60) for seed in range(8)]):
        assert got.reason == "stop"
        assert re.fullmatch(pattern, got.text, re.DOTALL)


def test_an_answer_ends_whole_at_every_limit_it_fits_into(bench: Bench) -> None:
    schema: Schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
    recipe = bench.constrainer.recipe(ask(output=output(schema)), PROMPT)
    assert recipe is not None
    assert recipe.grammar is not None
    shortest = len(recipe.grammar.shortest or ())
    assert shortest > 0
    limits = range(1, shortest + 25)
    wanted = [ask(limit, output=output(schema), max_tokens=limit) for limit in limits]
    for limit, got in zip(limits, bench.run(wanted), strict=True):
        if limit < shortest:
            assert got.reason == "length"
            continue
        assert got.reason == "stop", limit
        jsonschema.validate(json.loads(got.text), schema)


def test_a_grammar_goes_with_logprobs_penalties_seeds_and_stop_strings(bench: Bench) -> None:
    sampling = Sampling(temperature=1.2, seed=4, frequency_penalty=1.0, repetition_penalty=1.2)
    text = {"type": "string", "minLength": 8}
    wanted = ask(output=output(text), sampling=sampling, logprobs=3, max_tokens=80)
    first, second = bench.run([wanted, wanted])
    assert first == second
    assert len(json.loads(first.text)) >= 8
    for entry in first.logprobs:
        assert math.isfinite(entry.logprob)
        assert entry.logprob > -1000
        assert all(math.isfinite(other.logprob) for other in entry.top)
    (stopped,) = bench.run([wanted], stop=first.text[4:6])
    assert stopped.reason == "stop_sequence"
    assert first.text.startswith(stopped.text)


TOOLS = (
    Tool("alpha", "", json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}})),
    Tool("beta", "", json.dumps({"type": "object", "required": ["x"], "properties": {"x": {}}})),
)


def test_a_required_call_comes_in_the_models_notation_at_once(bench: Bench) -> None:
    wanted = [
        ask(seed, tools=TOOLS, tool_choice=RequiredTools(), max_tokens=150) for seed in range(8)
    ]
    for got in bench.run(wanted):
        assert got.reason == "stop"
        assert got.text.lstrip().startswith('<tool_call>\n{"name": "')
        assert got.text.endswith("</tool_call>")


def test_without_parallel_calls_there_is_one(bench: Bench) -> None:
    wanted = ask(tools=TOOLS, tool_choice=RequiredTools(), parallel_tools=False, max_tokens=150)
    requests = [msgspec.structs.replace(wanted, sampling=Sampling(seed=n)) for n in range(16)]
    assert {got.text.count("</tool_call>") for got in bench.run(requests)} == {1}


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model whose prompt opens the reasoning tag."""
    folder = tmp_path_factory.mktemp("thinker")
    return Bench(make_tiny_model(folder, template=OPEN_THINK_TEMPLATE))


def test_a_grammar_begins_behind_the_reasoning(thinker: Bench) -> None:
    inside = Prompt(PROMPT.tokens, opens_reasoning=True)
    wanted = [
        ask(seed, output=output(nested(1)), max_tokens=90, reasoning=ReasoningOptions())
        for seed in range(8)
    ]
    for got in thinker.run(wanted, inside):
        thought, closing, answer = got.text.partition("</think>")
        assert (thought != "", closing) == (True, "</think>")
        assert got.reason == "stop"
        assert isinstance(json.loads(answer), dict)


@pytest.mark.parametrize("budget", [0, 1, 7, 20])
def test_a_thinking_budget_closes_the_tag_in_every_row(thinker: Bench, budget: int) -> None:
    inside = Prompt(PROMPT.tokens, opens_reasoning=True)
    thinking = ReasoningOptions(budget=budget)
    never = dict.fromkeys(thinker.loaded.eos_ids, -100.0)
    samplings = [Sampling(temperature=1.0, seed=seed, logit_bias=never) for seed in range(7)]
    free = ask(99, max_tokens=60, reasoning=ReasoningOptions())
    wanted = [
        ask(sampling=sampling, max_tokens=60, reasoning=thinking, logprobs=0)
        for sampling in samplings
    ]
    *budgeted, other = thinker.run([*wanted, free], inside)
    for got in budgeted:
        spent = [entry.token for entry in got.logprobs].index("</think>")
        assert spent <= budget + PATIENCE
        assert got.tokens > spent + 1
    assert other == thinker.run([free], inside)[0]
