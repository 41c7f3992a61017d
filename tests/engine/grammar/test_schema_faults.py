"""Schemas that can't be compiled as a whole: the rest of them, and of the request, is enforced."""

import json
import random
import time
from typing import Any

import jsonschema
import msgspec
import pytest

from mlxd.engine.grammar.constrainer import Constrainer
from mlxd.engine.interface import Markup, PartlyEnforced
from mlxd.engine.prompt.builder import Prompt
from mlxd.engine.scripted.engine import ScriptedEngine
from mlxd.errors import InvalidField
from mlxd.messages import (
    AllowedTools,
    AutoTools,
    GenerateRequest,
    JsonSchemaOutput,
    NamedTool,
    RequiredTools,
    Tool,
    ToolChoice,
)
from tests.engine.grammar.bench import Bench
from tests.engine.grammar.test_tool_calls import read, request
from tests.random_schemas import random_object

pytestmark = pytest.mark.mlx

NOTATIONS = ("json_tools", "qwen3_coder", "pythonic", "harmony")
CHOICES: dict[str, ToolChoice] = {
    "required": RequiredTools(),
    "named": NamedTool("slot"),
    "allowed": AllowedTools(("slot",), required=True),
}
SOUND: Any = {
    "type": "object",
    "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 3}},
    "required": ["level"],
    "additionalProperties": False,
}
LAMP = Tool("lamp", "", json.dumps(SOUND))
# Every schema with the place that is left out of it.
FAULTS: dict[str, tuple[Any, str]] = {
    **{
        pattern: ({"type": "string", "pattern": pattern}, "pattern")
        for pattern in (
            *(r"^(?=.*[0-9]).{8,}$", r"\bcat\b", r"^(x|y)\1$", "/^[a-z]+$/i", "(?>ab)", "^[a-z"),
            *("^(?!tmp-)[a-z]+$", r"^(?<=a)b", r"(?P<a", "a{3,1}"),
        )
    },
    "in items": ({"type": "array", "items": {"pattern": "(?=a)"}}, "items.pattern"),
    "in a union": (
        {"anyOf": [{"type": "string", "pattern": "(?!a)"}, {"type": "integer"}]},
        "anyOf.0.pattern",
    ),
    "deeper": (
        {
            "type": "object",
            "properties": {"a": {"type": "string", "pattern": "^(?!b)"}, "b": {"type": "null"}},
            "required": ["a", "b"],
        },
        "properties.a.pattern",
    ),
    "names": ({"type": "object", "patternProperties": {"^(?=a)": {}}}, "patternProperties.^(?=a)"),
    "nowhere": ({"$ref": "#/$defs/Nowhere"}, "$ref"),
    "elsewhere": ({"$ref": "https://example.com/a"}, "$ref"),
    "no type": ({"type": "any"}, "type"),
    "null": (None, ""),
    "too much together": (
        {
            "allOf": [
                {"anyOf": [{"properties": {f"p{i}_{j}": {"type": "string"}}} for j in range(9)]}
                for i in range(9)
            ]
        },
        "allOf",
    ),
}


BROKEN: tuple[dict[str, Any], ...] = (
    {"required": [["a"]]},
    {"type": {"a": 1}},
    {"enum": {"a": 1}},
    {"properties": [1]},
    {"allOf": 5},
    {"minItems": "3"},
    {"maxLength": True},
    {"$ref": ["a"]},
    {"items": {"type": "text"}},
    {"contains": 1},
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def constrainers(bench: Bench) -> dict[str, Constrainer]:
    return {name: bench.constrainer(name) for name in NOTATIONS}


def slot(schema: Any, root: Any = None, *, strict: bool = False) -> Tool:
    """A tool with the property `code` of that schema, and one that is sound."""
    properties = {"code": schema, "level": SOUND["properties"]["level"]}
    whole = {"type": "object", "properties": properties, "required": ["code", "level"]}
    return Tool("slot", "", json.dumps({**whole, **(root or {})}), strict=strict)


@pytest.mark.parametrize("tool_format", NOTATIONS[:2])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_is_named_and_all_else_is_enforced(
    bench: Bench, constrainers: dict[str, Constrainer], name: str, tool_format: str
) -> None:
    schema, place = FAULTS[name]
    rng = random.Random(name)
    # Each fault with two of the choices, each notation with all.
    turn = list(FAULTS).index(name) + NOTATIONS.index(tool_format)
    asked = request((LAMP, slot(schema)), list(CHOICES.values())[turn % len(CHOICES)])
    recipe = constrainers[tool_format].recipe(asked, Prompt([1]))
    assert recipe is not None
    assert recipe.left_out == (f"tools.1.function.parameters.properties.code.{place}".strip("."),)
    text, ended = bench.walk(recipe, rng)
    assert ended, text
    calls, rest, finished = read(Markup((), tool_format), asked, text)
    assert (rest.strip(), finished.reason) == ("", "tool_calls"), text
    for call in calls:
        arguments = json.loads(call.arguments)
        jsonschema.validate(arguments["level"], SOUND["properties"]["level"])
        if call.name == "lamp":
            jsonschema.validate(arguments, SOUND)


@pytest.mark.parametrize("name", FAULTS)
def test_a_strict_tool_is_refused_with_its_name_the_place_and_the_reason(
    constrainers: dict[str, Constrainer], name: str
) -> None:
    schema, place = FAULTS[name]
    for choice in (AutoTools(), RequiredTools()):
        asked = request((LAMP, slot(schema, strict=True)), choice)
        with pytest.raises(InvalidField) as refused:
            constrainers["json_tools"].recipe(asked, Prompt([1]))
        inner = f"properties.code.{place}".strip(".")
        assert refused.value.field == f"tools.1.function.parameters.{inner}"
        assert f"the tool `slot` can't be enforced at `{inner}`: " in str(refused.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_schema_of_the_answer_is_refused_with_the_place(
    constrainers: dict[str, Constrainer], name: str
) -> None:
    schema, place = FAULTS[name]
    whole = json.dumps({"type": "object", "properties": {"code": schema}})
    asked = request((LAMP,), AutoTools())
    asked = msgspec.structs.replace(asked, output=JsonSchemaOutput(whole))
    with pytest.raises(InvalidField) as refused:
        constrainers["json_tools"].recipe(asked, Prompt([1]))
    inner = f"properties.code.{place}".strip(".")
    assert refused.value.field == f"response_format.schema.{inner}"


async def _refusal_without_a_compiler(asked: GenerateRequest) -> str:
    """The field that the scripted engine refuses, empty if none."""
    engine = ScriptedEngine(lambda _: ())
    try:
        async with engine.generate(msgspec.structs.replace(asked, model="scripted")):
            return ""
    except InvalidField as refusal:
        return refusal.field


async def test_both_engines_refuse_and_name_the_same_broken_schemas(
    constrainers: dict[str, Constrainer],
) -> None:
    rng = random.Random(21)
    for _ in range(40):
        schema = random_object(rng, depth=1)
        broken = rng.choice(list(schema["properties"].values()))
        broken |= rng.choice(BROKEN)
        text = json.dumps(schema)
        strict = request((Tool("slot", "", text, strict=True),), AutoTools())
        for asked in (strict, msgspec.structs.replace(strict, output=JsonSchemaOutput(text))):
            field = await _refusal_without_a_compiler(asked)
            assert field
            with pytest.raises(InvalidField) as refused:
                constrainers["json_tools"].recipe(asked, Prompt([1]))
            assert refused.value.field == field
        loose = request((Tool("slot", "", text),), RequiredTools())
        recipe = constrainers["json_tools"].recipe(loose, Prompt([1]))
        assert recipe is not None
        async with ScriptedEngine(lambda _: ()).generate(
            msgspec.structs.replace(loose, model="scripted")
        ) as generation:
            assert isinstance(generation, PartlyEnforced)
            assert generation.left_out == recipe.left_out


def test_a_faulty_tool_does_not_loosen_a_strict_one_beside_it(
    bench: Bench, constrainers: dict[str, Constrainer]
) -> None:
    strict = msgspec.structs.replace(LAMP, strict=True)
    asked = request((slot({"pattern": "(?=a)"}), strict), AutoTools())
    recipe = constrainers["json_tools"].recipe(asked, Prompt([1]))
    assert recipe is not None
    assert recipe.left_out == ("tools.0.function.parameters.properties.code.pattern",)
    for seed in range(4):
        text, _ = bench.walk(recipe, random.Random(seed))
        calls, _, _ = read(Markup((), "json_tools"), asked, text)
        for call in calls:
            if call.name == "lamp":
                jsonschema.validate(json.loads(call.arguments), SOUND)


@pytest.mark.parametrize("tool_format", NOTATIONS)
@pytest.mark.parametrize("root", [{"properties": None}, {"required": None}, {"type": "string"}])
def test_a_root_that_is_no_schema_of_an_object_leaves_an_object(
    bench: Bench, constrainers: dict[str, Constrainer], root: Any, tool_format: str
) -> None:
    asked = request((Tool("slot", "", json.dumps(root)), LAMP), NamedTool("slot"))
    recipe = constrainers[tool_format].recipe(asked, Prompt([1]))
    assert recipe is not None
    assert recipe.left_out == (f"tools.0.function.parameters.{next(iter(root))}",)
    text, ended = bench.walk(recipe, random.Random(1))
    assert ended
    calls, _, _ = read(Markup((), tool_format), asked, text)
    assert {call.name for call in calls} == {"slot"}
    assert all(isinstance(json.loads(call.arguments), dict) for call in calls)


def test_faults_inside_definitions_are_named_where_they_stand(
    constrainers: dict[str, Constrainer],
) -> None:
    node = {
        "type": "object",
        "properties": {"tag": {"pattern": "(?=a)"}, "next": {"$ref": "#/$defs/Node"}},
    }
    tool = slot({"$ref": "#/$defs/Node"}, {"$defs": {"Node": node, "Unused": {"type": "any"}}})
    recipe = constrainers["json_tools"].recipe(request((tool,), RequiredTools()), Prompt([1]))
    assert recipe is not None
    assert recipe.left_out == ("tools.0.function.parameters.$defs.Node.properties.tag.pattern",)


def test_what_is_too_large_together_leaves_out_the_largest_schemas(
    constrainers: dict[str, Constrainer],
) -> None:
    def large(number: int, size: int) -> Tool:
        texts = [f"{number}-{index}-{'x' * 90}" for index in range(size)]
        schema = {"type": "object", "properties": {"code": {"enum": texts}}}
        return Tool(f"tool{number}", "", json.dumps(schema))

    tools = [large(number, 500) for number in range(94)]
    recipe = constrainers["json_tools"].recipe(
        request((LAMP, *tools), RequiredTools()), Prompt([1])
    )
    assert recipe is not None
    assert 0 < len(recipe.left_out) < len(tools)
    assert "tools.0.function.parameters" not in recipe.left_out
    assert all(place.count(".") == 3 for place in recipe.left_out)
    strict = tuple(msgspec.structs.replace(tool, strict=True) for tool in tools)
    with pytest.raises(InvalidField, match="too large together"):
        constrainers["json_tools"].recipe(request(strict, RequiredTools()), Prompt([1]))


def test_many_hostile_tools_cost_bounded_time_once(constrainers: dict[str, Constrainer]) -> None:
    tools = [
        Tool(
            f"tool{number}",
            "",
            json.dumps(
                {
                    "type": "object",
                    "properties": {
                        f"p{n}": {"pattern": f"^(?={number}a{{1,{n}}})"} for n in range(300)
                    },
                }
            ),
        )
        for number in range(40)
    ]
    asked = request((LAMP, *tools), RequiredTools())
    started = time.process_time()
    recipe = constrainers["json_tools"].recipe(asked, Prompt([1]))
    assert time.process_time() - started < 5
    assert recipe is not None
    assert len(recipe.left_out) >= 40
    started = time.process_time()
    assert constrainers["json_tools"].recipe(asked, Prompt([1])) is not None
    assert time.process_time() - started < 0.5
