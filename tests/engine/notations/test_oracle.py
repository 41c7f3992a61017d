"""Well-formed calls are read as mlx-lm's own parsers read them."""

import importlib
import json
import pkgutil
import random
from collections.abc import Callable
from typing import Any

import pytest
from mlx_lm import tool_parsers

from mlxd.engine.notations.table import NOTATIONS
from mlxd.messages import Tool
from tests.engine.texts import Given, read, request

pytestmark = pytest.mark.mlx

Arguments = dict[str, Any]
Calls = list[tuple[str, Arguments]]

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "note": {"type": "string"},
        "days": {"type": "integer"},
        "wind": {"type": "number"},
        "brief": {"type": "boolean"},
        "area": {"type": "object"},
        "hours": {"type": "array"},
    },
}
NAMES = ("get_weather", "get_time")
TOOLS = tuple(Tool(name=name, parameters=json.dumps(SCHEMA)) for name in NAMES)
DESCRIBED = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in NAMES
]
WORDS = ("Oslo", "Tromsø", "東京", "🙂", "a,b", "it's", '"so"', "x: y", "{z}", "[w]", "\\n", "p\nq")
FLAT = ("city", "note", "days", "wind", "brief")


def text_of(chance: random.Random, words: tuple[str, ...]) -> str:
    # A word stands first, since what looks like JSON is read as such without a schema.
    return "So " + " ".join(chance.choice(words) for _ in range(chance.randint(1, 4)))


def some_arguments(
    chance: random.Random, keys: tuple[str, ...], words: tuple[str, ...]
) -> Arguments:
    values: dict[str, Callable[[], Any]] = {
        "city": lambda: text_of(chance, words),
        "note": lambda: text_of(chance, words),
        "days": lambda: chance.randint(-9, 99),
        "wind": lambda: chance.randint(1, 99) + 0.5,
        "brief": lambda: chance.random() < 0.5,
        "area": lambda: {"a": [1, None], "b": text_of(chance, words)},
        "hours": lambda: [1, text_of(chance, words), {"c": True}],
    }
    chosen = chance.sample(keys, chance.randint(1, len(keys)))
    return {key: values[key]() for key in chosen}


def plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def gemma(value: object, quote: str) -> str:
    match value:
        case str():
            return f"{quote}{value}{quote}"
        case dict():
            return "{" + ",".join(f"{k}:{gemma(v, quote)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ",".join(gemma(each, quote) for each in value) + "]"
        case _:
            return json.dumps(value)


def in_tags(arguments: Arguments, form: str) -> str:
    return "".join(form.format(k=key, v=plain(value)) for key, value in arguments.items())


def in_types(arguments: Arguments) -> str:
    form = '<|open|>argument key="{}" type="{}"<|sep|>{}<|close|>argument<|sep|>'
    return "".join(
        form.format(key, "string" if isinstance(value, str) else "number", plain(value))
        for key, value in arguments.items()
    )


def write_json(calls: Calls) -> str:
    ((name, arguments),) = calls
    return "\n" + json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) + "\n"


def write_qwen(calls: Calls) -> str:
    ((name, arguments),) = calls
    values = in_tags(arguments, "<parameter={k}>\n{v}\n</parameter>\n")
    return f"\n<function={name}>\n{values}</function>"


def write_glm(calls: Calls, prefix: str = "") -> str:
    ((name, arguments),) = calls
    pair = "<{p}arg_key>{{k}}</{p}arg_key>\n<{p}arg_value>{{v}}</{p}arg_value>\n"
    return f"{name}\n" + in_tags(arguments, pair.format(p=prefix))


def write_gemma(calls: Calls, quote: str = '<|"|>') -> str:
    return "".join(f"call:{name}{gemma(arguments, quote)}" for name, arguments in calls)


def write_kimi(calls: Calls) -> str:
    return "".join(
        f"<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>"
        f"{json.dumps(arguments)}<|tool_call_end|>"
        for index, (name, arguments) in enumerate(calls)
    )


def write_xtml(calls: Calls) -> str:
    return "".join(
        f'<|open|>call tool="{name}" index="{index}"<|sep|>{in_types(arguments)}'
        "<|close|>call<|sep|>"
        for index, (name, arguments) in enumerate(calls, start=1)
    )


def write_invokes(calls: Calls, space: str = "") -> str:
    value = f'<{space}parameter name="{{k}}">{{v}}</{space}parameter>\n'
    return "\n" + "".join(
        f'<{space}invoke name="{name}">\n{in_tags(arguments, value)}</{space}invoke>\n'
        for name, arguments in calls
    )


def write_minicpm(calls: Calls) -> str:
    ((name, arguments),) = calls
    values = in_tags(arguments, '<param name="{k}"><![CDATA[{v}]]></param>')
    return f'"{name}">{values}'


def write_mistral(calls: Calls) -> str:
    if len(calls) == 1:
        return f"{calls[0][0]}[ARGS]{json.dumps(calls[0][1])}"
    return json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])


def write_python(calls: Calls) -> str:
    return (
        "["
        + ", ".join(
            f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
            for name, arguments in calls
        )
        + "]"
    )


ONE = {"json_tools", "qwen3_coder", "glm47", "laguna", "longcat", "function_gemma", "minicpm5"}
WRITERS: dict[str, Callable[[Calls], str]] = {
    "json_tools": write_json,
    "qwen3_coder": write_qwen,
    "glm47": write_glm,
    "laguna": write_glm,
    "longcat": lambda calls: write_glm(calls, "longcat_"),
    "gemma4": write_gemma,
    "function_gemma": lambda calls: write_gemma(calls, "<escape>"),
    "kimi_k2": write_kimi,
    "kimi_k3": write_xtml,
    "minimax_m2": write_invokes,
    "muse_spark": lambda calls: write_invokes(calls, "atem:"),
    "minicpm5": write_minicpm,
    "mistral": write_mistral,
    "pythonic": write_python,
}


def test_no_parser_of_mlx_lm_is_without_a_notation() -> None:
    theirs = {module.name for module in pkgutil.iter_modules(tool_parsers.__path__)}
    assert theirs == WRITERS.keys()
    assert theirs <= NOTATIONS.keys()


@pytest.mark.parametrize("notation", sorted(WRITERS))
def test_well_formed_calls_are_read_as_mlx_lm_reads_them(notation: str) -> None:
    theirs = importlib.import_module(f"mlx_lm.tool_parsers.{notation}")
    flat = notation == "function_gemma"
    # Its parser there ends a call at the first closing brace.
    words = tuple(word for word in WORDS if "}" not in word) if flat else WORDS
    keys = FLAT if flat else tuple(SCHEMA["properties"])
    for seed in range(100):
        chance = random.Random(f"{notation} {seed}")
        count = 1 if notation in ONE else chance.randint(1, 3)
        calls = [(chance.choice(NAMES), some_arguments(chance, keys, words)) for _ in range(count)]
        body = WRITERS[notation](calls)
        parsed = theirs.parse_tool_call(body, DESCRIBED)
        expected = parsed if isinstance(parsed, list) else [parsed]
        given = Given(notation, asked=request(TOOLS))
        answer = read(f"{theirs.tool_call_start}{body}{theirs.tool_call_end}", given)
        found = [(part.name, json.loads(part.arguments)) for part in answer.tool_calls]
        assert found == [(each["name"], each["arguments"]) for each in expected], seed
        assert found == calls, seed
        assert answer.finished.notes == (), seed
