"""Tool calls in every notation: what is read, what is repaired, what stays text."""

import time

import pytest
from msgspec.structs import replace

from mlxd.engine.notations.table import NOTATIONS
from mlxd.events import BlockDelta, BlockStart, collect
from mlxd.messages import AllowedTools, JsonOutput, NamedTool, NoTools, Tool, ToolCall
from tests.engine.notations.samples import CITY, SAMPLES, Sample
from tests.engine.texts import TOOLS, Given, call, cuts, outcome, read, request, stream, words

JSON = Given("json_tools")
NOT_OFFERED = "tool markup seen, nothing parsed: the tool was not offered"


def test_every_notation_has_a_sample() -> None:
    assert {sample.notation for sample in SAMPLES} == set(NOTATIONS)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_calls_are_read_in_every_notation(sample: Sample) -> None:
    answer = read(sample.text, sample.given)
    assert words(answer) == sample.parts
    assert answer.finished.reason == "tool_calls"
    assert answer.finished.notes == ()


@pytest.mark.thorough
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_cutting_a_call_anywhere_reads_the_same(sample: Sample) -> None:
    whole = outcome(read(sample.text, sample.given))
    for pieces in cuts(sample.text):
        assert outcome(collect(stream(pieces, sample.given))) == whole


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_without_tools_markup_is_text_word_for_word(sample: Sample) -> None:
    answer = read(sample.text, sample.given._replace(asked=request(tools=())))
    assert not answer.tool_calls
    assert answer.finished.reason == "stop"
    assert answer.finished.notes == ()
    assert all(word in answer.text for word in ("get_weather", "Oslo"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_a_call_where_none_may_be_made_is_neither_made_nor_shown(sample: Sample) -> None:
    given = sample.given._replace(asked=request(tool_choice=NoTools()))
    answer = read(sample.text, given)
    assert words(answer) == [part for part in sample.parts if part[0] != "call"]
    assert answer.finished.reason == "stop"
    assert "a call was left out: none may be made" in " ".join(answer.finished.notes)
    assert outcome(collect(stream(list(sample.text), given))) == outcome(answer)


def test_an_answer_in_a_form_of_its_own_may_look_like_a_call() -> None:
    text = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
    asked = replace(request(tool_choice=NoTools()), output=JsonOutput())
    assert words(read(text, JSON._replace(asked=asked))) == [("text", text)]
    asked = request(tool_choice=NoTools())
    assert words(read(text, JSON._replace(asked=asked))) == []


def test_what_a_model_says_to_all_or_without_a_tool_is_no_call() -> None:
    to_all = Given("functionary_v3")
    assert words(read("all\n>>> get_weather()", to_all)) == [("text", ">>> get_weather()")]
    plain = to_all._replace(asked=request(tools=()))
    assert words(read("all\nAll\nis well.", plain)) == [("text", "All\nis well.")]
    text = 'Sure.\nAction: ```json\n[{"tool_name": "directly-answer", "parameters": {}}]```'
    assert words(read(text, Given("command_r_plus"))) == [("text", "Sure.\n")]
    assert words(read("Action: run", Given("command_r_plus"))) == [("text", "Action: run")]


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
    "text", ["<tool_call>", "I use <tool_call> now", "I use <tool_call></tool_call>"]
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


def test_a_call_in_a_code_fence_is_a_call() -> None:
    """Its markers say so, and an agent whose model fences its calls would stop without them."""
    answer = read(f"```\n{call(CITY)}\n```", JSON)
    assert [part.name for part in answer.tool_calls] == ["get_weather"]


def test_llamas_json_may_begin_a_line_behind_prose() -> None:
    llama = Given("llama3_json")
    whole = f'{{"name": "get_weather", "parameters": {CITY}}}'
    text = f"Let me look.\n\n{whole}"
    for pieces in ([text], *cuts(text)):
        assert words(collect(stream(pieces, llama))) == [
            ("text", "Let me look."),
            ("call", "get_weather", CITY),
        ]
    for prose in (f"Like this: {whole}", 'So:\n{"a": 1}', 'So:\n{"name": "nobody"}', "if x\n{\n}"):
        for pieces in ([prose], *cuts(prose)):
            assert words(collect(stream(pieces, llama))) == [("text", prose)]
    assert words(read(text, JSON)) == [("text", text)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_the_head_of_a_required_call_is_not_shown_where_the_limit_cut_it(sample: Sample) -> None:
    form = NOTATIONS[sample.notation].form
    head = (form.region[0] + form.call[0].partition("{name}")[0]).replace("{{", "{") + "get_wea"
    asked = request(tool_choice=NamedTool("get_weather"))
    given = sample.given._replace(asked=asked, reason="length")
    for size in range(1, len(head)):
        for pieces in ([head[:size]], list(head[:size])):
            answer = collect(stream(pieces, given))
            assert answer.text == ""
            assert answer.finished.reason == "length"
    assert read(head, given._replace(asked=request())).text


SCRAPS = ["<", '{"a":', "[1,", '"', '\\"', "\n", "a=", ","]


@pytest.mark.thorough
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
            assert seconds(opening + scrap * (5_000 // len(scrap))) < 0.3
