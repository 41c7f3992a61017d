"""Kinds of the values in tags: what the tag declares, else the schema, else the notation."""

import json
from collections.abc import Callable

import pytest

from mlxd.events import collect
from mlxd.messages import Tool, ToolCall
from tests.engine.notations.samples import XTML_REASONING, XTML_STRUCTURE
from tests.engine.reading import Given, outcome, read, request, stream, words

SHAPE = Tool(
    name="shape",
    parameters=json.dumps(
        {"properties": {"text": {"type": "string"}, "count": {"type": "integer"}, "free": {}}}
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


Write = Callable[[str, str, str], str]
NOTATIONS: dict[str, Write] = {
    "qwen3_coder": qwen,
    "minimax_m2": minimax,
    "muse_spark": muse,
    "kimi_k3": kimi,
    "deepseek": deepseek,
}


def given(notation: str) -> Given:
    if notation == "kimi_k3":
        return Given(notation, XTML_REASONING, XTML_STRUCTURE, asked=ASKED)
    return Given(notation, asked=ASKED)


def value_of(notation: str, key: str, value: str, kind: str = "") -> object:
    """The value that comes out, the same from a text in one piece and in single characters."""
    text, how = NOTATIONS[notation](key, value, kind), given(notation)
    answer = read(text, how)
    assert outcome(collect(stream(list(text), how))) == outcome(answer)
    (part,) = answer.parts
    assert isinstance(part, ToolCall), words(answer)
    (found,) = json.loads(part.arguments).values()
    return found


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


@pytest.mark.parametrize("notation", ["kimi_k3", "deepseek"])
@pytest.mark.parametrize("key", ["text", "count", "free", "stray"])
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
