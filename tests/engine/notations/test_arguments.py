"""The arguments of tool calls: copied, typed, repaired, or passed on as they break."""

import json
import time

import pytest

from mlxd.events import BlockDelta
from mlxd.messages import Tool, ToolCall
from tests.engine.notations.samples import CITY
from tests.engine.texts import Given, call, read, request, words

JSON = Given("json_tools")
XML = Given("qwen3_coder")
NOT_VALID = "tool call arguments are not valid JSON"
CUT = "a tool call ends in the middle"


def xml(*parameters: str) -> str:
    values = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n"
        for key, _, value in (each.partition("=") for each in parameters)
    )
    return f"<tool_call>\n<function=get_weather>\n{values}</function>\n</tool_call>"


def arguments(text: str, given: Given = JSON) -> str:
    """The arguments of the one call that `text` holds."""
    (part,) = read(text, given).parts
    assert isinstance(part, ToolCall)
    return part.arguments


def test_string_values_of_tags_stream_piece_by_piece_and_others_when_whole() -> None:
    builder = XML.builder()
    builder.text("<tool_call>\n<function=get_weather>\n", tokens=1)
    assert builder.text("<parameter=city>\nOs", tokens=1) == [BlockDelta(0, '{"city": "Os')]
    assert builder.text('"lo\nx', tokens=1) == [BlockDelta(0, '\\"lo\\nx')]
    assert builder.text("\n</parameter>\n<parameter=days>\n1", tokens=1) == [
        BlockDelta(0, '", "days": ')
    ]
    assert builder.text("2", tokens=1) == []
    assert builder.text("\n</parameter>\n", tokens=1) == []
    assert builder.text("<parameter=wind>", tokens=1) == [BlockDelta(0, '12, "wind": ')]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("{ }", "{ }"),
        ('{"a" : [1,2 , {}]}', '{"a" : [1,2 , {}]}'),
        (r'"{\"city\": \"Os\\nlo\"}"', r'{"city": "Os\nlo"}'),
        (r'"{\"a\": \"\ud83d\ude00 \u00e9\"}"', '{"a": "😀 é"}'),
        (r'"{\"a\": \"\ud83d\"}"', '{"a": "\N{REPLACEMENT CHARACTER}"}'),
        ('""', "{}"),
        ("null", "{}"),
    ],
)
def test_json_arguments_pass_as_they_are_written_or_unwrapped(written: str, read_as: str) -> None:
    answer = read(call(written), JSON)
    assert words(answer) == [("call", "get_weather", read_as)]
    assert answer.finished.notes == ()


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ('{"a": "x\ny\t"}', r'{"a": "x\ny\t"}'),
        (r'{"a": "\d+ \'x\'"}', r"""{"a": "\\d+ 'x'"}"""),
        ('{"a": True, "b": None}', '{"a": true, "b": null}'),
        ('{"a": [1, 2, ], }', '{"a": [1, 2 ] }'),
        ('{"a": {"b": [1', '{"a": {"b": [1]}}'),
    ],
)
def test_json_is_repaired_where_only_one_reading_is_possible(written: str, read_as: str) -> None:
    text = call(written).replace("1}\n", "1\n")
    answer = read(text, JSON)
    assert words(answer) == [("call", "get_weather", read_as)]
    assert all(note.startswith("tool call repaired") for note in answer.finished.notes)
    assert answer.finished.notes


def test_a_call_whose_closing_tag_is_missing_is_whole_when_the_model_stopped() -> None:
    for text in (
        call(CITY).removesuffix("</tool_call>"),
        call(CITY).removesuffix("}\n</tool_call>"),
    ):
        assert words(read(text, JSON)) == [("call", "get_weather", CITY)]


def test_brackets_are_not_closed_where_the_length_limit_cut_the_call() -> None:
    answer = read(call(CITY).partition("}")[0], JSON._replace(reason="length"))
    assert words(answer) == [("call", "get_weather", CITY.removesuffix("}"))]
    assert answer.finished.reason == "length"
    assert answer.finished.notes == (CUT,)


def test_a_string_that_the_answer_ends_in_is_not_closed() -> None:
    answer = read(call('{"city": "Os').partition("Os")[0] + "Os", JSON)
    assert words(answer) == [("call", "get_weather", '{"city": "Os')]
    assert answer.finished.notes == (CUT,)


def test_arguments_that_break_follow_as_they_are_and_do_not_parse() -> None:
    text = call('{"city": "it"s", "days": 2}') + " Bye."
    answer = read(text, JSON)
    assert words(answer) == [
        ("call", "get_weather", '{"city": "it"s", "days": 2}}\n'),
        ("text", " Bye."),
    ]
    assert answer.finished.notes == (NOT_VALID,)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "get_weather", "days": 2}</tool_call>',
        '<tool_call>{"name": "get_weather", "argum</tool_call>',
        "<tool_call><function=get_weather><parameter=city\nOslo</parameter></function></tool_call>",
        "<tool_call><function=get_weather>Oslo</function></tool_call>",
        "<tool_call>get_weather<arg_key>city</arg_key>Oslo</arg_value></tool_call>",
    ],
)
def test_a_tool_is_not_run_without_the_arguments_that_could_not_be_read(text: str) -> None:
    answer = read(text, JSON)
    (part,) = answer.parts
    assert isinstance(part, ToolCall)
    with pytest.raises(json.JSONDecodeError):
        json.loads(part.arguments)
    assert answer.finished.notes == (NOT_VALID,)


def test_the_markers_of_a_call_inside_a_string_do_not_end_it() -> None:
    inside = '{"city": "</tool_call> <tool_call> </think>"}'
    assert arguments(call(inside)) == inside
    assert arguments(xml("city=a </tool_call> </function> b"), XML) == json.dumps(
        {"city": "a </tool_call> </function> b"}
    )


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("city=5", "5"),
        ("city=null", "null"),
        ("city=true", "true"),
        ("days=5", 5),
        ("days=5.0", 5),
        ("days=many", "many"),
        ("days=null", None),
        ("wind=1e3", 1000.0),
        ("wind=.5", ".5"),
        ("brief=False", False),
        ("brief=maybe", "maybe"),
        ('area={"a": [true]}', {"a": [True]}),
        ("area={'a': (None, 1)}", {"a": [None, 1]}),
        ("area=[1]", "[1]"),
        ("hours=[1, 2]", [1, 2]),
        ("unit=null", None),
        ("unit=nullish", "nullish"),
        ("unit=C", "C"),
        ("stray=5", "5"),
    ],
)
def test_values_of_tags_are_typed_by_the_tools_schema(parameter: str, value: object) -> None:
    found = json.loads(arguments(xml(parameter), XML))
    assert found == {parameter.partition("=")[0]: value}
    assert type(next(iter(found.values()))) is type(value)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": ["integer", "string"]}, "5", 5),
        ({"type": ["string", "integer"]}, "5", "5"),
        ({"anyOf": [{"type": "boolean"}, {"type": "integer"}]}, "5", 5),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
        ({"$ref": "#/$defs/count"}, "5", 5),
        ({"$ref": "#/$defs/loop"}, "5", "5"),
        ({"$ref": "#/$defs/count/type/none"}, "5", "5"),
        ({"enum": [1, 2]}, "2", 2),
        ({"enum": [1.5]}, "1.5", 1.5),
        ({"enum": [True]}, "true", True),
        ({"enum": [{"a": 1}]}, '{"a": 1}', {"a": 1}),
        ({"enum": [[1]]}, "[1]", [1]),
        ({"enum": ["a", None]}, "null", None),
        ({"const": "2"}, "2", "2"),
        ({"properties": {}}, "{}", {}),
        ({"items": {}}, "[]", []),
        ({}, "5", "5"),
        ({}, '{"a": 5}', {"a": 5}),
        (True, "5", "5"),
    ],
)
def test_unions_and_references_of_a_schema_are_tried_in_order(
    schema: object, text: str, value: object
) -> None:
    parameters = {
        "properties": {"x": schema},
        "$defs": {"count": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}},
    }
    tool = Tool(name="get_weather", parameters=json.dumps(parameters))
    given = XML._replace(asked=request((tool,)))
    assert json.loads(arguments(xml(f"x={text}"), given)) == {"x": value}


def test_a_schema_that_refers_to_itself_in_many_ways_takes_no_time() -> None:
    loop = {"anyOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}] * 200}
    parameters = {"properties": {"x": loop}, "$defs": {"x": loop, "y": loop}}
    given = XML._replace(
        asked=request((Tool(name="get_weather", parameters=json.dumps(parameters)),))
    )
    start = time.process_time()
    assert arguments(xml("x=5"), given) == '{"x": "5"}'
    assert time.process_time() - start < 0.5


def test_a_schema_that_can_not_be_read_leaves_strings() -> None:
    for broken in ("", "[]", "{", "[" * 100_000):
        given = XML._replace(asked=request((Tool(name="get_weather", parameters=broken),)))
        assert arguments(xml("days=5"), given) == '{"days": "5"}'


def test_line_breaks_around_a_value_are_not_part_of_it_but_others_are() -> None:
    assert json.loads(arguments(xml("city=\n  a\n\n"), XML)) == {"city": "\n  a\n\n"}
    assert json.loads(arguments(xml("city="), XML)) == {"city": ""}


def test_a_missing_closing_tag_of_the_last_value_is_repaired() -> None:
    text = xml("city=Oslo").replace("</parameter>\n", "")
    answer = read(text, XML)
    assert words(answer) == [("call", "get_weather", '{"city": "Oslo"}')]
    assert answer.finished.notes == ("tool call repaired: a missing closing tag",)
