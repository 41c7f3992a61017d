"""Tool calls of every notation, drawn at random from their grammars and read back."""

import json
import random
import re
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
from mlx_lm.utils import load_tokenizer

from mlxd.api.openai.tools import InputGrammar, custom_input, custom_tool
from mlxd.engine.grammar.constrainer import Constrainer, SteeringRecipe
from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import NOTATIONS
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import InvalidField
from mlxd.events import BlockEnd, Finished, Timings, Usage
from mlxd.messages import (
    AutoTools,
    GenerateRequest,
    Message,
    NamedTool,
    RequiredTools,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests.random_schemas import random_object
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

MARKERS = (
    *("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>", "<|call|>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>"),
    *("<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|open|>", "<|close|>", "<|sep|>"),
    *("<\uff5ctool\u2581calls\u2581begin\uff5c>", "<\uff5ctool\u2581calls\u2581end\uff5c>"),
    *("<\uff5ctool\u2581call\u2581begin\uff5c>", "<\uff5ctool\u2581call\u2581end\uff5c>"),
    *("<\uff5ctool\u2581sep\uff5c>", "[TOOL_CALLS]", "<|tool_call>", "<tool_call|>"),
    *("<start_function_call>", "<end_function_call>", "<|tool_call_start|>", "<|tool_call_end|>"),
    *("]<]minimax[>[", "\uff5cDSML\uff5c"),
)
MORE = 100
"""Tokens that a call may take beyond the shortest one."""
PATTERNS = (
    r"[a-z]{2,5}-\d{1,3}",
    "^(red|green)$",
    "^red|green$",
    'say "[a-z ]{0,4}"',
    r"a\\b|c\n d",
)
BETA = Tool("beta", "", json.dumps({"type": "object", "properties": {}}))


class Bench:
    """A tokenizer that knows the markers of all families."""

    def __init__(self, folder: Path) -> None:
        make_tiny_model(folder, extra_special=tuple(dict.fromkeys(MARKERS)))
        self.tokenizer = load_tokenizer(folder)
        self.size = len(self.tokenizer.get_vocab())
        self.builder = PromptBuilder(
            self.tokenizer, ModelSpec(id="tiny", source=str(folder)), 2048, vocab_size=self.size
        )
        self.ends = [self.tokenizer.convert_tokens_to_ids("<|im_end|>")]

    def constrainer(self, tool_format: str) -> Constrainer:
        self.builder.markup = Markup((), tool_format)
        return Constrainer(self.tokenizer, self.builder, ends=self.ends, vocab_size=self.size)

    def walk(self, recipe: SteeringRecipe, rng: random.Random) -> tuple[str, bool]:
        """A random text of the grammar, and whether it ended by itself."""
        assert recipe.grammar is not None
        assert recipe.grammar.shortest is not None
        room = len(recipe.grammar.shortest) + MORE
        steering, taken = recipe.start(room), list[int]()
        while len(taken) < room:
            mask = steering.allowed()
            assert mask is not None
            assert not steering.fault
            token = int(rng.choice(np.flatnonzero(mask)))
            token = steering.settle(token) if steering.settles else token
            steering.took(token)
            if token in self.ends:
                return self.tokenizer.decode(taken), True
            taken.append(token)
        return self.tokenizer.decode(taken), False


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("marked"))


def request(tools: tuple[Tool, ...], choice: ToolChoice) -> GenerateRequest:
    return GenerateRequest(
        id="test",
        model="tiny",
        messages=(Message("user", (Text("Hello"),)),),
        tools=tools,
        tool_choice=choice,
    )


def read(markup: Markup, asked: GenerateRequest, text: str) -> tuple[list[ToolCall], str, Finished]:
    """The calls and the text in an answer."""
    builder = BlockBuilder(markup, asked, opens_reasoning=False, mode="separate")
    events = builder.text(text, tokens=1)
    events += builder.finish("stop", stop_sequence=None, usage=Usage(), timings=Timings())
    finished = events[-1]
    assert isinstance(finished, Finished)
    parts = [event.part for event in events if isinstance(event, BlockEnd)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    return calls, "".join(part.text for part in parts if isinstance(part, Text)), finished


@pytest.mark.parametrize("tool_format", NOTATIONS)
def test_required_calls_are_read_back_with_arguments_that_satisfy_the_schema(
    bench: Bench, tool_format: str
) -> None:
    rng = random.Random(11)
    constrainer, markup = bench.constrainer(tool_format), Markup((), tool_format)
    for _ in range(6):
        schema = random_object(rng, depth=1)
        tools = (Tool("alpha", "", json.dumps(schema), strict=rng.random() < 0.5), BETA)
        choices: list[ToolChoice] = [NamedTool("alpha"), RequiredTools()]
        asked = request(tools, rng.choice(choices))
        asked = msgspec.structs.replace(asked, parallel_tools=rng.random() < 0.5)
        recipe = constrainer.recipe(asked, Prompt([1]))
        assert recipe is not None
        text, ended = bench.walk(recipe, rng)
        assert ended, (schema, text)
        calls, rest, finished = read(markup, asked, text)
        assert calls, text
        assert (rest.strip(), finished.notes, finished.reason) == ("", (), "tool_calls"), text
        for call in calls:
            if call.name == "alpha":
                jsonschema.validate(json.loads(call.arguments), schema)


@pytest.mark.parametrize("tool_format", ["json_tools", "qwen3_coder", "minimax_m2", "llama3_json"])
def test_a_strict_tool_may_be_called_or_not_and_only_as_its_schema_says(
    bench: Bench, tool_format: str
) -> None:
    rng = random.Random(12)
    constrainer, markup = bench.constrainer(tool_format), Markup((), tool_format)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    asked = request((Tool("alpha", "", json.dumps(schema), strict=True), BETA), AutoTools())
    recipe = constrainer.recipe(asked, Prompt([1]))
    assert recipe is not None
    for _ in range(6):
        text, ended = bench.walk(recipe, rng)
        assert ended, text
        calls, _, finished = read(markup, asked, text)
        assert finished.notes == (), text
        for call in calls:
            if call.name == "alpha":
                jsonschema.validate(json.loads(call.arguments), schema)


@pytest.mark.parametrize("tool_format", NOTATIONS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_text_of_a_custom_tool_matches_its_pattern_as_a_whole(
    bench: Bench, tool_format: str, pattern: str
) -> None:
    rng = random.Random(13)
    constrainer, markup = bench.constrainer(tool_format), Markup((), tool_format)
    tool = custom_tool("alpha", None, InputGrammar(syntax="regex", definition=pattern))
    asked = request((tool,), RequiredTools())
    recipe = constrainer.recipe(asked, Prompt([1]))
    assert recipe is not None
    for _ in range(3):
        text, ended = bench.walk(recipe, rng)
        assert ended, text
        calls, _, finished = read(markup, asked, text)
        assert calls, text
        assert finished.notes == (), text
        for call in calls:
            assert re.fullmatch(pattern, custom_input(call.arguments)), text


def test_a_pattern_that_can_not_be_enforced_is_refused(bench: Bench) -> None:
    for pattern, why in (("(?=a)b", "look-around"), ("(", "unclosed"), ("x" * 2000, "1024")):
        tool = custom_tool("alpha", None, InputGrammar(syntax="regex", definition=pattern))
        with pytest.raises(InvalidField) as refused:
            bench.constrainer("json_tools").recipe(request((tool,), AutoTools()), Prompt([1]))
        assert refused.value.field == "tools.0.function.parameters.properties.input.pattern"
        assert why in str(refused.value)
