"""Tool calls of every notation, drawn at random from their grammars and read back."""

import json
import random
import re

import jsonschema
import msgspec
import pytest

from mlxd.api.openai.tools import InputGrammar, custom_input, custom_tool
from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import NOTATIONS
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.prompt.builder import Prompt
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
from tests.engine.grammar.bench import Bench
from tests.random_schemas import random_object

pytestmark = pytest.mark.mlx

PATTERNS = (
    r"[a-z]{2,5}-\d{1,3}",
    "^(red|green)$",
    "^red|green$",
    'say "[a-z ]{0,4}"',
    r"a\\b|c\n d",
)
BETA = Tool("beta", "", json.dumps({"type": "object", "properties": {}}))


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
    for _ in range(2):
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


@pytest.mark.parametrize("tool_format", ["deepseek_v4", "deepseek_v32"])
def test_tags_around_a_text_are_the_control_tokens_that_the_model_has(
    bench: Bench, tool_format: str
) -> None:
    schema = {"type": "object", "properties": {"n": {"const": 3}, "t": {"type": "string"}}}
    tool = Tool("alpha", "", json.dumps({**schema, "required": ["n", "t"]}))
    constrainer, form = bench.constrainer(tool_format), NOTATIONS[tool_format].form
    recipe = constrainer.recipe(request((tool,), NamedTool("alpha")), Prompt([1]))
    assert recipe is not None
    assert recipe.grammar is not None
    assert recipe.grammar.shortest is not None
    values = (("n", "3", "false"), ("t", "some words", "true"))
    members = (
        form.member[0].format(key=key, string=string) + value + form.member[1].format(key=key)
        for key, value, string in values
    )
    call = form.call[0].format(name="alpha") + "".join(members) + form.call[1].format()
    text = form.region[0] + call + form.region[1]
    tokenizer = recipe.vocabulary.tokenizer
    tokens = tokenizer.tokenize_str(text, parse_special=True)
    matcher = recipe.grammar.matcher.deep_copy()
    assert matcher.try_consume_tokens(tokens) == len(tokens)
    assert matcher.is_accepting()


# Every pattern in one notation of each kind, and in all the others one of them.
@pytest.mark.parametrize(
    ("tool_format", "pattern"),
    [
        *((name, pattern) for name in ("json_tools", "qwen3_coder") for pattern in PATTERNS),
        *((name, PATTERNS[number % len(PATTERNS)]) for number, name in enumerate(NOTATIONS)),
    ],
)
def test_the_text_of_a_custom_tool_matches_its_pattern_as_a_whole(
    bench: Bench, tool_format: str, pattern: str
) -> None:
    rng = random.Random(13)
    constrainer, markup = bench.constrainer(tool_format), Markup((), tool_format)
    tool = custom_tool("alpha", None, InputGrammar(syntax="regex", definition=pattern))
    asked = request((tool,), RequiredTools())
    recipe = constrainer.recipe(asked, Prompt([1]))
    assert recipe is not None
    for _ in range(2):
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
