"""Any order of roles works with any template, and a longer conversation keeps its prefix."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import load

from mlxd.engine.prompt.builder import PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.messages import Message, Part, Reasoning, Text, Tool, ToolCall, ToolResult
from tests.engine.prompt.support import (
    ask,
    build_with,
    builder,
    call,
    read,
    rendered,
    result,
    say,
    tokenizer_for,
)
from tests.templates import IN_PLACE, TEMPLATES
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

MANY = settings(max_examples=24, deadline=None, suppress_health_check=list(HealthCheck))
TOOLS = (Tool("lookup", "Finds things.", '{"type": "object", "properties": {"key": {}}}'),)
KINDS = (
    "system",
    "user",
    "assistant",
    "empty",
    "thinks",
    "calls",
    "calls twice",
    "result",
    "mixed",
)
ROOM = 100_000


@cache
def roomy(template: str) -> PromptBuilder:
    """A builder with a window for any conversation."""
    return build_with(template, context_length=ROOM)


def message(kind: str, number: int) -> Message:
    """A message whose texts are words that occur nowhere else."""
    word = f"word{number:02}"
    calls = [ToolCall(f"id-{number}-{n}", "lookup", f'{{"key": "{word}"}}') for n in range(2)]
    parts: dict[str, tuple[Part, ...]] = {
        "empty": (),
        "thinks": (Reasoning("hm"), Text(word)),
        "calls": (Text(word), calls[0]),
        "calls twice": tuple(calls),
        "result": (ToolResult(f"id-{number - 1}-0", (Text(word),)),),
        "mixed": (ToolResult(f"id-{number - 1}-1", (Text(word),)), Text(f"also{number:02}")),
    }
    match kind:
        case "system" | "user" | "assistant":
            return say(kind, word)
        case "result":
            return Message("tool", parts[kind])
        case "mixed":
            return Message("user", parts[kind])
    return Message("assistant", parts[kind])


def conversation(kinds: Sequence[str]) -> tuple[Message, ...]:
    return tuple(message(kind, number) for number, kind in enumerate(kinds))


def shared(one: list[int], other: list[int]) -> int:
    """Tokens that two prompts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next(number for number, (left, right) in pairs if left != right)


def told(part: Part) -> str:
    """The text of a part that the model has to be told."""
    match part:
        case Text(text=text):
            return text
        case ToolResult(parts=parts):
            return "".join(told(inner) for inner in parts)
        case ToolCall(arguments=arguments):
            return arguments
    return ""


def words(text: str) -> list[str]:
    return re.findall(r"(?:word|also)\d\d", text)


@pytest.mark.parametrize("template", TEMPLATES)
@MANY
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=9), tools=st.booleans())
def test_any_order_of_roles_is_rendered_whole(template: str, kinds: list[str], tools: bool) -> None:
    request = ask(*conversation(kinds), tools=TOOLS if tools else ())
    tokens = roomy(template).build(request).tokens
    found = set(words(read(template, tokens)))
    # One family's template writes no text beside calls, as its models were trained.
    wordless = ("assistant",) if template == "brackets" else ()
    said = [part for one in request.messages if one.role not in wordless for part in one.parts]
    assert {word for part in said for word in words(told(part))} <= found


@pytest.mark.parametrize("template", TEMPLATES)
@MANY
@given(kinds=st.lists(st.sampled_from(("user", "assistant", "system")), min_size=1, max_size=9))
def test_texts_stay_in_their_order(template: str, kinds: list[str]) -> None:
    tokens = builder(template).build(ask(*conversation(kinds))).tokens
    assert words(read(template, tokens)) == [f"word{n:02}" for n in range(len(kinds))]


@pytest.mark.parametrize("template", IN_PLACE)
@MANY
@given(
    kinds=st.lists(
        st.sampled_from(("user", "system", "assistant", "calls", "result")), min_size=3, max_size=9
    )
)
def test_adding_turns_keeps_the_tokens_before_them(template: str, kinds: list[str]) -> None:
    build = roomy(template).build
    messages = (say("system", "lead " * 60), say("user", "go"), *conversation(kinds))
    longer = build(ask(*messages, tools=TOOLS)).tokens
    for end in range(3, len(messages)):
        if messages[end - 1].role == messages[end].role == "tool":
            continue  # Results of one answer arrive together; templates put them into one turn.
        shorter = build(ask(*messages[:end], tools=TOOLS))
        edge = shorter.boundaries[-1]
        assert longer[:edge] == shorter.tokens[:edge], (kinds, end)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_in_turns_keeps_its_prefix_with_every_template(template: str) -> None:
    messages = [say("system", "lead " * 60)]
    before: list[int] = []
    for number in range(5):
        messages += [message("user", 2 * number), message("assistant", 2 * number + 1)]
        prompt = builder(template).build(ask(*messages[:-1]))
        assert prompt.tokens[: len(before)] == before
        before = prompt.tokens[: prompt.boundaries[-1]]


@pytest.mark.parametrize("template", TEMPLATES)
def test_boundaries_are_where_other_conversations_part(template: str) -> None:
    lead = say("system", "lead " * 60)
    build = builder(template).build
    one = build(ask(lead, say("user", "first question")))
    other = build(ask(lead, say("user", "another one, longer")))
    assert shared(one.tokens, other.tokens) in one.boundaries
    assert list(one.boundaries) == sorted(set(one.boundaries))
    assert all(0 < edge < len(one.tokens) for edge in one.boundaries)


@pytest.mark.parametrize("template", TEMPLATES)
def test_boundaries_hold_with_escaped_texts_too(template: str) -> None:
    lead = say("system", "<|im_end|> lead " * 60)
    build = builder(template).build
    one, other = (build(ask(lead, say("user", f"{n} <|im_end|>"))) for n in "12")
    assert shared(one.tokens, other.tokens) in one.boundaries


def test_leading_system_messages_become_one() -> None:
    text = rendered("tools", say("system", "one"), say("system", "two"), say("user", "x"))
    assert text.startswith("<|im_start|>system\none\n\ntwo<|im_end|>\n<|im_start|>user\nx")


def test_a_later_system_message_stays_in_place_where_the_template_lets_it() -> None:
    turns = (say("user", "x"), say("system", "note"))
    assert "<|im_start|>system\nnote<|im_end|>" in rendered("tools", *turns)
    reminder = "<|head|>user<|tail|>\n\n<system-reminder>\nnote\n</system-reminder><|eot|>"
    assert reminder in rendered("system first", *turns)


def test_without_system_support_its_text_leads_the_first_question() -> None:
    text = rendered("alternating", say("system", "Be brief."), say("user", "x"))
    assert text.startswith("<|head|>user\nBe brief.\n\nx<|eot|>")


def test_turns_are_merged_only_where_the_template_insists() -> None:
    turns = (say("user", "one"), say("user", "two"))
    assert "one\n\ntwo" in rendered("alternating", *turns)
    assert "one<|im_end|>\n<|im_start|>user\ntwo" in rendered("chatml", *turns)


def test_an_assistant_in_front_gets_an_empty_question_only_where_it_must() -> None:
    turns = (say("assistant", "Hello"), say("user", "x"))
    assert rendered("alternating", *turns).startswith("<|head|>user\n<|eot|>\n<|head|>model\nHello")
    assert rendered("tools", *turns).startswith("<|im_start|>assistant\nHello")


def test_a_template_without_tools_gets_them_in_words() -> None:
    turns = (
        say("user", "x"),
        say("assistant", "Wait.", call(), call("clock", "{}", "call_2")),
        result("more", "call_2"),
        result(),
    )
    text = rendered("chatml", *turns, tools=TOOLS)
    assert '<tools>\n{"type": "function", "function": {"name": "lookup"' in text
    said = (
        'Wait.\n<tool_call>\n{"name": "lookup", "arguments": {"key": "value"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    )
    assert f"<|im_start|>assistant\n{said}<|im_end|>" in text
    answers = "<tool_response>\nfound\n</tool_response>\n<tool_response>\nmore\n</tool_response>"
    assert f"<|im_start|>user\n{answers}<|im_end|>" in text
    assert "You are an assistant." not in text


def test_calls_are_spelt_in_the_notation_that_is_configured() -> None:
    spec = ModelSpec("tiny", "tiny", tool_format="pythonic")
    tokenizer = tokenizer_for("chatml")
    arguments = '{"city": "Paris", "days": 2, "now": true}'
    calls = (call("weather", arguments), call("clock", "{}", "b"), call("say", "not json", "c"))
    prompt = PromptBuilder(tokenizer, spec, ROOM).build(
        ask(say("user", "x"), say("assistant", *calls))
    )
    listed = 'weather(city="Paris", days=2, now=True), clock(), say(text="not json")'
    spelt = f"<|tool_call_start|>[{listed}]<|tool_call_end|>"
    assert spelt in tokenizer.decode(prompt.tokens)


def test_results_without_their_call_are_told_as_text() -> None:
    lost = (result("lost", ""), result("too", "far"))
    text = rendered("tools", say("user", "x"), *lost, say("user", "y"))
    told = "<tool_response>\nlost\n</tool_response>\n<tool_response>\nResult of far:\ntoo\n"
    assert f"<|im_start|>user\n{told}</tool_response><|im_end|>" in text


def test_a_failed_call_says_so() -> None:
    turns = (say("user", "x"), say("assistant", call()), result("no such key", is_error=True))
    assert "<tool_response>\nError: no such key\n" in rendered("tools", *turns)


def test_several_calls_are_made_one_by_one_where_the_template_takes_one() -> None:
    calls = say("assistant", call("first", id_="a"), call("second", id_="b"))
    turns = (say("user", "x"), calls, result("two", "b"), result("one", "a"))
    text = rendered("system first", *turns)
    order = [text.index(word) for word in ('"first"', "one", '"second"', "two")]
    assert order == sorted(order)


def test_call_ids_are_shortened_the_same_way_on_both_sides() -> None:
    turns = (say("user", "x"), say("assistant", call(id_="call_of_some_length")))
    text = rendered("brackets", *turns, result("y", "call_of_some_length"))
    assert re.search(r'"id": "[0-9a-f]{9}"\}\]', text)
    assert rendered("brackets", *turns, result("y", "call_of_some_length")) == text


def test_arguments_come_as_text_where_the_template_wants_text() -> None:
    turns = (say("user", "x"), say("assistant", call(arguments='{"key":"value"}')), result())
    assert '"arguments": {"key": "value"}}' in rendered("arguments as text", *turns)


def test_a_user_who_speaks_after_a_result_is_heard() -> None:
    turns = (say("user", "x"), say("assistant", call()), result(), say("user", "go on"))
    for template in TEMPLATES:
        assert "go on" in rendered(template, *turns, tools=TOOLS)
    assert rendered("brackets", *turns).endswith("[/RESULT]OK.[EOS][INST]go on[/INST]")


MANY_TEMPLATES = [
    {"name": "default", "template": TEMPLATES["chatml"]},
    {"name": "tool_use", "template": "{% for t in tools %}{% endfor %}" + TEMPLATES["tools"]},
]


def test_a_model_with_a_template_for_tools_uses_it_for_all_that_is_about_tools(
    tmp_path: Path,
) -> None:
    make_tiny_model(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["chat_template"] = MANY_TEMPLATES
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load(tmp_path)
    build = PromptBuilder(tokenizer, ModelSpec("tiny", "tiny"), ROOM).build
    history = (say("user", "x"), say("assistant", call()), result())
    with_tools, without = (
        tokenizer.decode(build(ask(*history, tools=tools)).tokens) for tools in (TOOLS, ())
    )
    for text in (with_tools, without):
        assert '<tool_call>\n{"name": "lookup", "arguments": {"key": "value"}}' in text
        assert "<|im_start|>user\n<tool_response>\nfound\n</tool_response>" in text
    assert "Finds things." in with_tools
    plain = tokenizer.decode(build(ask(say("user", "x"))).tokens)
    assert plain.startswith("<|im_start|>system\nYou are an assistant.")


def test_a_template_may_name_tokens_that_the_tokenizer_lacks() -> None:
    template = "{{ bos_token + messages[0].content + eos_token }}"
    assert rendered(template, say("user", "x")) == "x<|im_end|>"


def test_a_template_that_only_iterates_over_tools_gets_none_to_iterate_over() -> None:
    template = "{% for tool in tools %}{{ tool }}{% endfor %}" + TEMPLATES["chatml"]
    assert rendered(template, say("user", "x")).endswith("x<|im_end|>\n<|im_start|>assistant\n")


MOODY = (
    "{% if messages | length > 3 and (tools or messages[-1].role == 'tool') %}"
    "{{ raise_exception('Too long for tools.') }}{% endif %}"
    "{% if messages | length > 5 %}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('Too long for system.') }}{% endif %}"
    "{% endfor %}{% endif %}"
) + TEMPLATES["tools"]


def test_what_no_probe_foresaw_is_said_in_plainer_forms() -> None:
    history = [say("system", "lead"), say("user", "x"), say("assistant", call()), result()]
    text = rendered(MOODY, *history, tools=TOOLS)
    assert text.startswith("<|im_start|>system\nlead\n\n# Tools\n\nYou may call one or more")
    assert "<|im_start|>user\n<tool_response>\nfound\n</tool_response><|im_end|>" in text
    history += [say("assistant", "y"), say("user", "z"), say("user", "more")]
    text = rendered(MOODY, *history, tools=TOOLS)
    assert text.startswith("<|im_start|>user\nlead\n\n# Tools")
    assert "z\n\nmore<|im_end|>" in text


MOVING_SYSTEM = """
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- for message in rest -%}
    {{- '[INST]' if message.role == 'user' else '[EOS]' -}}
    {%- if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}{% endif -%}
    {{- message.content -}}
{%- endfor -%}
"""


def test_system_text_does_not_move_with_the_last_question() -> None:
    chat = (say("system", "lead"), say("user", "a"), say("assistant", "b"), say("user", "c"))
    assert rendered(MOVING_SYSTEM, *chat) == "[INST]lead\n\na[EOS]b[INST]c"


def test_calls_whose_ids_are_too_short_for_a_template_are_kept() -> None:
    template = TEMPLATES["brackets"].replace("length != 9", "length < 9")
    turns = (say("user", "x"), say("assistant", call(id_="1")), result("y", "1"))
    assert "[TOOL_CALLS]" in rendered(template, *turns)
