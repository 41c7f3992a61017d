"""Answers of families that write calls in a region, a list or tags of their own."""

CITY = '{"city": "Oslo", "days": 2}'
NESTED = '{"city": "Oslo", "days": 2, "wind": 1.5, "area": {"a": [1, null]}}'

WEATHER = ("call", "get_weather", CITY)
TIME = ("call", "get_time", "{}")
NAMED = '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}'
NAMED_TIME = '{"name": "get_time", "arguments": {}}'
LIST = f"[{NAMED}, {NAMED_TIME}]"
SURE = ("text", "Sure.")
CALLED = [SURE, WEATHER, TIME]
Z = "]<]minimax[>["


def dsml(region: str) -> str:
    return (
        f'Sure.\n\n<｜DSML｜{region}>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Oslo</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n'
        '</｜DSML｜invoke>\n<｜DSML｜invoke name="get_time">\n</｜DSML｜invoke>\n'
        f"</｜DSML｜{region}>"
    )


SEED = (
    "Sure.\n<seed:tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>\n</seed:tool_call>"
    "<seed:tool_call>\n<function=get_time>\n</function>\n</seed:tool_call>"
)
COHERE = (
    'Sure.<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", '
    '"parameters": {"city": "Oslo", "days": 2}},\n    {"tool_call_id": "1", '
    '"tool_name": "get_time", "parameters": {}}\n]<|END_ACTION|>'
)
MINIMAX_M3 = (
    f'Sure.\n{Z}<tool_call>\n{Z}<invoke name="get_weather">{Z}<city>Oslo{Z}</city>'
    f"{Z}<days>2{Z}</days>{Z}<wind>1.5{Z}</wind>{Z}<area>{Z}<a>{Z}<item>1{Z}</item>"
    f"{Z}<item>null{Z}</item>{Z}</a>{Z}</area>{Z}</invoke>\n"
    f'{Z}<invoke name="get_time">{Z}</invoke>\n{Z}</tool_call>'
)
HY3 = (
    "Sure.<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n"
    "<arg_key:opensource>city</arg_key:opensource>\n"
    "<arg_value:opensource>Oslo</arg_value:opensource>\n"
    "<arg_key:opensource>days</arg_key:opensource>\n"
    "<arg_value:opensource>2</arg_value:opensource>\n</tool_call:opensource>\n"
    "<tool_call:opensource>get_time<tool_sep:opensource>\n</tool_call:opensource>\n"
    "</tool_calls:opensource>"
)
SOLAR = (
    f"Sure.<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>get_weather"
    f"<|tool_call:args|>{CITY}<|tool_call:end|><|tool_call:begin|>f6g7h8i9j0<|tool_call:name|>"
    "get_time<|tool_call:args|>{}<|tool_call:end|><|calls|>"
)
COHERE_LIST = (
    '[\n    {\n        "tool_name": "get_weather",\n        "parameters": '
    '{"city": "Oslo", "days": 2}\n    },\n    {"tool_name": "get_time", "parameters": {}}\n]'
)
PYTHON_LIST = '[get_weather(city="Oslo", days=2), get_time()]'
PYTHON_LINES = '[get_weather(city="Oslo", days=2)]\n[get_time()]'
OLMO = 'Sure.\n<function_calls>get_weather(city="Oslo", days=2)\nget_time()</function_calls>'

Text = tuple[str, str, list[tuple[str, ...]]]

FAMILIES: tuple[Text, ...] = (
    (
        "function_gemma",
        "<start_function_call>call:get_weather{city:<escape>Oslo<escape>,days:<escape>2<escape>}"
        "<end_function_call>",
        [WEATHER],
    ),
    ("deepseek", dsml("tool_calls"), [SURE, WEATHER, TIME]),
    ("deepseek_v32", dsml("function_calls"), [SURE, WEATHER, TIME]),
    ("deepseek_v4", dsml("tool_calls"), [SURE, WEATHER, TIME]),
    ("seed_oss", SEED, [SURE, WEATHER, TIME]),
    ("cohere", COHERE, [SURE, WEATHER, TIME]),
    ("granite", f"Sure.<|tool_call|>{LIST}", [SURE, WEATHER, TIME]),
    ("granite", f"<tool_call>{LIST}", [WEATHER, TIME]),
    ("nemotron", f"Sure.\n<TOOLCALL>{LIST}</TOOLCALL>", [SURE, WEATHER, TIME]),
    ("hunyuan", f"Sure.\n<tool_calls>{LIST}</tool_calls>", [SURE, WEATHER, TIME]),
    (
        "hunyuan",
        f'<tool_calls>[{NAMED[:-1]}, "id": "x"}}]</tool_calls>',
        [WEATHER],
    ),
    ("minimax_m1", f"<tool_calls>\n{NAMED}\n{NAMED_TIME}\n</tool_calls>", [WEATHER, TIME]),
    ("minimax_m3", MINIMAX_M3, [SURE, ("call", "get_weather", NESTED), TIME]),
    ("phi4", f"Sure.\nfunctools{LIST}", [SURE, WEATHER, TIME]),
    ("phi4", f"<|tool_call|>{LIST}<|/tool_call|>", [WEATHER, TIME]),
    ("bare_pythonic", PYTHON_LIST, [WEATHER, TIME]),
    ("bare_pythonic", PYTHON_LINES, [WEATHER, TIME]),
    ("bare_pythonic", f"<|python_start|>{PYTHON_LIST}<|python_end|>", [WEATHER, TIME]),
    ("olmo3", OLMO, [SURE, WEATHER, TIME]),
    (
        "apertus",
        'Sure.<|tools_prefix|>[{"get_weather": {"city": "Oslo", "days": 2}}, '
        '{"get_time": {}}]<|tools_suffix|>',
        [SURE, WEATHER, TIME],
    ),
    ("hy_v3", HY3, [SURE, WEATHER, TIME]),
    ("hy_v3", HY3.replace(":opensource", ""), [SURE, WEATHER, TIME]),
    ("solar", SOLAR, [SURE, WEATHER, TIME]),
    ("internlm2", f"Sure.<|action_start|><|plugin|>\n{NAMED}<|action_end|>", [SURE, WEATHER]),
    ("granite_20b", f"Sure.\n<function_call> {NAMED}\n<function_call> {NAMED_TIME}", CALLED),
    ("command_r_plus", f"Sure.\nAction:\n```json\n{COHERE_LIST}\n```", CALLED),
    ("functionary_v3", f"get_weather\n{CITY}>>>get_time\n{{}}", [WEATHER, TIME]),
    ("functionary_v3", f"all\nSure.>>>get_weather\n{CITY}", [SURE, WEATHER]),
    ("functionary_v3", f"get_weather\n{CITY}>>>all\nSure.", [WEATHER, SURE]),
    ("gigachat", f"Sure.<|function_call|>{NAMED}", [SURE, WEATHER]),
    ("gigachat", f"function call<|role_sep|>\n{NAMED}", [WEATHER]),
)
"""Notation, text, and its parts named as `reading.words` does."""
