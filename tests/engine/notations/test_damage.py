"""What becomes of damaged calls, family by family: repaired, passed on as they break, or text."""

from typing import NamedTuple

import pytest

from mlxd.events import FinishReason, collect
from tests.engine.notations.samples import CITY, XTML_REASONING
from tests.engine.texts import Given, cuts, outcome, read, stream, words

pytestmark = pytest.mark.thorough

CALLED = ("call", "get_weather", CITY)
NO_CALL = "nothing parsed"
BROKEN = "not valid JSON"
CUT = "ends in the middle"
REPAIRED = "repaired"

FUNCTION = "<function=get_weather>\n"
PARAM = "<parameter=city>\nOslo\n</parameter>\n"
QWEN = FUNCTION + PARAM
ONE = '{"city": "Oslo"}'
JSON = '<tool_call>{"name": "get_weather", "arguments": '
ONE_CALL = ("call", "get_weather", ONE)
OPEN = ("call", "get_weather", '{"city": "Oslo"')
GLM = "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
ARGS = "<|tool_call_argument_begin|>"
SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
KIMI = f"<|tool_call_begin|>functions.get_weather:0{ARGS}"
PY = "<|tool_call_start|>["
PY_END = "<|tool_call_end|>"
DEEP = "<｜tool▁calls▁begin｜>"
DEEP_CALL = "<｜tool▁call▁begin｜>"
SEP = "<｜tool▁sep｜>"
INVOKE = '<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n'
K3 = '<|open|>tools<|sep|><|open|>call tool="get_weather"<|sep|>'
K3_CITY = '<|open|>argument key="city" type="string"<|sep|>Oslo<|close|>argument<|sep|>'
K3_JSON = '<|open|>json type="object"<|sep|>'
HEADER = "<|channel|>commentary to=functions.get_weather<|message|>"


class Case(NamedTuple):
    notation: str
    text: str
    parts: list[tuple[str, ...]]
    note: str = ""
    reason: FinishReason = "stop"


def as_text(notation: str, text: str, note: str = NO_CALL, reason: FinishReason = "stop") -> Case:
    """A case whose text stays as it is."""
    return Case(notation, text, [("text", text)], note, reason)


def calls(arguments: str, *more: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [("call", "get_weather", arguments), *more]


JSON_CASES = [
    as_text("json_tools", '<tool_call>{"name": 5}</tool_call>'),
    as_text("json_tools", '<tool_call>{"arguments": {}}</tool_call>'),
    as_text("json_tools", '<tool_call>{"arguments": {"a": }, "name": "get_weather"}</tool_call>'),
    as_text("json_tools", '<tool_call>{"arguments": {"a": 1'),
    as_text("json_tools", '<tool_call>{"name": "get_weather'),
    as_text("json_tools", '<tool_call>{"id": "x", "days": 2, "name": "get_weather"}</tool_call>'),
    as_text("json_tools", "<tool_call>get_weather now</tool_call>"),
    Case(
        "json_tools",
        f'{JSON}{ONE}, "days": 2}}</tool_call>',
        [ONE_CALL],
        "was dropped",
    ),
    Case(
        "json_tools",
        f"{JSON}{ONE}}}}}]\n</tool_call>",
        [ONE_CALL],
        "close nothing",
    ),
    Case(
        "json_tools",
        f'{JSON}{ONE}, "x": oh}}</tool_call>',
        [ONE_CALL],
        "was dropped",
    ),
    Case(
        "json_tools",
        f"{JSON}{ONE}</tool_call>",
        [ONE_CALL],
        REPAIRED,
    ),
    Case("json_tools", '<tool_call>{"name": "get_weather"</tool_call>', calls("{}"), REPAIRED),
    Case("json_tools", '<tool_call>{"name": "get_weather", "arg', calls(""), CUT, "length"),
    Case("json_tools", '<tool_call>{"name": "get_weather"', calls(""), CUT, "length"),
    Case("json_tools", '<tool_call>{"name": "get_weather", "x": [1', calls(', "x": [1'), BROKEN),
    Case(
        "json_tools",
        '<tool_call>{"name": "get_weather" oh}</tool_call>.',
        [("call", "get_weather", " oh}"), ("text", ".")],
        BROKEN,
    ),
    Case(
        "json_tools",
        JSON + "[1]}</tool_call>",
        calls("[1]"),
        "not a JSON object",
    ),
    Case(
        "json_tools",
        JSON + '"Oslo it is"}</tool_call>',
        calls("Oslo it is"),
        "not a JSON object",
    ),
    Case(
        "json_tools",
        JSON + '"{\\"city\\": \\"Oslo\\"} \\uZZ"}</tool_call>',
        calls(ONE + "\\uZZ"),
        "not a JSON object",
    ),
    Case(
        "json_tools",
        JSON + '"{\\"city\\": oh"}</tool_call>',
        calls('{"city": oh'),
        "not a JSON object",
    ),
    Case(
        "json_tools",
        JSON + '"{\\"city\\": \\"Oslo\\""}</tool_call>',
        [ONE_CALL],
    ),
    Case("json_tools", JSON + '"{\\"ci', calls('{"ci'), CUT),
    Case(
        "json_tools",
        JSON + '{"a": 1',
        calls('{"a": 1}'),
        REPAIRED,
    ),
    Case(
        "json_tools",
        JSON + '{"a": 1',
        calls('{"a": 1'),
        CUT,
        "length",
    ),
    Case(
        "json_tools",
        JSON + '{"a": 1, ',
        calls('{"a": 1, '),
        CUT,
    ),
    Case("json_tools", JSON + '{"a\\', calls('{"a\\'), CUT),
    Case(
        "llama3_json",
        f'{{"name": "get_weather", "parameters": {ONE}}}; and',
        [ONE_CALL, ("text", "; and")],
    ),
    Case("bare_json", f'[{{"name": "get_weather", "parameters": {ONE}}}]', [ONE_CALL]),
    as_text("bare_json", '{"arguments": {}, "name": "nobody"}', ""),
    as_text("bare_json", '{"name": "get_weather", "arguments": "{}"}', ""),
    as_text("bare_json", '{"arguments": {"a": tru}}', ""),
]
TAG_CASES = [
    as_text("qwen3_coder", "<function=get_weather"),
    as_text("qwen3_coder", "<function=get_<b>weather>"),
    Case("qwen3_coder", QWEN + "</tool_call>", [ONE_CALL], REPAIRED),
    Case("qwen3_coder", QWEN, [ONE_CALL], REPAIRED),
    Case("qwen3_coder", QWEN, [OPEN], CUT, "length"),
    Case("qwen3_coder", QWEN + "<param", [OPEN], CUT, "length"),
    Case("qwen3_coder", QWEN + "<parameter=da", [OPEN], CUT, "length"),
    Case("qwen3_coder", QWEN + "<parameter=da", calls(OPEN[2] + "\n<parameter=da"), BROKEN),
    Case(
        "qwen3_coder",
        QWEN + "</parameter>\n</function>",
        calls('{"city": "Oslo\\n</parameter>"}'),
    ),
    Case(
        "qwen3_coder",
        FUNCTION + "</parameter>\n" + PARAM + "</function>",
        [ONE_CALL],
        REPAIRED,
    ),
    Case("qwen3_coder", FUNCTION + "<parameter=city>\nOs", calls('{"city": "Os'), CUT),
    Case("qwen3_coder", QWEN + "</function> Done", [ONE_CALL, ("text", " Done")]),
    Case(
        "qwen3_coder",
        f"<tool_call>{QWEN}</function>{QWEN}</function></tool_call>",
        [ONE_CALL, ONE_CALL],
    ),
    Case(
        "qwen3_coder",
        QWEN + "<parameter=>\n5\n</parameter>\n</function>x",
        calls('{"city": "Oslo\\n</parameter>\\n<parameter=>\\n5"}', ("text", "x")),
    ),
    Case("minimax_m2", f"{INVOKE}</invoke>\n{INVOKE}</invoke>\n", [ONE_CALL, ONE_CALL]),
    Case(
        "minimax_m2",
        f'<minimax:tool_call>{INVOKE}</invoke><invoke name="nope">x</invoke>',
        [ONE_CALL, ("text", '<invoke name="nope">x</invoke>')],
        NO_CALL,
    ),
    as_text("minimax_m2", "<minimax:tool_call>"),
    Case(
        "minicpm5",
        '<function name="get_weather"><param name="city"><![CDATA[Os',
        calls('{"city": "Os'),
        CUT,
    ),
    Case(
        "minicpm5",
        '<function name="get_weather"><param name="city"> Oslo</param></function>',
        calls('{"city": " Oslo"}'),
    ),
    Case(
        "minicpm5",
        '<function name="get_weather"><param name="city"><![CDATA[Oslo]]>!</param></function>',
        calls('{"city": "Oslo"!</param>'),
        BROKEN,
    ),
    Case("kimi_k3", K3 + K3_JSON + ONE + "<|close|>json<|sep|>", [ONE_CALL]),
    Case("kimi_k3", K3 + K3_JSON + '{"city": "Oslo"', [OPEN], CUT, "length"),
    Case("kimi_k3", K3 + K3_JSON + "oh<|close|>json<|sep|>", calls("oh"), BROKEN),
    Case("kimi_k3", K3 + K3_JSON + "<|close|>json<|sep|>", calls("{}")),
    Case("kimi_k3", K3 + K3_JSON, calls(""), CUT, "length"),
    Case(
        "kimi_k3",
        K3 + K3_CITY + K3_JSON + "{}<|close|>json<|sep|><|close|>call<|sep|>",
        calls(OPEN[2] + K3_JSON + "{}<|close|>json<|sep|>"),
        BROKEN,
    ),
    as_text("glm47", "<tool_call>get_weather"[:-1]),
    as_text("glm47", "<tool_call>get_weather", NO_CALL, "length"),
    Case("glm47", "<tool_call>get_weather", calls("{}"), REPAIRED),
    Case("glm47", f"<tool_call>get_weather {ONE}</tool_call>", [ONE_CALL]),
    Case("glm47", GLM, [ONE_CALL], REPAIRED),
    Case("glm47", GLM, [OPEN], CUT, "length"),
    Case("glm47", GLM + "<arg_key>da", [OPEN], CUT, "length"),
    Case(
        "glm47", GLM + "<arg_key>days</arg_key>\\n<arg_value>2", calls(OPEN[2] + ', "days": '), CUT
    ),
    Case(
        "glm47",
        GLM + "<arg_key>days</arg_key>2</tool_call>",
        calls(OPEN[2] + "\n<arg_key>days</arg_key>2"),
        BROKEN,
    ),
    Case(
        "glm47",
        GLM + "<arg_key>area</arg_key><arg_value>{'a': 1}</arg_value></tool_call>",
        calls('{"city": "Oslo", "area": {"a": 1}}'),
    ),
]
OTHER_CASES = [
    as_text("gemma4", "<|tool_call>get_weather{}<tool_call|>"),
    as_text("gemma4", "<|tool_call>call:get_weather"),
    as_text("gemma4", "<|tool_call>call:get_weather now"),
    Case("gemma4", '<|tool_call>call:get_weather{city:<|"|>Os', calls('{"city":"Os'), CUT),
    Case("gemma4", "<|tool_call>call:get_weather{city:Oslo", calls('{"city":"Oslo"}'), REPAIRED),
    Case("gemma4", "<|tool_call>call:get_weather{city:Os", calls('{"city":Os'), CUT, "length"),
    Case("gemma4", "<|tool_call>call:get_weather{ci", calls('{"ci"'), CUT),
    Case("gemma4", "<|tool_call>call:get_weather{city}<tool_call|>", calls('{"city"}'), BROKEN),
    Case("gemma4", "<|tool_call>call:get_weather{a:}<tool_call|>", calls('{"a":}'), BROKEN),
    Case(
        "gemma4", '<|tool_call>call:get_weather{"a":[1]]}<tool_call|>', calls('{"a":[1]]}'), BROKEN
    ),
    Case("kimi_k2", f"{SECTION}noise{KIMI}{ONE}{SECTION_END}", [ONE_CALL]),
    as_text("kimi_k2", f"{SECTION} no call {SECTION_END} and {KIMI[:-1]}"),
    as_text("kimi_k2", f"{SECTION} no call {SECTION_END} and <|tool_call_begin|>"),
    Case("kimi_k2", KIMI + ONE + "<|tool_call_end|> Done", [ONE_CALL, ("text", " Done")]),
    as_text("deepseek", DEEP),
    as_text("deepseek", DEEP + "x"),
    as_text("deepseek", DEEP_CALL + "get_weather"),
    as_text("deepseek", f"{DEEP_CALL}function{SEP}get_weather"),
    Case("deepseek", f"{DEEP_CALL}get_weather{SEP}```\n{ONE}\n```", [ONE_CALL]),
    Case("mistral", f"[TOOL_CALLS]get_weather{ONE} get", [ONE_CALL, ("text", " get")]),
    as_text("mistral", "[TOOL_CALLS]get_weather now"),
    as_text("mistral", "[TOOL_CALLS]get_weather[CALL_ID]x"),
    Case("mistral", "[TOOL_CALLS]get_weather[ARGS]", calls("{}")),
    as_text("pythonic", PY + "get_weather]"),
    as_text("pythonic", PY + 'get_weather("Oslo")]' + PY_END),
    as_text("pythonic", PY + "get_weather("),
    Case("pythonic", PY + "get_weather(city=Oslo, )" + PY_END, [ONE_CALL]),
    Case("pythonic", PY + 'get_weather(city="Oslo"' + PY_END, [ONE_CALL], REPAIRED),
    Case("pythonic", PY + 'get_weather(city="Oslo" x)]' + PY_END, calls(OPEN[2] + " x)]"), BROKEN),
    Case(
        "pythonic", PY + 'get_weather(city="Oslo", x)]' + PY_END, calls(OPEN[2] + ", x)]"), BROKEN
    ),
    Case("pythonic", PY + 'get_weather(city="Oslo", ', [OPEN], CUT),
    Case("pythonic", PY + 'get_weather(city="Oslo"', [OPEN], CUT, "length"),
    Case("pythonic", PY + 'get_weather(city="Os', calls('{"city": "Os'), CUT),
    Case("pythonic", PY + "get_weather(city=f(1))]" + PY_END, calls('{"city": f(1))]'), BROKEN),
    Case(
        "pythonic",
        PY + r"get_weather(city='\x41\'\a\/\q\xZ\u00e9\"" + '"\t\\\n' + "')]" + PY_END,
        calls(r'{"city": "\u0041' + "'" + r'\u0007\\/\\q\\xZ\u00e9\"\"\t"}'),
    ),
    Case("harmony", HEADER, calls("{}")),
    Case("harmony", HEADER + "oh<|call|>", calls("oh"), BROKEN),
    Case("harmony", HEADER + ONE + "<|call|>", [ONE_CALL]),
    Case(
        "harmony",
        "<|channel|>final<|message|>a<|channel|>b",
        [("text", "a<|channel|>b")],
    ),
]


@pytest.mark.parametrize("case", [*JSON_CASES, *TAG_CASES, *OTHER_CASES])
def test_a_damaged_call_is_repaired_or_passed_on_or_text(case: Case) -> None:
    reasoning = XTML_REASONING if case.notation == "kimi_k3" else ()
    given = Given(case.notation, reasoning, reason=case.reason)
    answer = read(case.text, given)
    assert words(answer) == case.parts
    assert bool(case.note) == bool(answer.finished.notes)
    assert case.note in " ".join(answer.finished.notes)
    for pieces in cuts(case.text):
        assert outcome(collect(stream(pieces, given))) == outcome(answer)


@pytest.mark.parametrize(
    ("notation", "region"),
    [
        ("kimi_k2", f"{SECTION}{SECTION_END}"),
        ("kimi_k2", f"{SECTION}\n{SECTION_END}"),
        ("glm47", "<tool_call></tool_call>"),
        ("json_tools", "<tool_call>\n</tool_call>"),
        ("qwen3_coder", "<tool_call>\n<function=>\n</function>\n</tool_call>"),
        ("hunyuan", "<tool_calls></tool_calls>"),
        ("minimax_m2", "<minimax:tool_call>\n</minimax:tool_call>"),
        ("deepseek_v32", "<｜DSML｜function_calls>\n</｜DSML｜function_calls>"),
    ],
)
def test_a_region_that_holds_nothing_is_not_shown(notation: str, region: str) -> None:
    given = Given(notation, ())
    for pieces in cuts(f"Well.\n{region}"):
        assert words(collect(stream(pieces, given))) == [("text", "Well.\n")]
    assert words(read(region, given)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Write `<tool_call></tool_call>` around it.",
        "It is <tool_call></tool_call>.",
        "<tool_call>",
        "<tool_call>\n<tool_call>",
        "<tool_call>no</tool_call>",
    ],
)
def test_what_a_text_says_of_tags_is_shown(text: str) -> None:
    for pieces in ([text], *cuts(text)):
        assert words(collect(stream(pieces, Given("json_tools", ())))) == [("text", text)]
