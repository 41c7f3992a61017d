"""Kinds of the values in tags: what the tag declares, else the schema, else the notation."""

import json
from collections.abc import Callable
from itertools import product

import pytest

from mlxd.events import FinishReason, collect
from mlxd.messages import GenerateRequest, Tool, ToolCall
from tests.engine.notations.samples import XTML_REASONING, XTML_STRUCTURE
from tests.engine.texts import Given, outcome, read, request, stream, words

SHAPE = Tool(
    name="shape",
    parameters=json.dumps(
        {
            "properties": {
                **{"text": {"type": "string"}, "count": {"type": "integer"}, "free": {}},
                **{
                    "either": {"type": ["string", "integer"]},
                    "maybe": {"type": ["string", "null"]},
                },
            }
        }
    ),
)
ASKED = request((SHAPE,))


def qwen(key: str, value: str, _: str = "") -> str:
    return (
        f"<tool_call>\n<function=shape>\n<parameter={key}>\n{value}\n</parameter>\n"
        "</function>\n</tool_call>"
    )


def minimax(key: str, value: str, _: str = "") -> str:
    return (
        '<minimax:tool_call>\n<invoke name="shape">\n'
        f'<parameter name="{key}">{value}</parameter>\n</invoke>\n</minimax:tool_call>'
    )


def muse(key: str, value: str, _: str = "") -> str:
    return (
        "<|start|>assistant to=shape<|message|><atem:function_calls>\n"
        f'<atem:invoke name="shape">\n<atem:parameter name="{key}">{value}</atem:parameter>\n'
        "</atem:invoke>\n</atem:function_calls><|eom|>"
    )


def kimi(key: str, value: str, kind: str) -> str:
    declared = f' type="{kind}"' if kind else ""
    return (
        '<|open|>tools<|sep|><|open|>call tool="shape" index="1"<|sep|>'
        f'<|open|>argument key="{key}"{declared}<|sep|>{value}<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>"
    )


def deepseek(key: str, value: str, kind: str) -> str:
    bar = "\uff5c"
    declared = {"string": ' string="true"', "": ""}.get(kind, ' string="false"')
    return (
        f'<{bar}DSML{bar}function_calls>\n<{bar}DSML{bar}invoke name="shape">\n'
        f'<{bar}DSML{bar}parameter name="{key}"{declared}>{value}</{bar}DSML{bar}parameter>\n'
        f"</{bar}DSML{bar}invoke>\n</{bar}DSML{bar}function_calls>"
    )


def glm(key: str, value: str, _: str = "") -> str:
    return (
        f"<tool_call>shape\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>"
    )


def minicpm(key: str, value: str, _: str = "") -> str:
    return f'<function name="shape"><param name="{key}">{value}</param></function>'


Write = Callable[[str, str, str], str]
NOTATIONS: dict[str, Write] = {
    "qwen3_coder": qwen,
    "minimax_m2": minimax,
    "muse_spark": muse,
    "kimi_k3": kimi,
    "deepseek": deepseek,
}


OTHERS: dict[str, Write] = {"glm47": glm, "minicpm5": minicpm}


def given(notation: str, asked: GenerateRequest = ASKED) -> Given:
    if notation == "kimi_k3":
        return Given(notation, XTML_REASONING, XTML_STRUCTURE, asked=asked)
    return Given(notation, asked=asked)


def members(text: str, notation: str, asked: GenerateRequest = ASKED) -> dict[str, object]:
    """The arguments of one call, the same from a text in one piece and in single characters."""
    how = given(notation, asked)
    answer = read(text, how)
    assert outcome(collect(stream(list(text), how))) == outcome(answer)
    (part,) = answer.parts
    assert isinstance(part, ToolCall), words(answer)
    found = json.loads(part.arguments)
    assert isinstance(found, dict)
    return found


def members_of(
    notation: str, key: str, value: str, kind: str = "", *, asked: GenerateRequest = ASKED
) -> dict[str, object]:
    """The arguments that one argument is read as."""
    write = {**NOTATIONS, **OTHERS}[notation]
    return members(write(key, value, kind), notation, asked)


def value_of(notation: str, key: str, value: str, kind: str = "") -> object:
    """The value that comes out."""
    return members_of(notation, key, value, kind)[key]


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("text", "5", "5"), ("text", "true", "true"), ("count", "5", 5), ("count", "many", "many")],
)
def test_the_schema_says_what_a_value_is(
    notation: str, key: str, value: str, expected: object
) -> None:
    found = value_of(notation, key, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("key", ["stray", "free"])
@pytest.mark.parametrize(
    ("notation", "value", "expected"),
    [
        ("qwen3_coder", "5", "5"),
        ("qwen3_coder", "true", "true"),
        ("minimax_m2", "5", "5"),
        ("minimax_m2", "null", "null"),
        ("muse_spark", "5", 5),
        ("muse_spark", "[1, 2]", [1, 2]),
        ("muse_spark", "two words", "two words"),
    ],
)
def test_what_the_schema_does_not_know_is_what_the_notation_has(
    key: str, notation: str, value: str, expected: object
) -> None:
    found = value_of(notation, key, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("notation", "key"),
    [("kimi_k3", "text"), *product(("kimi_k3", "deepseek"), ("count", "free", "stray"))],
)
@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "5", "5"),
        ("string", "null", "null"),
        ("string", '{"a": 1}', '{"a": 1}'),
        ("number", "5", 5),
        ("boolean", "true", True),
        ("object", '{"a": [1, null]}', {"a": [1, None]}),
        ("array", "[]", []),
    ],
)
def test_what_a_tag_declares_beats_the_schema(
    notation: str, key: str, kind: str, value: str, expected: object
) -> None:
    found = value_of(notation, key, value, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("text", "null", "null"),
        ("text", "5", "5"),
        ("text", '{"a": 1}', '{"a": 1}'),
        ("text", '"in quotes"', "in quotes"),
        ("text", '"two" of them', '"two" of them'),
        ("maybe", "null", None),
        ("maybe", "nullable", "nullable"),
        ("either", "5", 5),
        ("either", '"5"', "5"),
        ("either", "five", "five"),
        ("count", "3.0", 3),
        ("count", "-2.50", -2.5),
        ("count", "many", "many"),
        ("stray", "3.0", 3.0),
    ],
)
def test_json_of_no_type_that_the_tag_names_is_what_the_schema_allows(
    key: str, value: str, expected: object
) -> None:
    found = value_of("deepseek", key, value, "json")
    assert (found, type(found)) == (expected, type(expected))


WRAPPED = {"text": "a", "count": 2}


@pytest.mark.parametrize("notation", [*NOTATIONS, "glm47", "minicpm5"])
@pytest.mark.parametrize("wrapper", ["arguments", "input", "parameters", "properties"])
@pytest.mark.parametrize(
    "value", [json.dumps(WRAPPED), str(WRAPPED), f"\n {json.dumps(WRAPPED)}\n"]
)
def test_arguments_in_one_that_the_tool_does_not_have_are_its_arguments(
    notation: str, wrapper: str, value: str
) -> None:
    assert members_of(notation, wrapper, value) == WRAPPED


@pytest.mark.parametrize("notation", ["qwen3_coder", "deepseek", "glm47", "minicpm5"])
def test_an_object_of_nothing_that_the_tool_has_stays_one_argument(notation: str) -> None:
    for value in ('{"zone": 1}', "{}", "words", '{"text": '):
        assert members_of(notation, "input", value).keys() == {"input"}


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("notation", ["qwen3_coder", "deepseek", "glm47", "minicpm5"])
def test_arguments_in_one_that_end_in_the_middle_are_not_taken_for_none(
    notation: str, reason: FinishReason
) -> None:
    whole = {**NOTATIONS, **OTHERS}[notation]("arguments", '{"text": "a", "count": 2}', "")
    for end in ('{"te', '"count": 2', "2}"):
        cut = whole[: whole.index(end) + len(end)]
        (part,) = read(cut, given(notation)._replace(reason=reason)).parts
        assert isinstance(part, ToolCall)
        assert "te" in part.arguments
        assert not part.arguments.endswith("}")


def test_what_the_tool_calls_so_itself_is_its_own() -> None:
    tool = Tool("shape", "", '{"properties": {"text": {}, "input": {"type": "object"}}}')
    anything = Tool("shape", "", '{"properties": {"text": {}}, "additionalProperties": true}')
    for each in (tool, anything, Tool("shape")):
        asked = request((each,))
        found = members_of("deepseek", "input", '{"text": 1}', "object", asked=asked)
        assert found == {"input": {"text": 1}}


def test_other_arguments_beside_those_in_one_are_kept() -> None:
    text = minimax("arguments", '{"text": "a", "zone": "b"}')
    more = text.replace("</invoke>", '<parameter name="count">2</parameter>\n</invoke>')
    assert members(more, "minimax_m2") == {"text": "a", "zone": "b", "count": 2}


def test_only_the_word_null_itself_waits_for_its_end() -> None:
    tool = Tool("shape", parameters='{"properties": {"v": {"type": ["string", "null"]}}}')
    asked = request((tool,))
    long = "null" + 60 * " "
    assert members(glm("v", " null "), "glm47", asked) == {"v": None}
    assert members(glm("v", long), "glm47", asked) == {"v": long}
