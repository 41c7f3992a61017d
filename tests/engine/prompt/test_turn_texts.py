"""Nothing that an answer said is lost where the template has a place for it, wherever that is."""

import pytest

from mlxd.messages import Reasoning, Tool
from tests.engine.prompt.support import call, rendered, result, say

pytestmark = pytest.mark.mlx

TOOL = Tool("lookup", "Looks things up.", '{"type": "object", "properties": {"key": {}}}')
TALK = (
    say("user", "question"),
    say("assistant", Reasoning("thought"), "spoken", call()),
    result("found"),
)


def template(turn: str) -> str:
    """A template that shows tools, results and calls, and of an answer what `turn` shows."""
    return (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
        "<|im_start|>{{ m.role }}\n"
        "{% if m.role != 'assistant' %}{{ m.content }}{% else %}"
        + turn
        + "{% for c in m.tool_calls or [] %}<tool_call>\n"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n'
        "</tool_call>{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


SILENT = "{% if not m.tool_calls %}{{ m.content }}{% endif %}"


def test_text_that_a_turn_with_calls_does_not_show_is_a_turn_before_it() -> None:
    text = rendered(template(SILENT), *TALK, tools=(TOOL,))
    assert text.index("spoken") < text.index("<tool_call>") < text.index("found")
    assert text.count("spoken") == 1


def test_text_stays_beside_calls_where_it_is_shown() -> None:
    text = rendered(template("{{ m.content }}"), *TALK, tools=(TOOL,))
    assert "assistant\nspoken<tool_call>" in text


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thinking_stands_under_the_key_that_the_template_reads(key: str) -> None:
    source = template("<think>{{ m." + key + " }}</think>{{ m.content }}")
    text = rendered(source, *TALK, tools=(TOOL,))
    assert "<think>thought</think>spoken<tool_call>" in text


def test_thinking_is_a_part_of_its_own_where_the_template_reads_parts() -> None:
    parts = (
        "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content or [] %}"
        "{% if p.type == 'thinking' %}<think>{{ p.thinking }}</think>{% else %}{{ p.text }}"
        "{% endif %}{% endfor %}{% endif %}"
    )
    text = rendered(template(parts), *TALK, tools=(TOOL,))
    assert "<think>thought</think>spoken<tool_call>" in text


def test_a_template_gets_tools_under_the_name_that_it_asks_for() -> None:
    source = "{{ 'Functions: ' + functions + '\n' }}" + template("{{ m.content }}")
    text = rendered(source, say("user", "question"), tools=(TOOL,))
    assert text.startswith("Functions: [{")
    assert rendered(source, say("user", "question")).startswith("Functions: []")
