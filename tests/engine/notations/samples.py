"""Answers with tool calls as models of every notation write them, and what is to be read."""

from typing import NamedTuple

from tests.engine.notations.family_samples import FAMILIES
from tests.engine.texts import Given

CITY = '{"city": "Oslo", "days": 2}'
TYPED = (
    '{"city": "Oslo <b>", "days": 2, "wind": 1.5, "brief": true, '
    '"area": {"a": [1, null]}, "hours": [1, 2], "unit": null}'
)


class Sample(NamedTuple):
    """A text in one notation; its parts are named as `reading.words` does."""

    notation: str
    text: str
    parts: list[tuple[str, ...]]

    @property
    def given(self) -> Given:
        """How the models that write so mark their reasoning and the parts of an answer."""
        match self.notation:
            case "kimi_k3":
                return Given(self.notation, XTML_REASONING, XTML_STRUCTURE)
            case "longcat":
                return Given(self.notation, (("<longcat_think>", "</longcat_think>"),))
            case _:
                return Given(self.notation)


def calls(*arguments: str) -> list[tuple[str, ...]]:
    """Calls of `get_weather`."""
    return [("call", "get_weather", each) for each in arguments]


TIME = ("call", "get_time", "{}")

QWEN_JSON = (
    "<think>\nThe user wants weather.\n</think>\n\nLet me look.\n\n<tool_call>\n"
    '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>\n'
    '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
)
QWEN_XML = """I will call:

<tool_call>
<function=get_weather>
<parameter=city>
Oslo <b>
</parameter>
<parameter=days>
2
</parameter>
<parameter=wind>
1.5
</parameter>
<parameter=brief>
True
</parameter>
<parameter=area>
{"a": [1, null]}
</parameter>
<parameter=hours>
[1, 2]
</parameter>
<parameter=unit>
null
</parameter>
</function>
</tool_call>
<tool_call>
<function=get_time>
</function>
</tool_call>"""
GLM = (
    "<think>hm</think>\n<tool_call>get_weather\n"
    "<arg_key>city</arg_key>\n<arg_value>Oslo <b></arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n"
    "<arg_key>wind</arg_key>\n<arg_value>1.5</arg_value>\n"
    "<arg_key>brief</arg_key>\n<arg_value>true</arg_value>\n"
    '<arg_key>area</arg_key>\n<arg_value>{"a": [1, null]}</arg_value>\n'
    "<arg_key>hours</arg_key>\n<arg_value>[1, 2]</arg_value>\n"
    "<arg_key>unit</arg_key>\n<arg_value>null</arg_value>\n"
    "</tool_call><tool_call>get_time</tool_call>"
)
GEMMA = (
    'Sure.<|tool_call>call:get_weather{city:<|"|>Oslo {"x"}<|"|>,days:2,'
    'area:{a:[1,<|"|>b<|"|>]},brief:true}<tool_call|><|tool_call>call:get_time{}<tool_call|>'
)
KIMI = (
    "Looking.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    '<|tool_call_argument_begin|>{"city": "Oslo", "days": 2}<|tool_call_end|>'
    "<|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>"
)
XTML = (
    "<|open|>think<|sep|>hm<|close|>think<|sep|><|open|>response<|sep|>Sure.<|close|>response<|sep|>"
    '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Oslo <b><|close|>argument<|sep|>'
    '<|open|>argument key="days" type="number"<|sep|>2<|close|>argument<|sep|>'
    '<|close|>call<|sep|><|open|>call tool="get_weather" index="2"<|sep|>'
    '<|open|>json type="object"<|sep|>{"city": "Oslo", "days": 2}<|close|>json<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>"
)
XTML_REASONING = (("<|open|>think<|sep|>", "<|close|>think<|sep|>"),)
XTML_STRUCTURE = (
    *("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    "<|close|>message<|sep|>",
)
MINIMAX = """<think>hm</think>

<minimax:tool_call>
<invoke name="get_weather">
<parameter name="city">Oslo <b></parameter>
<parameter name="days">2</parameter>
<parameter name="wind">1.5</parameter>
<parameter name="brief">true</parameter>
<parameter name="area">{"a": [1, null]}</parameter>
<parameter name="hours">[1, 2]</parameter>
<parameter name="unit">null</parameter>
</invoke>
<invoke name="get_time">
</invoke>
</minimax:tool_call>"""
MINICPM = (
    '<function name="get_weather"><param name="city"><![CDATA[Oslo <b>]]></param>'
    '<param name="days">2</param><param name="wind">1.5</param><param name="brief">true</param>'
    '<param name="area">{"a": [1, null]}</param><param name="hours">[1, 2]</param>'
    '<param name="unit">null</param></function>\n<function name="get_time"></function>'
)
MUSE = (
    "to=self<|message|>hm<|eom|><|start|>assistant to=get_weather<|message|>"
    '<atem:function_calls>\n<atem:invoke name="get_weather">\n'
    '<atem:parameter name="city">Oslo</atem:parameter>\n'
    '<atem:parameter name="days">2</atem:parameter>\n</atem:invoke>\n'
    "</atem:function_calls><|eom|><|start|>assistant to=user<|message|>Wait.<|eot|>"
)
MISTRAL_ARRAY = (
    'Sure.[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}, '
    '"id": "abcdef123"}, {"name": "get_time", "arguments": "{}"}]'
)
MISTRAL = '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo", "days": 2}get_time[CALL_ID]a1[ARGS]{}'
LONGCAT = (
    "<longcat_think>hm</longcat_think><longcat_tool_call>get_weather\n"
    "<longcat_arg_key>city</longcat_arg_key>\n<longcat_arg_value>Oslo</longcat_arg_value>\n"
    "<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>2</longcat_arg_value>\n"
    "</longcat_tool_call>"
)
PYTHONIC = (
    "<|tool_call_start|>[get_weather(city='Oslo \"b\"', days=2, area={'a': (1, None)}, "
    "brief=True), get_time()]<|tool_call_end|>Looking."
)
HARMONY = (
    "<|channel|>analysis<|message|>The user wants weather.<|end|><|start|>assistant"
    "<|channel|>commentary<|message|>Let me look.<|end|><|start|>assistant"
    "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"city": "Oslo", "days": 2}<|call|>'
)
HARMONY_ROLE = (
    "<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>"
    '{"city": "Oslo", "days": 2}<|call|>'
)
LLAMA = '{"name": "get_weather", "parameters": {"city": "Oslo", "days": 2}}; {"name": "get_time"'
DEEPSEEK_V3 = (
    "Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
    '```json\n{"city": "Oslo", "days": 2}\n```<｜tool▁call▁end｜>\n'
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜>"
    "<｜tool▁calls▁end｜>"
)
DEEPSEEK_V31 = (
    "<think>hm</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
    '{"city": "Oslo", "days": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>'
    "{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
DEEPSEEK_V32 = (
    '\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>"
)
THOUGHT = ("reasoning", "hm")

SAMPLES = (
    Sample(
        "json_tools",
        QWEN_JSON,
        [
            ("reasoning", "\nThe user wants weather.\n"),
            ("text", "Let me look."),
            *calls(CITY),
            TIME,
        ],
    ),
    Sample(
        "hermes",
        '<tool_call>{"arguments": {"city": "Oslo", "days": 2}, "name": "get_weather"}</tool_call>',
        calls(CITY),
    ),
    Sample("qwen3_coder", QWEN_XML, [("text", "I will call:"), *calls(TYPED), TIME]),
    Sample("glm47", GLM, [THOUGHT, *calls(TYPED), TIME]),
    Sample("laguna", GLM, [THOUGHT, *calls(TYPED), TIME]),
    Sample("longcat", LONGCAT, [THOUGHT, *calls(CITY)]),
    Sample(
        "gemma4",
        GEMMA,
        [
            ("text", "Sure."),
            *calls('{"city":"Oslo {\\"x\\"}","days":2,"area":{"a":[1,"b"]},"brief":true}'),
            TIME,
        ],
    ),
    Sample(
        "function_gemma",
        "<start_function_call>call:get_weather{city:<escape>Oslo<escape>,days:2}<end_function_call>",
        calls('{"city":"Oslo","days":2}'),
    ),
    Sample("kimi_k2", KIMI, [("text", "Looking."), *calls(CITY), TIME]),
    Sample(
        "kimi_k3",
        XTML,
        [THOUGHT, ("text", "Sure."), *calls('{"city": "Oslo <b>", "days": 2}', CITY)],
    ),
    Sample("minimax_m2", MINIMAX, [THOUGHT, *calls(TYPED), TIME]),
    Sample("minicpm5", MINICPM, [*calls(TYPED), TIME]),
    Sample("muse_spark", MUSE, [THOUGHT, *calls(CITY), ("text", "Wait.")]),
    Sample("mistral", MISTRAL_ARRAY, [("text", "Sure."), *calls(CITY), TIME]),
    Sample("mistral", MISTRAL, [*calls(CITY), TIME]),
    Sample(
        "pythonic",
        PYTHONIC,
        [
            *calls('{"city": "Oslo \\"b\\"", "days": 2, "area": {"a": [1, null]}, "brief": true}'),
            TIME,
            ("text", "Looking."),
        ],
    ),
    Sample(
        "harmony",
        HARMONY,
        [("reasoning", "The user wants weather."), ("text", "Let me look."), *calls(CITY)],
    ),
    Sample("harmony", HARMONY_ROLE, calls(CITY)),
    Sample("llama3_json", LLAMA + ', "parameters": {}}', [*calls(CITY), TIME]),
    Sample(
        "llama3_json",
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo", "days": 2}}',
        calls(CITY),
    ),
    Sample("deepseek", DEEPSEEK_V3, [("text", "Sure."), *calls(CITY), TIME]),
    Sample("deepseek", DEEPSEEK_V31, [THOUGHT, *calls(CITY), TIME]),
    Sample("deepseek", DEEPSEEK_V32, calls(CITY)),
    Sample(
        "bare_json",
        '```json\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}\n```',
        calls(CITY),
    ),
    *(Sample(*each) for each in FAMILIES),
)
