"""Tool calls in every notation: what is read, what is repaired, what stays text."""

import json
import time

import pytest

from mlxd.engine.toolcalls import NOTATIONS
from mlxd.events import BlockDelta, BlockStart, collect
from mlxd.messages import AllowedTools, NamedTool, NoTools, Tool, ToolCall
from tests.engine.notation_samples import CITY, SAMPLES, Sample
from tests.engine.reading import TOOLS, Given, cuts, outcome, read, request, stream, words

JSON = Given("json_tools")
XML = Given("qwen3_coder")
NOT_OFFERED = "tool markup seen, nothing parsed: the tool was not offered"
NOT_VALID = "tool call arguments are not valid JSON"
CUT = "a tool call ends in the middle"


def call(arguments: str, name: str = "get_weather") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


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


def test_every_notation_has_a_sample() -> None:
    assert {sample.notation for sample in SAMPLES} == set(NOTATIONS)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_calls_are_read_in_every_notation(sample: Sample) -> None:
    answer = read(sample.text, sample.given)
    assert words(answer) == sample.parts
    assert answer.finished.reason == "tool_calls"
    assert answer.finished.notes == ()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_cutting_a_call_anywhere_reads_the_same(sample: Sample) -> None:
    whole = outcome(read(sample.text, sample.given))
    for pieces in cuts(sample.text):
        assert outcome(collect(stream(pieces, sample.given))) == whole


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_without_tools_markup_is_text_word_for_word(sample: Sample) -> None:
    for wanted in (request(tools=()), request(tool_choice=NoTools())):
        answer = read(sample.text, sample.given._replace(asked=wanted))
        assert not answer.tool_calls
        assert answer.finished.reason == "stop"
        assert answer.finished.notes == ()
        assert all(word in answer.text for word in ("get_weather", "Oslo"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_a_call_to_a_tool_that_was_not_offered_is_text_word_for_word(sample: Sample) -> None:
    offered = Tool(name="something_else")
    answer = read(sample.text, sample.given._replace(asked=request((offered,))))
    assert not answer.tool_calls
    assert answer.finished.reason == "stop"
    assert all(word in answer.text for word in ("get_weather", "Oslo"))


def test_a_call_that_names_no_offered_tool_is_noted_without_its_content() -> None:
    text = call('{"secret": 1}', name="delete_everything")
    answer = read(text, JSON)
    assert words(answer) == [("text", text)]
    assert answer.finished.notes == (NOT_OFFERED,)


def test_only_the_tools_that_the_choice_allows_can_be_called() -> None:
    text = call("{}", "get_time")
    for choice in (NamedTool("get_weather"), AllowedTools(("get_weather",))):
        answer = read(text, JSON._replace(asked=request(tool_choice=choice)))
        assert words(answer) == [("text", text)]
    allowed = AllowedTools(("get_time",))
    answer = read(text, JSON._replace(asked=request(tool_choice=allowed)))
    assert words(answer) == [("call", "get_time", "{}")]


def test_the_name_comes_as_soon_as_it_is_known_and_arguments_as_they_are_written() -> None:
    builder = JSON.builder()
    assert builder.text('<tool_call>\n{"name": "get_weath', tokens=1) == []
    (start,) = builder.text('er", "arg', tokens=1)
    assert isinstance(start, BlockStart)
    assert isinstance(start.part, ToolCall)
    assert start.part.name == "get_weather"
    assert builder.text('uments": {"city": "Os', tokens=1) == [BlockDelta(0, '{"city": "Os')]
    assert builder.text("lo", tokens=1) == [BlockDelta(0, "lo")]


def test_string_values_of_tags_stream_piece_by_piece_and_others_when_whole() -> None:
    builder = XML.builder()
    builder.text("<tool_call>\n<function=get_weather>\n", tokens=1)
    assert builder.text("<parameter=city>\nOs", tokens=1) == [BlockDelta(0, '{"city": "Os')]
    assert builder.text('"lo\nx', tokens=1) == [BlockDelta(0, '\\"lo\\nx')]
    assert builder.text("\n</parameter>\n<parameter=days>\n1", tokens=1) == [
        BlockDelta(0, '", "days": ')
    ]
    assert builder.text("2", tokens=1) == []
    assert builder.text("\n</parameter>", tokens=1) == [BlockDelta(0, "12")]


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
    "text",
    [
        '{"name": "get_weather", "parameters": ' + CITY + "}",
        '{"arguments": ' + CITY + ', "name": "get_weather"}',
        '{"type": "function", "function": {"name": "get_weather", "arguments": ' + CITY + "}}",
        '{"function": "get_weather", "arguments": ' + CITY + ', "id": "x"}',
        '[{"name": "get_weather", "arguments": ' + CITY + "}]",
    ],
)
def test_json_calls_come_in_many_shapes(text: str) -> None:
    for wrapped in (f"<tool_call>{text}</tool_call>", f"<tools>\n{text}\n</tools>"):
        answer = read(wrapped, JSON)
        assert words(answer) == [("call", "get_weather", CITY)]
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
        ({"enum": [1, 2]}, "2", 2),
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


@pytest.mark.parametrize(
    "text", ["<tool_call>", "I use <tool_call> now", "<tool_call></tool_call>"]
)
def test_markup_that_is_no_call_is_text(text: str) -> None:
    answer = read(text, JSON)
    assert words(answer) == [("text", text)]
    (note,) = answer.finished.notes
    assert note.startswith("tool markup seen, nothing parsed: ")


@pytest.mark.parametrize(
    "text",
    [
        '{"answer": 42}',
        '{"name": "Bob", "arguments": {}}',
        '{"name": "get_weather"}',
        '{"name": "get_weather", "description": "A tool"}',
        '[{"name": "get_weather", "parameters": {"type": "object"}}]',
        '```python\n{"name": "get_weather", "arguments": {}}\n```',
        'Like this: {"name": "get_weather", "arguments": {}}',
        "[1, 2]",
        "`code`",
    ],
)
def test_json_that_is_no_call_of_an_offered_tool_is_text(text: str) -> None:
    answer = read(text, JSON)
    assert words(answer) == [("text", text)]
    assert answer.finished.notes == ()


def test_bare_json_behind_reasoning_is_a_call_too() -> None:
    text = '<think>hm</think>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}'
    assert words(read(text, JSON)) == [("reasoning", "hm"), ("call", "get_weather", CITY)]


def test_a_call_inside_reasoning_ends_it_and_a_mention_does_not() -> None:
    text = "<think>I may use <tool_call> here. " + call(CITY) + "Done."
    answer = read(text, JSON)
    assert words(answer) == [
        ("reasoning", "I may use <tool_call> here. "),
        ("call", "get_weather", CITY),
        ("text", "Done."),
    ]


def test_ids_are_new_and_random_unless_the_models_own_can_serve() -> None:
    both = call(CITY) + call(CITY)
    ids = [part.id for part in read(both, JSON).tool_calls]
    assert len({*ids}) == 2
    assert all(len(each) == 29 and each.startswith("call_") for each in ids)
    own = '[TOOL_CALLS][{"id": "abcdef123", "name": "get_time", "arguments": {}}]'
    assert read(own, Given("mistral")).tool_calls[0].id == "abcdef123"
    twice = read(own + own, Given("mistral")).tool_calls
    assert twice[1].id.startswith("call_")
    odd = own.replace("abcdef123", "x" * 65)
    assert read(odd, Given("mistral")).tool_calls[0].id.startswith("call_")


def test_an_id_of_an_earlier_turn_is_not_used_again() -> None:
    sample = next(sample for sample in SAMPLES if sample.notation == "kimi_k2")
    first = read(sample.text, sample.given).tool_calls
    assert [part.id for part in first] == ["functions.get_weather:0", "functions.get_time:1"]
    asked = request(TOOLS, history=first)
    again = read(sample.text, sample.given._replace(asked=asked)).tool_calls
    assert all(part.id.startswith("call_") for part in again)


SCRAPS = ["<", '{"a":', "[1,", '"', '\\"', "\n", "a=", ","]


@pytest.mark.parametrize("notation", sorted(NOTATIONS))
def test_hostile_text_takes_time_that_grows_with_its_length(notation: str) -> None:
    starts = [*NOTATIONS[notation].starts, "<|start|>"]
    sample = next(sample for sample in SAMPLES if sample.notation == notation)

    def seconds(text: str) -> float:
        start = time.process_time()
        read(text, sample.given)
        return time.process_time() - start

    for opening in ("", sample.text.partition("Oslo")[0], starts[0]):
        for scrap in [*SCRAPS, *starts]:
            assert seconds(opening + scrap * (20_000 // len(scrap))) < 0.5
