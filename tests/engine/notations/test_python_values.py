"""Arguments that a model writes as a dictionary of Python, read as the JSON that they mean."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxd.engine.notations.table import NOTATIONS
from mlxd.events import collect
from tests.engine.texts import Given, call, cuts, outcome, read, stream, words

pytestmark = pytest.mark.thorough

JSON = Given("json_tools")
NAMED = {
    "kimi_k2": "<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{}",
    "deepseek": "<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
    "harmony": "<|channel|>commentary to=functions.get_weather<|message|>{}<|call|>",
    "mistral": "[TOOL_CALLS]get_weather[ARGS]{}",
    "glm47": "<tool_call>get_weather{}</tool_call>",
    "qwen3_coder": "<function=get_weather>\n<parameter=area>\n{}\n</parameter>\n</function>",
}
WRAPPED = {
    "json_tools": "<tool_call>\n{}\n</tool_call>",
    "mistral": "[TOOL_CALLS][{}]",
    "llama3_json": "<|python_tag|>{}",
    "bare_json": "{}",
}


def arguments(text: str, given: Given = JSON) -> Any:
    """What the one call of `text` is made with."""
    (found,) = read(text, given).tool_calls
    return json.loads(found.arguments)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{'city': 'Oslo'}", {"city": "Oslo"}),
        ("""{'city': "it's"}""", {"city": "it's"}),
        (r"{'city': 'say \'hi\''}", {"city": "say 'hi'"}),
        ("""{'city': 'a "b"'}""", {"city": 'a "b"'}),
        ("""{"city": 'a', 'days': 2}""", {"city": "a", "days": 2}),
        ("{'area': {'b': ['x', (1, 2), ()]}}", {"area": {"b": ["x", [1, 2], []]}}),
        ("{'area': (1,)}", {"area": [1]}),
        ("{'a': True, 'b': False, 'c': None, }", {"a": True, "b": False, "c": None}),
        ("{\n  'city':\n    'two\nlines',\n}", {"city": "two\nlines"}),
        (r"{'city': 'a\\b\tc\x41\u00e9\U0001f600'}", {"city": "a\\b\tcA\u00e9\U0001f600"}),
        ("{'city': ''}", {"city": ""}),
    ],
)
def test_a_dictionary_of_python_is_read(written: str, meant: object) -> None:
    outer = f"<tool_call>\n{{'name': 'get_weather', 'arguments': {written}}}\n</tool_call>"
    for text in (call(written), outer):
        answer = read(text, JSON)
        assert [json.loads(found.arguments) for found in answer.tool_calls] == [meant]
        assert all("repaired" in note for note in answer.finished.notes)
        for pieces in cuts(text):
            assert outcome(collect(stream(pieces, JSON))) == outcome(answer)


@pytest.mark.parametrize("notation", sorted(NAMED))
def test_it_is_read_in_every_notation_with_json(notation: str) -> None:
    text = NAMED[notation].replace("{}", """{'city': "it's", 'x': ('a', None)}""")
    found = arguments(text, Given(notation))
    assert found.get("area", found) == {"city": "it's", "x": ["a", None]}


@pytest.mark.parametrize("notation", sorted(WRAPPED))
def test_a_whole_call_may_be_a_dictionary(notation: str) -> None:
    for key in ("arguments", "parameters"):
        whole = f"{{'name': 'get_weather', '{key}': {{'city': 'Oslo'}}}}"
        assert arguments(WRAPPED[notation].replace("{}", whole), Given(notation)) == {
            "city": "Oslo"
        }
    assert set(NAMED) | set(WRAPPED) <= set(NOTATIONS)


def test_arguments_may_be_a_string_that_holds_a_dictionary() -> None:
    for written in ("\"{'city': 'Oslo'}\"", '\'{"city": "Oslo"}\'', r"'{\'city\': \'Oslo\'}'"):
        assert arguments(call(written)) == {"city": "Oslo"}


@pytest.mark.parametrize(
    "text",
    ["{'answer': 42}", "{'name': 'Bob'}", "I said 'hi', {'a': 1}.", "{'name': 'get_weather'}"],
)
def test_prose_with_quotes_stays_text(text: str) -> None:
    for notation in ("json_tools", "bare_json", "llama3_json"):
        assert words(read(text, Given(notation))) == [("text", text)]


def test_a_quote_too_many_breaks_a_dictionary_as_it_breaks_json() -> None:
    (part,) = words(read(call("{'city': 'it's'}"), JSON))
    assert part[2].startswith('{"city": "it"s\'}')


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False).filter(math.isfinite)
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=3), st.integers(1, 9))
def test_what_python_writes_is_read_back(values: dict[str, Any], size: int) -> None:
    meant = json.loads(json.dumps({"a": None, **values}))
    whole = repr({"name": "get_weather", "arguments": {"a": None, **values}})
    for text in (f"<tool_call>{whole}</tool_call>", call(repr({"a": None, **values}))):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        (found,) = collect(stream(pieces, JSON)).tool_calls
        assert json.loads(found.arguments) == meant
