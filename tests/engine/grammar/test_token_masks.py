"""One row under a grammar or a thinking budget, led by the worst draws: it ends whole, in time."""

import json
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from mlx_lm.utils import load_tokenizer

from mlxd.engine.grammar.constrainer import Constrainer
from mlxd.engine.grammar.token_masks import MAX_ANSWER_ROOM, PATIENCE, Steering
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import InvalidField
from mlxd.messages import (
    AutoTools,
    GenerateRequest,
    JsonSchemaOutput,
    Message,
    Output,
    ReasoningOptions,
    RequiredTools,
    Text,
    TextOutput,
    Tool,
    ToolChoice,
)
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

WORDS = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
LONG_END = {
    "type": "object",
    "properties": {
        name: {"type": "string", "minLength": 12}
        for name in ("first_of_many", "second_of_many", "third_of_many", "fourth_of_many")
    },
    "required": ["first_of_many", "second_of_many", "third_of_many", "fourth_of_many"],
    "additionalProperties": False,
}
THINKING, FREE = ReasoningOptions(), TextOutput()
AUTO = AutoTools()


class Bench:
    """A tokenizer whose characters are tokens, and what makes rows of requests for it."""

    def __init__(self, folder: Path) -> None:
        make_tiny_model(folder)
        self.tokenizer = load_tokenizer(folder)
        self.size = len(self.tokenizer.get_vocab())
        self.end = self.token("<|im_end|>")
        self.builder = PromptBuilder(
            self.tokenizer, ModelSpec(id="tiny", source=str(folder)), 2048, vocab_size=self.size
        )
        self.constrainer = self.constrainer_with([self.end])

    def constrainer_with(self, ends: Sequence[int]) -> Constrainer:
        return Constrainer(self.tokenizer, self.builder, ends=ends, vocab_size=self.size)

    def token(self, text: str) -> int:
        """The token of a text that is one."""
        (token,) = self.tokenizer.encode(text, add_special_tokens=False)
        return int(token)

    def bytes_of(self, text: str) -> list[int]:
        """The tokens of a text none of whose characters is one."""
        return [int(each) for each in self.tokenizer.encode(text, add_special_tokens=False)]

    def shortest(self, request: GenerateRequest) -> int:
        recipe = self.constrainer.recipe(request, Prompt([1]))
        assert recipe is not None
        assert recipe.grammar is not None
        return len(recipe.grammar.shortest or ())

    def start(self, request: GenerateRequest, room: int, *, inside: bool = False) -> Steering:
        recipe = self.constrainer.recipe(request, Prompt([1], opens_reasoning=inside))
        assert recipe is not None
        return recipe.start(room)

    def led(self, steering: Steering, room: int, draws: Sequence[int]) -> tuple[list[int], bool]:
        """The tokens of a row that draws these where it may, then `x` where it may for ever.

        The second value says whether it ended by itself.
        """
        taken: list[int] = []
        while len(taken) < room:
            mask = steering.allowed()
            wanted = (*draws[len(taken) : len(taken) + 1], self.token("x"))
            others = range(self.size) if mask is None else np.flatnonzero(mask)
            token = next(
                int(each) for each in (*wanted, *others) if mask is None or mask[int(each)]
            )
            token = steering.settle(token) if steering.settles else token
            steering.took(token)
            assert not steering.fault
            if token == self.end:
                return taken, True
            taken.append(token)
        return taken, False

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens)))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("characters"))


def ask(
    output: Output = FREE,
    *,
    tools: tuple[Tool, ...] = (),
    choice: ToolChoice = AUTO,
    reasoning: ReasoningOptions | None = None,
) -> GenerateRequest:
    """A request; without `reasoning` its model does not think."""
    return GenerateRequest(
        id="test",
        model="tiny",
        messages=(Message("user", (Text("Hello"),)),),
        output=output,
        tools=tools,
        tool_choice=choice,
        reasoning=reasoning or ReasoningOptions(enabled=False),
    )


def schema(value: object) -> JsonSchemaOutput:
    return JsonSchemaOutput(json.dumps(value), strict=True)


def test_an_answer_that_would_go_on_for_ever_ends_whole_at_every_limit(bench: Bench) -> None:
    asked = ask(schema(WORDS))
    shortest = bench.shortest(asked)
    for room in (*range(shortest, shortest + 12), shortest + 64, shortest + 100):
        taken, ended = bench.led(bench.start(asked, room), room, ())
        assert ended, room
        jsonschema.validate(json.loads(bench.text(taken)), WORDS)
        # Led only as long as it has to be: most of the room is used.
        assert len(taken) > room - 20


def test_the_shortest_answer_is_written_where_nothing_else_fits(bench: Bench) -> None:
    asked = ask(schema(WORDS))
    shortest = bench.shortest(asked)
    taken, ended = bench.led(bench.start(asked, shortest), shortest, bench.bytes_of(' {\n "a"'))
    assert (ended, len(taken)) == (True, shortest - 1)
    assert json.loads(bench.text(taken)) == {"a": "", "b": []}
    _, ended = bench.led(bench.start(asked, shortest - 1), shortest - 1, ())
    assert not ended


@pytest.mark.parametrize("choice", [AUTO, RequiredTools()])
def test_a_call_with_a_long_end_is_begun_only_where_it_can_be_closed(
    bench: Bench, choice: ToolChoice
) -> None:
    tool = Tool("alpha", "", json.dumps(LONG_END), strict=True)
    asked = ask(tools=(tool,), choice=choice)
    required = choice != AUTO
    long = bench.shortest(ask(tools=(tool,), choice=RequiredTools()))
    assert long > 100
    begun = given_up = 0
    for room in (long + 3, long + 90):
        for before in (0, 1, 2, *range(3, room, 16)):
            draws = [bench.token("x")] * before + [bench.token("<tool_call>")]
            taken, ended = bench.led(bench.start(asked, room), room, draws)
            text = bench.text(taken)
            assert ended or (not required and "<tool_call>" not in text), (room, before, text)
            if "<tool_call>" in text:
                begun += 1
                call = json.loads(text.partition("<tool_call>")[2].removesuffix("</tool_call>"))
                jsonschema.validate(call["arguments"], LONG_END)
            else:
                given_up += 1
    assert begun > 2
    assert required == (given_up == 0)


def test_a_grammar_may_be_thought_before_even_where_its_answer_is_led(bench: Bench) -> None:
    """The opening tag is drawn while only few tokens are left for more than the shortest answer."""
    asked = ask(schema(WORDS), reasoning=THINKING)
    shortest = bench.shortest(asked)
    thought = 0
    for room in (*range(shortest, shortest + 8), *range(shortest + 8, shortest + 60, 8)):
        steering = bench.start(asked, room)
        taken, ended = bench.led(steering, room, [bench.token("<think>")])
        text = bench.text(taken)
        assert ended, (room, text)
        inside, closing, answer = text.rpartition("</think>")
        assert bool(closing) == text.startswith("<think>")
        jsonschema.validate(json.loads(answer), WORDS)
        thought += "x" in inside
    # With next to no room more than the answer takes there is no thinking.
    assert 4 < thought < 10


def test_thinking_leaves_a_constrained_answer_its_room(bench: Bench) -> None:
    asked = ask(schema(LONG_END), reasoning=THINKING)
    shortest = bench.shortest(asked)
    for room in (shortest + 30, shortest + 200):
        taken, ended = bench.led(bench.start(asked, room, inside=True), room, ())
        assert ended, room
        thought, _, answer = bench.text(taken).partition("</think>")
        jsonschema.validate(json.loads(answer), LONG_END)
        left = room - len(thought)
        assert shortest + left // 9 <= left <= shortest + max(30, min(MAX_ANSWER_ROOM, room // 8))


E_ACUTE = "\u00e9"
"""Two bytes, each a token of this tokenizer."""


@pytest.mark.parametrize("budget", [0, 1, 4, 5])
def test_a_budget_that_ends_inside_a_character_waits_for_its_end(bench: Bench, budget: int) -> None:
    asked = ask(reasoning=ReasoningOptions(budget=budget))
    letters = bench.bytes_of(E_ACUTE) * 10
    assert len(letters) == 20
    taken, _ = bench.led(bench.start(asked, 40, inside=True), 40, letters)
    thought, closing, _ = bench.text(taken).partition("</think>")
    assert closing
    assert thought == E_ACUTE * ((budget + 1) // 2)


def test_a_character_that_never_ends_does_not_keep_the_tag_open(bench: Bench) -> None:
    asked = ask(reasoning=ReasoningOptions(budget=1))
    first = bench.bytes_of("\U0001f600")[0]
    taken, _ = bench.led(bench.start(asked, 40, inside=True), 40, [first] * 20)
    assert 1 < taken.index(bench.token("</think>")) <= 1 + PATIENCE


def test_a_budget_is_for_thinking_alone(bench: Bench) -> None:
    """A tag that the model closes itself ends the counting, and a second one goes on with it."""
    asked = ask(reasoning=ReasoningOptions(budget=6))
    opening, closing, x = (bench.token(each) for each in ("<think>", "</think>", "x"))
    draws = [opening, x, x, closing, *[x] * 20, opening, *[x] * 30]
    taken, _ = bench.led(bench.start(asked, 60), 60, draws)
    assert taken[: len(draws) - 30] == draws[:-30]
    second = taken[taken.index(opening, 1) :]
    assert 2 <= second.index(closing) <= 6


@pytest.mark.parametrize(
    "asked",
    [
        ask(schema(WORDS)),
        ask(tools=(Tool("alpha", "", "{}"),), choice=RequiredTools()),
        ask(tools=(Tool("alpha", "", json.dumps(WORDS), strict=True),)),
    ],
    ids=["schema", "required call", "strict tool"],
)
def test_what_a_tokenizer_can_not_hold_to_is_refused_and_never_ignored(
    bench: Bench, asked: GenerateRequest
) -> None:
    with pytest.raises(InvalidField, match="can't be constrained"):
        bench.constrainer_with(()).recipe(asked, Prompt([1]))


def test_what_needs_no_constraint_is_answered_with_any_tokenizer(bench: Bench) -> None:
    free = bench.constrainer_with(())
    assert free.recipe(ask(tools=(Tool("alpha", "", "{}"),)), Prompt([1])) is None
    assert free.recipe(ask(reasoning=ReasoningOptions(budget=3)), Prompt([1])) is None
