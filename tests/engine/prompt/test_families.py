"""What is found out of a family's template: its calls, its thinking, and how to turn that off."""

import json
from dataclasses import replace
from functools import cache

import msgspec
import pytest

from mlxd.engine.interface import Markup
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.engine.prompt.builder import PromptBuilder
from mlxd.engine.prompt.markup_detection import (
    LOST,
    REPLACED,
    UNREADABLE,
    ModelFormat,
    read_format,
)
from mlxd.engine.protocol import ModelSpec
from mlxd.events import BlockEnd, Timings, Usage
from mlxd.messages import (
    GenerateRequest,
    Message,
    Reasoning,
    ReasoningOptions,
    Text,
    Tool,
    ToolCall,
)
from tests.engine.prompt.support import ask, call, result, say, tokenizer_for
from tests.family_templates import (
    ACTIONS,
    ANSWERED_ONLY,
    ASSIGNS,
    BESIDE_THINKING,
    CALLED,
    CALLS,
    DROPS_THINKING,
    INVENTED,
    KIMI_K2,
    THINKING,
    TOOLS_BESIDE_USER,
    TOOLS_IN_SYSTEM,
    family,
    thinking,
)
from tests.templates import TEMPLATES

pytestmark = pytest.mark.mlx

LAMP = Tool(
    "lamp",
    "Switches a lamp.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "room": {"type": "string"},
                "level": {"type": "number"},
                "plan": {"type": "object"},
            },
        }
    ),
)
ARGUMENTS = '{"room": "attic", "level": 7, "plan": {"steps": [1, "dim"]}}'
ROOM = 100_000


@cache
def found(template: str) -> ModelFormat:
    return read_format(tokenizer_for(template), ModelSpec("m", "m"))


def build(template: str, request: GenerateRequest, spec: ModelSpec | None = None) -> str:
    """The prompt of `request` as text."""
    tokenizer = tokenizer_for(template)
    builder = PromptBuilder(tokenizer, spec or ModelSpec("m", "m"), ROOM)
    return str(tokenizer.decode(builder.build(request).tokens))


def read(markup: Markup, text: str, *, opened: bool = False) -> list[Text | Reasoning | ToolCall]:
    request = ask(say("user", "x"), tools=(LAMP,))
    builder = BlockBuilder(markup, request, opens_reasoning=opened, mode="separate")
    events = builder.text(text, tokens=1)
    events += builder.finish("stop", stop_sequence=None, usage=Usage(), timings=Timings())
    return [event.part for event in events if isinstance(event, BlockEnd)]


def lamp(id_: str = "call_1", arguments: str = ARGUMENTS, name: str = "lamp") -> ToolCall:
    return call(name, arguments, id_)


def thought_turns() -> tuple[Message, ...]:
    """A call that the model thought about, and its result."""
    return say("assistant", Reasoning("It is dark."), lamp()), result("done")


HISTORY = (say("user", "x"), say("assistant", lamp()), result("done"))


@pytest.mark.parametrize("name", CALLS)
def test_a_familys_calls_are_found_by_what_its_template_writes(name: str) -> None:
    answer = found(CALLS[name]).answer
    assert (answer.tools, answer.tool_format, answer.problem) == ("template", name, "")


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_a_prompt_are_read_back_with_numbers_as_numbers(name: str) -> None:
    prompt = build(CALLS[name], ask(*HISTORY, tools=(LAMP,)))
    answer = prompt.split("assistant: ", 1)[1].split("<|endturn|>")[0]
    (part,) = read(found(CALLS[name]).markup, answer)
    assert isinstance(part, ToolCall)
    assert json.loads(part.arguments) == json.loads(ARGUMENTS)


def test_a_notation_nobody_reads_gives_way_to_words_on_both_sides() -> None:
    answer = found(INVENTED).answer
    assert (answer.tools, answer.tool_format, answer.problem) == ("words", "json_tools", UNREADABLE)
    prompt = build(INVENTED, ask(*HISTORY, tools=(LAMP,)))
    assert "((" not in prompt
    assert '<tool_call>\n{"name": "lamp", "arguments": {"room": "attic"' in prompt
    assert "# Tools" in prompt


@pytest.mark.parametrize("template", [*TEMPLATES, *CALLS.values(), INVENTED, ANSWERED_ONLY])
def test_no_template_of_the_tests_is_left_unread(template: str) -> None:
    assert found(template).answer.problem in ("", UNREADABLE)


def test_calls_that_are_shown_with_their_results_only_are_read_back() -> None:
    assert found(ANSWERED_ONLY).answer.tool_format == "nemotron"
    assert found(ANSWERED_ONLY).answer.problem == ""


def test_a_template_that_keeps_no_text_is_left_as_it_is() -> None:
    answer = found("{{ messages }}{{ tools }}[TOOL_CALLS]").answer
    assert (answer.tools, answer.tool_format, answer.problem) == ("template", "mistral", LOST)


def test_a_configured_notation_is_obeyed_and_a_problem_is_told() -> None:
    def configured(name: str) -> ModelFormat:
        spec = ModelSpec("m", "m", tool_format=name)
        return read_format(tokenizer_for(CALLS["cohere"]), spec)

    assert configured("cohere").answer.problem == ""
    wrong = configured("kimi_k2")
    assert wrong.markup.tool_format == "kimi_k2"
    assert "kimi_k2" in wrong.answer.problem


def test_a_form_without_an_answer_to_read_is_never_asked_for_but_read() -> None:
    model = found(ACTIONS)
    assert (model.answer.tools, model.answer.tool_format) == ("words", "json_tools")
    assert "Action:" not in build(ACTIONS, ask(*HISTORY, tools=(LAMP,)))
    text = f'Action:\n```json\n[{{"tool_name": "lamp", "parameters": {ARGUMENTS}}}]\n```'
    (part,) = read(model.markup, text)
    assert isinstance(part, ToolCall)


def thought_before_a_call(template: str) -> str:
    turns = (say("user", "x"), *thought_turns(), say("user", "Thanks."))
    prompt = build(template, ask(*turns, tools=(LAMP,)))
    return prompt.split("assistant: ", 1)[1].split("tool: ")[0]


def test_thinking_before_a_call_stands_in_the_text_where_it_has_no_place_of_its_own() -> None:
    answer = thought_before_a_call(BESIDE_THINKING)
    assert answer.startswith("<think>\nIt is dark.\n</think>\n\n<tool_call>")
    in_words = BESIDE_THINKING.replace(CALLED, "(({{ f.name }}))")
    prompt = build(in_words, ask(say("user", "x"), *thought_turns(), tools=(LAMP,)))
    assert "<think>\nIt is dark.\n</think>\n\n<tool_call>" in prompt
    # A template's own rule counts, and who has no tags thinks nothing.
    for template in (DROPS_THINKING, BESIDE_THINKING.replace("Think in <think></think>", "")):
        assert "dark" not in thought_before_a_call(template)


def test_thinking_without_a_call_is_dropped_as_before() -> None:
    turns = (say("user", "x"), say("assistant", Reasoning("It is dark."), "Hello"))
    prompt = build(BESIDE_THINKING, ask(*turns, say("user", "y"), tools=(LAMP,)))
    assert "Hello" in prompt
    assert "dark" not in prompt


def test_plain_turns_stand_in_for_a_template_that_takes_no_conversation() -> None:
    model = found(ASSIGNS)
    assert (model.answer.tools, model.answer.problem) == ("words", REPLACED)
    prompt = build(ASSIGNS, ask(*HISTORY, say("user", "y"), tools=(LAMP,)))
    assert prompt.endswith("<|im_start|>user\ny<|im_end|>\n<|im_start|>assistant\n")
    assert '<|im_start|>assistant\n<tool_call>\n{"name": "lamp"' in prompt


def test_words_tell_of_the_notation_that_is_configured() -> None:
    spec = ModelSpec("m", "m", tool_format="nemotron")
    prompt = build("chatml", ask(*HISTORY, tools=(LAMP,)), spec)
    assert '<TOOLCALL>[{"name": "function_name", "arguments": {' in prompt
    assert '<TOOLCALL>[{"name": "lamp", "arguments": {"room": "attic"' in prompt


def test_what_a_model_was_trained_to_write_is_read_beside_the_words() -> None:
    section = "<｜tool▁calls▁begin｜>"
    template = TEMPLATES["chatml"] + "{# " + section + " #}"
    markup = found(template).markup
    assert (markup.tool_format, markup.also_read) == ("json_tools", ("deepseek",))
    trained = (
        f"{section}<｜tool▁call▁begin｜>lamp<｜tool▁sep｜>{ARGUMENTS}"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )
    told = f'<tool_call>\n{{"name": "lamp", "arguments": {ARGUMENTS}}}\n</tool_call>'
    for text in (trained, told):
        (part,) = read(markup, text)
        assert isinstance(part, ToolCall)
        assert part.arguments == ARGUMENTS


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize("opened", [False, True])
def test_a_familys_thinking_is_told_from_its_answer(name: str, opened: bool) -> None:
    template = thinking(name, opened=opened)
    tokenizer = tokenizer_for(template)
    builder = PromptBuilder(tokenizer, ModelSpec("m", "m"), ROOM)
    opening, closing = THINKING[name]
    assert builder.markup.reasoning[0] == (opening, closing)
    prompt = builder.build(ask(say("user", "x")))
    assert prompt.opens_reasoning is opened
    begun = "" if opened else opening + "\n"
    for text in (
        f"{begun}short\nthought{closing}Done.",
        f"{begun}short\nthought{closing}\n\nDone.",
    ):
        thought, said = read(builder.markup, text, opened=opened)
        assert isinstance(thought, Reasoning)
        assert isinstance(said, Text)
        assert (thought.text.strip(), said.text) == ("short\nthought", "Done.")
    (cut,) = read(builder.markup, f"{begun}short\nthou", opened=opened)
    assert isinstance(cut, Reasoning)


def test_configured_tags_win_and_a_template_without_any_has_none() -> None:
    template = family()
    assert found(thinking("seed")).answer.reasoning_tags_from == "template"
    # The tiny model's vocabulary has the most common ones.
    assert found(template).answer.reasoning_tags_from == "vocabulary"
    spec = ModelSpec("m", "m", reasoning_tags=("<a>", "</a>"))
    own = read_format(tokenizer_for(thinking("seed")), spec)
    assert own.markup.reasoning == (("<a>", "</a>"),)
    assert own.answer.reasoning_tags_from == "configuration"


def test_calls_get_the_ids_that_a_template_writes_in_place_of_names() -> None:
    turns = (
        say("user", "x"),
        say("assistant", lamp("toolu_9"), lamp("toolu_9", "{}", "a.b:c")),
        result("one", "toolu_9"),
        result("two", "toolu_9"),
        say("user", "y"),
        say("assistant", lamp("functions.lamp:0")),
        result("three", "functions.lamp:0"),
    )
    prompt = build(KIMI_K2, ask(*turns, tools=(LAMP, Tool("a.b:c"))))
    begin, between = "<|tool_call_begin|>", "<|tool_call_argument_begin|>"
    for id_ in ("functions.lamp:0", "functions.a.b:c:1", "functions.lamp:2"):
        assert f"{begin}{id_}{between}" in prompt
    order = [
        prompt.index(f"## Return of {id_}\n{text}")
        for id_, text in (
            ("functions.lamp:0", "one"),
            ("functions.a.b:c:1", "two"),
            ("functions.lamp:2", "three"),
        )
    ]
    assert order == sorted(order)
    longer = build(KIMI_K2, ask(*turns, say("user", "z"), tools=(LAMP, Tool("a.b:c"))))
    assert longer.startswith(prompt)


def test_tools_get_the_system_turn_that_they_need() -> None:
    request = ask(say("user", "x"), tools=(LAMP,))
    assert "Switches a lamp." in build(TOOLS_IN_SYSTEM, request)
    assert "system" not in build(TOOLS_IN_SYSTEM, ask(say("user", "x")))
    led = build(TOOLS_IN_SYSTEM, ask(say("system", "Be kind."), say("user", "x"), tools=(LAMP,)))
    assert "Be kind." in led
    assert "Switches a lamp." in led


def test_tools_get_the_user_turn_that_they_need() -> None:
    alone = say("system", "Be kind.")
    assert "Switches a lamp." in build(TOOLS_BESIDE_USER, ask(alone, tools=(LAMP,)))
    assert "user" not in build(TOOLS_BESIDE_USER, ask(alone))


OFF = {
    "no_think": (
        "{% set e = reasoning_effort or 'no_think' %}{{ e }}"
        "{% if e not in ['no_think', 'low', 'high'] %}{{ raise_exception('effort') }}{% endif %}"
    ),
    "none": "{{ 'quiet' if reasoning_effort == \"none\" else 'loud' }}",
    "disabled": "{{ 'quiet' if thinking_mode == 'disabled' else 'loud' }}",
    "budget": "{{ 'quiet' if thinking_budget == 0 else 'loud' }}",
    "switch": "{{ 'quiet' if enable_thinking is defined and not enable_thinking else 'loud' }}",
    "command": (
        "{% for m in messages %}{% if '/no_think' in m.content %}quiet{% endif %}{% endfor %}"
    ),
}
QUIET = [
    {"reasoning": ReasoningOptions(effort="none")},
    {"reasoning": ReasoningOptions(enabled=False)},
    {"template_args": {"enable_thinking": False}},
]


@pytest.mark.parametrize("way", OFF)
@pytest.mark.parametrize("wish", QUIET, ids=["effort", "enabled", "argument"])
def test_no_thinking_is_said_in_the_templates_own_way(way: str, wish: dict[str, object]) -> None:
    template = family() + OFF[way]
    word = "no_think" if way == "no_think" else "quiet"
    assert build(template, ask(say("user", "x"), **wish)).endswith(word)
    configured = ModelSpec("m", "m", template_args={"enable_thinking": False})
    assert build(template, ask(say("user", "x")), configured).endswith(word)
    loud = ask(say("user", "x"), reasoning=ReasoningOptions(effort="high"))
    assert not build(template, loud).endswith(word)


def test_minimal_effort_is_the_lowest_one_and_none_where_there_are_no_grades() -> None:
    wish = {"reasoning": ReasoningOptions(effort="minimal")}
    assert build(family() + OFF["no_think"], ask(say("user", "x"), **wish)).endswith("low")
    assert build(family() + OFF["switch"], ask(say("user", "x"), **wish)).endswith("quiet")


UNMET: list[tuple[ReasoningOptions, tuple[str, ...]]] = [
    (ReasoningOptions(), ()),
    (ReasoningOptions(effort="none", enabled=False), ("reasoning.enabled", "reasoning.effort")),
    (ReasoningOptions(effort="high", enabled=True), ("reasoning.enabled", "reasoning.effort")),
    (ReasoningOptions(effort="minimal", budget=9), ("reasoning.effort", "reasoning.budget")),
]


@pytest.mark.parametrize(("wish", "unmet"), UNMET)
def test_wishes_about_thinking_that_nobody_knows_are_named(
    wish: ReasoningOptions, unmet: tuple[str, ...]
) -> None:
    asked = ask(say("user", "x"), reasoning=wish)

    def named(template: str, *, known: bool, closes: bool = True) -> tuple[str, ...]:
        format_ = found(template)
        if not known:
            markup = msgspec.structs.replace(format_.markup, reasoning=())
            format_ = replace(format_, markup=markup)
        tokenizer = tokenizer_for(template)
        builder = PromptBuilder(tokenizer, ModelSpec("m", "m"), ROOM, known=format_)
        return builder.unmet_wishes(asked, closes=closes)

    assert named(family(), known=False) == unmet
    # Thinking whose tags are known is closed by force, if tokens can be forced.
    graded = ("reasoning.effort",) if wish.effort == "high" else ()
    assert named(family(), known=True) == graded
    off = wish.enabled is False or wish.effort == "minimal"
    assert (named(family(), known=True, closes=False) == graded) == (not off)
    if wish.budget is None:
        assert named(family() + OFF["switch"], known=False) == graded


def test_a_thought_is_gone_on_with_also_where_no_tags_are_known() -> None:
    template = family()
    format_ = found(template)
    unknown = replace(format_, markup=msgspec.structs.replace(format_.markup, reasoning=()))
    request = ask(say("user", "x"), say("assistant", Reasoning("Two and")))
    tokenizer = tokenizer_for(template)
    prompt = PromptBuilder(tokenizer, ModelSpec("m", "m"), ROOM, known=unknown).build(request)
    assert tokenizer.decode(prompt.tokens).endswith("<think>\nTwo and")
    builder = BlockBuilder(
        unknown.markup, request, opens_reasoning=prompt.opens_reasoning, mode="separate"
    )
    events = builder.text(" two.</think>Four.", tokens=3)
    events += builder.finish("stop", stop_sequence=None, usage=Usage(), timings=Timings())
    parts = [event.part for event in events if isinstance(event, BlockEnd)]
    assert parts == [Reasoning(" two."), Text("Four.")]


EMPTY = ("<think>\n\n</think>\n\n", "<think></think>", "<think>\n</think>\n\nSo ")


@pytest.mark.parametrize("name", ["plain", "[THINK]", "seed"])
@pytest.mark.parametrize("begun", EMPTY)
@pytest.mark.parametrize("opened", [False, True])
def test_an_answer_goes_on_behind_empty_thinking(name: str, begun: str, opened: bool) -> None:
    template = thinking(name, opened=opened)
    opening, closing = THINKING[name]
    own = begun.replace("<think>", opening).replace("</think>", closing)
    for text in (begun, own):
        messages: tuple[Message, ...] = (say("user", "x"), say("assistant", text))
        prompt = build(template, ask(*messages))
        said = text.partition("/")[2].partition("\n\n")[2]
        assert prompt.endswith(f"{opening}\n\n{closing}\n\n{said}")
        assert prompt.count(opening) == 1
        request = ask(*messages)
        builder = PromptBuilder(tokenizer_for(template), ModelSpec("m", "m"), ROOM)
        assert not builder.build(request).opens_reasoning
