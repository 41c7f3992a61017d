"""Values that MiniMax M3 writes as tags of their own: objects, and arrays of items."""

import json
import time

import pytest

from mlxd.events import Answer, collect
from mlxd.messages import ToolCall
from tests.engine.texts import Given, cuts, outcome, read, stream, words

pytestmark = pytest.mark.thorough

Z = "]<]minimax[>["
GIVEN = Given("minimax_m3")


def written(members: str) -> str:
    """A call with its arguments, in which `<` stands for the beginning of a tag."""
    inner = members.replace("<", f"{Z}<")
    return f'{Z}<tool_call>\n{Z}<invoke name="get_weather">{inner}{Z}</invoke>\n{Z}</tool_call>'


def arguments(answer: Answer) -> str:
    (part,) = answer.parts
    assert isinstance(part, ToolCall), words(answer)
    return part.arguments


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ("<area><x>1</x></area>", {"area": {"x": 1}}),
        ("<area><area><area>a</area></area></area>", {"area": {"area": {"area": "a"}}}),
        (
            "<hours><item><item>1</item><item>b</item></item><item>[2]</item></hours>",
            {"hours": [[1, "b"], [2]]},
        ),
        ("<hours>\n <item>1</item>\n <item>2</item>\n</hours>", {"hours": [1, 2]}),
        ("<hours><item><a>1</a></item></hours>", {"hours": [{"a": 1}]}),
        ("<area><a>1</a><a>2</a></area>", {"area": {"a": 1}}),
        ("<area><a></a><b>{</b></area>", {"area": {"a": "", "b": "{"}}),
        ("<area><a><item>1</item></a></area><days>2</days>", {"area": {"a": [1]}, "days": 2}),
        ('<area>{"a": [1]}</area>', {"area": {"a": [1]}}),
        ("<arguments><city>Oslo</city><days>3</days></arguments>", {"city": "Oslo", "days": 3}),
        ('<arguments>{"city": "Oslo", "days": 3}</arguments>', {"city": "Oslo", "days": 3}),
    ],
)
def test_tags_in_a_value_are_its_members(members: str, expected: object) -> None:
    whole = written(members)
    answer = read(whole, GIVEN)
    assert json.loads(arguments(answer)) == expected
    for pieces in cuts(whole):
        assert outcome(collect(stream(pieces, GIVEN))) == outcome(answer)


@pytest.mark.parametrize(
    "value", ["a <x>1</x>", "<x>1</x> b", "<x>1</y>", "<x>", "</x>", "<x><y>1</x></y>"]
)
def test_tags_that_make_no_object_are_text(value: str) -> None:
    answer = read(written(f"<area>{value}</area><days>2</days>"), GIVEN)
    assert json.loads(arguments(answer)) == {"area": value.replace("<", f"{Z}<"), "days": 2}


def test_a_tag_that_is_not_closed_loses_nothing() -> None:
    answer = read(written("<days>2</days><area><area><x>1</x></area>"), GIVEN)
    assert "x>1" in arguments(answer)
    assert answer.finished.notes == ("tool call arguments are not valid JSON",)


@pytest.mark.parametrize(
    "tags", ["<a>", "</a>", "<a>x", "<a>x</a>", "<area>", "<a><b></b></a>", "<"]
)
def test_tags_take_time_that_grows_with_their_number(tags: str) -> None:
    def seconds(text: str) -> float:
        start = time.process_time()
        read(text, GIVEN)
        return time.process_time() - start

    for around in ("{}", "<a>{}</a>", "<a>" * 20 + "{}" + "</a>" * 20):
        few, many = (written(f"<area>{around.format(tags * n)}</area>") for n in (500, 4_000))
        assert seconds(many) < 0.2 + 20 * seconds(few)


@pytest.mark.parametrize("notation", ["minimax_m3", "function_gemma"])
def test_brackets_deeper_than_a_parser_goes_are_read(notation: str) -> None:
    deep = "[" * 5_000 + "]" * 5_000
    text = written(f"<hours>{deep}</hours>")
    if notation == "function_gemma":
        text = f"<start_function_call>call:get_weather{{hours:{deep}}}<end_function_call>"
    assert arguments(read(text, Given(notation))).count("[") == 5_000


def test_a_value_that_was_cut_is_not_taken_for_none() -> None:
    text = written("<area><x>1</x>").partition(f"{Z}</invoke>")[0]
    assert arguments(read(text, GIVEN._replace(reason="length"))).startswith('{"area": ')
