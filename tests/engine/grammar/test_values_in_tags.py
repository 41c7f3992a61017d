"""What the grammar of a required call lets a plain value hold, and that its reader agrees."""

import json
import random

import pytest
from llguidance import LLMatcher, LLTokenizer

from mlxd.engine.grammar.constrainer import SteeringRecipe
from mlxd.engine.prompt.builder import Prompt
from mlxd.messages import RequiredTools, Tool
from tests.engine.grammar.bench import Bench
from tests.engine.notations.plain_texts import (
    FILES,
    LAMP,
    NAMES,
    SCHEMA,
    Member,
    file,
    given,
    marks_of,
    value,
    written,
)
from tests.engine.texts import read, request

pytestmark = pytest.mark.mlx

SAVE = Tool("save", "", json.dumps({**SCHEMA, "type": "object"}))
COUNT = 10


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("tags"))


def recipe_for(bench: Bench, notation: str, *tools: Tool, parallel: bool = True) -> SteeringRecipe:
    asked = request(tools, tool_choice=RequiredTools(), parallel_tools=parallel)
    recipe = bench.constrainer(notation).recipe(asked, Prompt([1]))
    assert recipe is not None
    return recipe


def matcher_of(recipe: SteeringRecipe) -> tuple[LLMatcher, LLTokenizer]:
    assert recipe.grammar is not None
    return recipe.grammar.matcher.deep_copy(), recipe.vocabulary.tokenizer


def ends_at(recipe: SteeringRecipe, text: str) -> tuple[int, list[int]]:
    """How many characters of `text` the grammar takes, and behind which the answer may end."""
    matcher, tokenizer = matcher_of(recipe)
    taken, ends = 0, []
    for token in tokenizer.tokenize_str(text, parse_special=True):
        if not recipe.vocabulary.allowed(matcher)[token]:
            break
        assert matcher.consume_token(token), matcher.get_error()
        taken += len(tokenizer.decode_bytes([token]))
        if matcher.is_accepting():
            ends.append(taken)
    return taken, ends


MORE_FILES = ("", "null", "P1C\nQ2C and\nE R", "P1C and Q", "F P a C E b F P c", "F P a F P b")


@pytest.mark.parametrize("notation", NAMES)
def test_a_value_may_hold_what_its_reader_takes_for_text(bench: Bench, notation: str) -> None:
    recipe = recipe_for(bench, notation, SAVE, LAMP)
    for pattern in (*FILES, *MORE_FILES):
        text = written(notation, ("save", [("path", "a"), ("text", file(notation, pattern))]))
        taken, ends = ends_at(recipe, text)
        assert (taken, ends[-1:]) == (len(text.encode()), [taken]), pattern
        for end in ends:
            answer = read(text.encode()[:end].decode(), given(notation))
            assert [call.name for call in answer.tool_calls] == ["save"], (pattern, end)
            assert (answer.text, answer.finished.notes) == ("", ()), (pattern, end)


def test_no_value_begins_with_what_its_reader_takes_off(bench: Bench) -> None:
    opening = "<seed:tool_call>\n<function=save>\n<parameter=text>"
    pattern = {"properties": {"text": {"type": "string", "pattern": "a"}}}
    for tool in (SAVE, Tool("save", "", json.dumps(pattern))):
        recipe = recipe_for(bench, "seed_oss", tool)
        for text, good in (("\na\n", False), ("a\n", True), (" \na", True)):
            taken, _ = ends_at(recipe, f"{opening}{text}</parameter>\n</function>")
            assert (taken > len(opening) + len(text)) == good


@pytest.mark.parametrize("notation", NAMES)
def test_no_value_ends_for_the_reader_before_it_ends_for_the_grammar(
    bench: Bench, notation: str
) -> None:
    chance = random.Random(f"grammar {notation}")
    recipe, admitted = recipe_for(bench, notation, SAVE, LAMP), 0
    for _ in range(COUNT):
        members: list[Member] = [("path", "a"), ("text", value(chance, notation, openings=False))]
        calls = [("save", members), ("lamp", [("room", value(chance, notation, openings=False))])]
        text = written(notation, *calls)
        taken, ends = ends_at(recipe, text)
        assert ends[-1:] == [len(text.encode())], text
        admitted += taken == len(text.encode())
        answer = read(text, given(notation))
        found = [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]
        assert found == [(name, dict(each)) for name, each in calls]
    assert admitted == COUNT


@pytest.mark.parametrize("notation", NAMES)
def test_an_opening_in_a_value_costs_no_argument_that_the_call_needs(
    bench: Bench, notation: str
) -> None:
    schema = {**SCHEMA, "type": "object", "required": ["path", "text"]}
    needed = Tool("save", "", json.dumps(schema))
    recipe = recipe_for(bench, notation, needed, parallel=False)
    for path, rest in (
        *(("P x", "y C foo"), ("P x", "y"), ("a", "P y C foo C bar")),
        *(("P x", "Q y"), ("P1C\nQ2C", "C"), ("F P\nhi\nC E R", "F P\nhi"), ("Q x", "F P hi")),
    ):
        members = [("path", file(notation, path)), ("text", file(notation, rest))]
        text = written(notation, ("save", members))
        assert ends_at(recipe, text)[1][-1:] == [len(text.encode())]
        (call,) = read(text, given(notation, tools=(needed,))).tool_calls
        assert json.loads(call.arguments) == dict(members)


@pytest.mark.parametrize("notation", NAMES)
def test_random_texts_of_the_grammar_are_read_as_one_whole_call(
    bench: Bench, notation: str
) -> None:
    """Tokens that are tags come as often as all others together."""
    chance = random.Random(f"walk {notation}")
    needed = Tool("save", "", json.dumps({**SCHEMA, "type": "object", "required": ["text"]}))
    recipe = recipe_for(bench, notation, needed, parallel=False)
    marks = marks_of(notation)
    tags = [marks.closing, marks.call_end, marks.region, marks.region_end, marks.call]
    tags += [marks.member[0] + '"text"' + marks.member[1], marks.member[0] + "path", "\n", "x"]
    for _ in range(COUNT):
        matcher, tokenizer = matcher_of(recipe)
        taken: list[int] = []
        for _ in range(40):
            tokens = tokenizer.tokenize_str(chance.choice(tags))
            matcher.compute_bitmask()
            if tokens and matcher.validate_tokens(tokens) == len(tokens):
                matcher.consume_tokens(tokens)
                taken += tokens
            elif forced := tokenizer.tokenize_bytes(matcher.compute_ff_bytes()):
                matcher.consume_tokens(forced)
                taken += forced
        way = recipe.vocabulary.closer.way(
            matcher, ends=recipe.grammar.ends if recipe.grammar else ()
        )
        assert way is not None
        text = tokenizer.decode_str([*taken, *way[:-1]])
        answer = read(text, given(notation, tools=(needed,)))
        assert [call.name for call in answer.tool_calls] == ["save"], text
        assert (answer.text.strip(), answer.finished.notes) == ("", ()), text
        assert "text" in json.loads(answer.tool_calls[0].arguments), text


@pytest.mark.parametrize("notation", NAMES)
def test_lengths_patterns_and_choices_are_held_and_closing_tags_are_still_text(
    bench: Bench, notation: str
) -> None:
    closing = marks_of(notation).closing
    schemas = {
        "length": ({"type": "string", "maxLength": len(closing) + 2}, f"a{closing}b", "a" * 40),
        "pattern": ({"type": "string", "pattern": "^<.*>$"}, closing, "a"),
        "choice": ({"enum": ["red", "green"]}, "red", "blue"),
        "null": ({"type": ["string", "null"]}, closing, None),
    }
    for schema, good, bad in schemas.values():
        parameters = {"type": "object", "properties": {"text": schema}, "required": ["text"]}
        recipe = recipe_for(bench, notation, Tool("save", "", json.dumps(parameters)))
        for text, allowed in ((good, True), (bad, False)):
            if text is None:
                continue
            whole = written(notation, ("save", [("text", text)]))
            taken, ends = ends_at(recipe, whole)
            assert (taken == len(whole.encode())) == allowed, (schema, text)
            assert (ends != []) == allowed


def test_values_of_a_tool_of_very_many_parameters_may_hold_tags_too(bench: Bench) -> None:
    properties = {f"p{number}": {"type": "string"} for number in range(300)}
    tool = Tool("save", "", json.dumps({"type": "object", "properties": properties}))
    for notation in ("qwen3_coder", "minimax_m2"):
        recipe = recipe_for(bench, notation, tool)
        shown = written(notation, ("save", [("p7", "hi")]))
        text = written(notation, ("save", [("p3", f"C {shown}!"), ("p250", file(notation, "C b"))]))
        assert ends_at(recipe, text)[1][-1:] == [len(text)]


@pytest.mark.parametrize("notation", NAMES)
def test_what_the_reader_reads_back_can_be_written_and_nothing_else_is(
    bench: Bench, notation: str
) -> None:
    chance = random.Random(f"tags {notation}")
    recipe = recipe_for(bench, notation, SAVE, LAMP, parallel=False)
    for _ in range(COUNT):
        text = written(notation, ("save", [("text", value(chance, notation))]))
        answer = read(text, given(notation))
        whole = [call.name for call in answer.tool_calls] == ["save"] and not answer.text
        taken, ends = ends_at(recipe, text)
        assert (ends[-1:] == [len(text.encode())]) == (whole and not answer.finished.notes), text


@pytest.mark.parametrize("notation", NAMES)
def test_other_arguments_and_calls_may_follow_an_opening_that_is_never_closed(
    bench: Bench, notation: str
) -> None:
    kinds = {
        "flag": {"type": "boolean"},
        "color": {"enum": ["red", "blue"]},
        "n": {"type": "integer"},
    }
    tool = Tool(
        "save", "", json.dumps({"type": "object", "properties": {**SCHEMA["properties"], **kinds}})
    )
    lone = Tool("lone", "", json.dumps({"type": "object", "properties": {}}))
    recipe = recipe_for(bench, notation, tool, LAMP, lone)
    members = [("path", file(notation, "say P")), ("text", "b"), ("flag", "true"), ("color", "red")]
    calls = [("save", [*members, ("n", "-3")]), ("lone", []), ("lamp", [("room", "c")])]
    for count in (1, 2, 3):
        text = written(notation, *calls[:count])
        taken, ends = ends_at(recipe, text)
        assert ends[-1:] == [len(text.encode())] == [taken]
        answer = read(text, given(notation, tools=(tool, LAMP, lone)))
        assert [call.name for call in answer.tool_calls] == [name for name, _ in calls[:count]]
        first = {**dict(members), "flag": True, "n": -3}
        assert json.loads(answer.tool_calls[0].arguments) == first
