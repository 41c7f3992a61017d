"""Arguments that are no JSON: the caller gets all that the model wrote of them, or a repair."""

import json
import random
from collections.abc import Callable

import pytest

from mlxd.engine.notations.spelling import spelt
from mlxd.engine.notations.table import NOTATIONS
from mlxd.events import BlockDelta, collect
from tests.engine.texts import Given, call, cuts, outcome, read, stream, words

pytestmark = pytest.mark.thorough

JSON = Given("json_tools")
KIMI = Given("kimi_k2")
OTHER = ("call", "get_time", "{}")


def kimi(arguments: str, name: str = "get_weather") -> str:
    head = f"<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>"
    return head + arguments + "<|tool_call_end|>"


def deepseek(arguments: str, name: str = "get_weather") -> str:
    head = f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n"
    return head + arguments + "\n```<｜tool▁call▁end｜>"


Write = Callable[..., str]
WRITERS = [(JSON, call), (KIMI, kimi), (Given("deepseek"), deepseek)]
BROKEN = [
    '{"city": "she said "now" twice"}',
    '{"city": ""now" she said", "days": 2}',
    '{"city": "a"b", "days": 2, "brief": true}',
    '{"city" "Oslo"}',
    '{city: "Oslo"}',
    '{"city": "Oslo"} and so on',
    '{"city": "Oslo"}{"city": "Bergen"}',
    '{"city": "Oslo"}, {"city": "Bergen"}',
    '{"city": "Oslo"}, "days": 2}',
    '{"city": "the end is "as" <|tool_call_end|> </tool_call> ``` here"}',
]


@pytest.mark.parametrize(("given", "write"), WRITERS)
@pytest.mark.parametrize("arguments", BROKEN)
def test_broken_arguments_are_passed_on_whole(given: Given, write: Write, arguments: str) -> None:
    broken = write(arguments)
    following: list[tuple[str, list[tuple[str, ...]]]] = [
        ("", []),
        (" Bye.", [("text", " Bye.")]),
        (write("{}", "get_time"), [OTHER]),
    ]
    for behind, more in following:
        answer = read(broken + behind, given)
        (kind, name, found), *rest = words(answer)
        assert (kind, name, rest) == ("call", "get_weather", more)
        assert found.startswith(arguments)
        assert set(found[len(arguments) :]) <= set("} \n")
        with pytest.raises(json.JSONDecodeError):
            json.loads(found)
        assert answer.finished.reason == "tool_calls"
        # Cut anywhere where the most follows; the others have only another end.
        for pieces in cuts(broken + behind) if OTHER in more else [[*broken, *behind]]:
            assert outcome(collect(stream(pieces, given))) == outcome(answer)


@pytest.mark.parametrize(("given", "write"), WRITERS)
@pytest.mark.parametrize(
    ("arguments", "repaired"),
    [
        ('{"city": "Oslo"', {"city": "Oslo"}),
        ('{"city": "Oslo", "area": {"a": 1', {"city": "Oslo", "area": {"a": 1}}),
        ('{"city": "Oslo"}}', {"city": "Oslo"}),
        ('{"city": "Oslo"}\n}]', {"city": "Oslo"}),
    ],
)
def test_arguments_with_one_reading_are_repaired(
    given: Given, write: Write, arguments: str, repaired: object
) -> None:
    text = write(arguments) + write("{}", "get_time")
    for pieces in ([text], *cuts(text)):
        first, second = words(collect(stream(pieces, given)))
        assert json.loads(first[2]) == repaired
        assert second == OTHER


@pytest.mark.parametrize(("given", "write"), WRITERS)
@pytest.mark.parametrize("arguments", ['{"city": "C:\\"}', '{"days": 2, "city": "no end}'])
def test_a_string_without_an_end_does_not_take_the_next_call_in(
    given: Given, write: Write, arguments: str
) -> None:
    text = f"{write(arguments)}\n{write('{}', 'get_time')}"
    answer = read(text, given)
    first, second = words(answer)
    assert first[2].startswith(arguments)
    assert second == OTHER
    for pieces in cuts(text):
        assert outcome(collect(stream(pieces, given))) == outcome(answer)


def harmony(arguments: str, name: str = "get_weather") -> str:
    head = f"<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json"
    return f"{head}<|message|>{arguments}<|call|>"


def mistral(arguments: str, name: str = "get_weather") -> str:
    return f"[TOOL_CALLS]{name}[ARGS]{arguments}"


@pytest.mark.parametrize(
    ("given", "write"), [(Given("harmony", ()), harmony), (Given("mistral"), mistral)]
)
@pytest.mark.parametrize("arguments", [*BROKEN[:5], "Oslo", '{"days": 2, "city": "no end}', "[1"])
def test_broken_arguments_leave_the_next_call_alone(
    given: Given, write: Write, arguments: str
) -> None:
    text = write(arguments) + write("{}", "get_time") + write('{"city": "Bergen"}')
    if write is mistral and "no end" in arguments:
        # Only its quote tells that a call in a string is none of the string's.
        text = write(arguments) + write('{"a": 1}', "get_time") + write('{"city": "Bergen"}')
    for pieces in ([text], *cuts(text)):
        first, second, third = words(collect(stream(pieces, given)))
        assert first == ("call", "get_weather", arguments)
        assert second[:2] == ("call", "get_time")
        assert third == ("call", "get_weather", '{"city": "Bergen"}')


def row(first: str, second: str, third: str) -> list[tuple[str, str]]:
    """Calls in one region, as several notations write them; the second is written more loosely."""
    calls = [
        f'{{"name": "get_weather", "arguments": {first}}}',
        f'{{"id": "c1", "name":"get_time","arguments":{second}}}',
        f'{{\n  "name": "get_weather",\n  "arguments": {third}\n}}',
    ]
    cohere = [
        f'{{"tool_call_id": "{number}", "tool_name": "{name}", "parameters": {arguments}}}'
        for number, (name, arguments) in enumerate(
            [("get_weather", first), ("get_time", second), ("get_weather", third)]
        )
    ]
    return [
        ("nemotron", f"<TOOLCALL>[{', '.join(calls)}]</TOOLCALL>"),
        ("minimax_m1", "\n".join(["<tool_calls>", *calls, "</tool_calls>"])),
        ("mistral", f"[TOOL_CALLS][{','.join(calls)}]"),
        ("llama3_json", "; ".join(calls).replace('"arguments"', '"parameters"')),
        ("cohere", "<|START_ACTION|>[" + ",\n".join(cohere) + "]<|END_ACTION|>"),
    ]


NO_END = ('{"days": 2, "city": "no end}', '{"city": "no end', '{"city": "C:\\"}')


@pytest.mark.parametrize("arguments", [*BROKEN[:5], '{"days": }', '{"days": 2, ["city"]}', *NO_END])
def test_broken_arguments_leave_the_next_call_of_their_region_alone(arguments: str) -> None:
    for notation, text in row(arguments, '{"a": {}}', '{"city": "Bergen"}'):
        given = Given(notation, ())
        first, *others = words(read(text, given))
        assert first[2].startswith(arguments)
        assert others == [
            ("call", "get_time", '{"a": {}}'),
            ("call", "get_weather", '{"city": "Bergen"}'),
        ]
        for pieces in list(cuts(text))[::7]:
            assert outcome(collect(stream(pieces, given))) == outcome(read(text, given))


def apertus(*calls: tuple[str, str]) -> str:
    listed = ", ".join(f'{{"{name}": {arguments}}}' for name, arguments in calls)
    return f"<|tools_prefix|>[{listed}]<|tools_suffix|>"


def gigachat(*calls: tuple[str, str]) -> str:
    return "".join(
        f'<|function_call|>{{"name": "{name}", "arguments": {arguments}}}'
        for name, arguments in calls
    )


def kimi_k3(*calls: tuple[str, str]) -> str:
    written = "".join(
        f'<|open|>call tool="{name}" index="{number}"<|sep|><|open|>json<|sep|>{arguments}'
        "<|close|>json<|sep|><|close|>call<|sep|>"
        for number, (name, arguments) in enumerate(calls)
    )
    return f"<|open|>tools<|sep|>{written}<|close|>tools<|sep|>"


@pytest.mark.parametrize("write", [apertus, gigachat, kimi_k3])
@pytest.mark.parametrize("arguments", NO_END)
def test_a_string_without_an_end_leaves_the_next_call_of_any_form_alone(
    write: Callable[..., str], arguments: str
) -> None:
    given = Given(write.__name__, ())
    text = write(("get_weather", arguments), ("get_time", '{"a": {}}'), ("get_weather", "{}"))
    first, *others = words(read(text, given))
    assert first[2].startswith(arguments)
    assert others == [("call", "get_time", '{"a": {}}'), ("call", "get_weather", "{}")]
    for pieces in list(cuts(text))[::7]:
        assert outcome(collect(stream(pieces, given))) == outcome(read(text, given))


JSON_FORMS = sorted(name for name, each in NOTATIONS.items() if each.form.json)


@pytest.mark.parametrize("notation", JSON_FORMS)
def test_a_string_may_hold_any_of_the_notations_own_texts(notation: str) -> None:
    chance, each = random.Random(f"own texts {notation}"), NOTATIONS[notation]
    shown = [spelt(each, [("get_time", {"city": "x"})]), "word", " ", "\n", "{", "}, {", '"']
    given = Given(notation, ())
    for _ in range(6):
        city, plan = ("".join(chance.choices([*each.texts, *shown], k=6)) + "." for _ in range(2))
        calls = [("get_weather", {"city": city, "plan": [plan]}), ("get_time", {"city": plan})]
        text = spelt(each, calls[: 1 if each.form.single else 2])
        answer = read(text, given)
        found = [(call.name, json.loads(call.arguments)) for call in answer.tool_calls]
        assert found == calls[: len(found)], text
        assert (len(found), answer.text) == (1 if each.form.single else 2, "")
        for size in (1, 3):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            assert outcome(collect(stream(pieces, given))) == outcome(answer)


def test_what_broken_arguments_say_of_calls_makes_none() -> None:
    for inside in (
        '{"days": 1 2, "plan": [{"name": "get_time", "arguments": {}}]}',
        '{"days": 1 2, "plan": {"a": {}, "b": {"name": "get_time", "arguments": {}}}}',
        '{"days": 1 2} {"name": "nobody", "arguments": {}}',
        '{"days": 1 2} {"name": "get_time", "days": 1}',
    ):
        for notation, text in row(inside, "{}", "{}")[:2]:
            names = [part[1] for part in words(read(text, Given(notation, ())))]
            assert names == ["get_weather", "get_time", "get_weather"]


@pytest.mark.parametrize("write", [harmony, mistral])
def test_a_string_may_hold_calls_of_the_notation(write: Write) -> None:
    inside = json.dumps({"city": mistral('{"city": "Oslo"}') + mistral("{}", "get_time") + "[1"})
    given = Given(write.__name__, ())
    assert words(read(write(inside), given)) == [("call", "get_weather", inside)]


def test_a_string_may_hold_the_end_of_a_call_and_the_next_call() -> None:
    inside = json.dumps({"city": f"{call('{}')}\n{call('{}')}{call('{}')}"})
    assert words(read(call(inside), JSON)) == [("call", "get_weather", inside)]


def test_a_missing_brace_before_the_next_call_of_the_region_is_repaired() -> None:
    first = '{"name": "get_weather", "arguments": {"city": "Oslo"}'
    text = f'<tool_call>{first}\n{{"name": "get_time", "arguments": {{}}}}</tool_call>'
    assert words(read(text, JSON)) == [("call", "get_weather", '{"city": "Oslo"}'), OTHER]


def test_arguments_stream_while_they_break() -> None:
    builder = JSON.builder()
    builder.text(call('{"city": "it"s')[:-15], tokens=1)
    assert builder.text('" so', tokens=1) == [BlockDelta(0, '" so')]
