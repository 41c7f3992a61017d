"""Chat templates in the forms of families, written for these tests in as few words as can be.

`family` makes one of: what stands around a turn, how tools and calls are written, what a prompt
ends with. They are no copies: only the markup is what the families' models write.
"""

HEADS = "<|turn|>"
END = "<|endturn|>"


def family(
    *,
    call: str = "",
    before: str = "",
    between: str = "",
    after: str = "",
    tools: str = "{{ tools | tojson }}",
    opens: str = "",
    thought: str = "",
) -> str:
    """A template; `call` and the others are Jinja, in which `f` is a call's function.

    `opens` is what a prompt ends with, `thought` how thinking of the history is written.
    """
    return (
        "{% if tools %}" + tools + "{% endif %}"
        "{% for m in messages %}"
        + HEADS
        + "{{ m.role }}: "
        + ("{% if m.reasoning_content %}" + thought + "{% endif %}" if thought else "")
        + "{{ m.content or '' }}"
        "{% if m.tool_calls %}"
        + before
        + "{% for c in m.tool_calls %}{% set f = c.function %}"
        + call
        + "{% if not loop.last %}"
        + between
        + "{% endif %}{% endfor %}"
        + after
        + "{% endif %}"
        + END
        + "{% endfor %}{% if add_generation_prompt %}"
        + HEADS
        + "assistant: "
        + opens
        + "{% endif %}"
    )


NAMED = '{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}'
TAGS = (
    "{% for k, v in f.arguments.items() %}<parameter={{ k }}>\n"
    "{{ v if v is string else v | tojson }}\n</parameter>\n{% endfor %}"
)
CALLED = f"<tool_call>\n{NAMED}\n</tool_call>"
Z = "]<]minimax[>["
DSML = (
    '<｜DSML｜invoke name="{{ f.name }}">\n{% for k, v in f.arguments.items() %}'
    "<｜DSML｜parameter name=\"{{ k }}\" string=\"{{ 'true' if v is string else 'false' }}\">"
    "{{ v if v is string else v | tojson }}</｜DSML｜parameter>\n{% endfor %}</｜DSML｜invoke>\n"
)

CALLS = {
    "seed_oss": family(
        call="<seed:tool_call>\n<function={{ f.name }}>\n" + TAGS + "</function>\n</seed:tool_call>"
    ),
    "cohere": family(
        before="<|START_ACTION|>[",
        call='\n{"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ f.name }}", '
        '"parameters": {{ f.arguments | tojson }}}',
        between=",",
        after="\n]<|END_ACTION|>",
    ),
    "deepseek_v32": family(
        before="<｜DSML｜function_calls>\n", call=DSML, after="</｜DSML｜function_calls>"
    ),
    "deepseek_v4": family(
        before="<｜DSML｜tool_calls>\n", call=DSML, after="</｜DSML｜tool_calls>"
    ),
    "nemotron": family(before="<TOOLCALL>[", call=NAMED, between=", ", after="]</TOOLCALL>"),
    "hunyuan": family(before="<tool_calls>[", call=NAMED, between=", ", after="]</tool_calls>"),
    "minimax_m1": family(
        before="<tool_calls>\n", call=NAMED, between="\n", after="\n</tool_calls>"
    ),
    "minimax_m3": family(
        before=Z + "<tool_call>\n",
        call=Z
        + '<invoke name="{{ f.name }}">{% for k, v in f.arguments.items() %}'
        + Z
        + "<{{ k }}>{{ v if v is string else v | tojson }}"
        + Z
        + "</{{ k }}>{% endfor %}"
        + Z
        + "</invoke>\n",
        after=Z + "</tool_call>",
    ),
    "phi4": family(before="functools[", call=NAMED, between=", ", after="]"),
    "granite": family(before="<|tool_call|>[", call=NAMED, between=", ", after="]"),
    "apertus": family(
        before="<|tools_prefix|>[",
        call='{"{{ f.name }}": {{ f.arguments | tojson }}}',
        between=", ",
        after="]<|tools_suffix|>",
    ),
    "gigachat": family(call="<|function_call|>" + NAMED),
    "hy_v3": family(
        before="<tool_calls:opensource>\n",
        call="<tool_call:opensource>{{ f.name }}<tool_sep:opensource>\n"
        "{% for k, v in f.arguments.items() %}<arg_key:opensource>{{ k }}</arg_key:opensource>\n"
        "<arg_value:opensource>{{ v if v is string else v | tojson }}</arg_value:opensource>\n"
        "{% endfor %}</tool_call:opensource>\n{# <tool_sep{}> #}",
        after="</tool_calls:opensource>",
    ),
    "solar": family(
        before="<|tool_calls|>",
        call="<|tool_call:begin|>{{ c.id }}<|tool_call:name|>{{ f.name }}<|tool_call:args|>"
        "{{ f.arguments | tojson }}<|tool_call:end|>",
        after="<|calls|>",
    ),
    "granite_20b": family(call="<function_call> " + NAMED, between="\n"),
    "internlm2": family(
        call='<|action_start|><|plugin|>{"name": "{{ f.name }}", "parameters": '
        "{{ f.arguments | tojson }}}<|action_end|>",
    ),
    "functionary_v3": family(
        call=">>>{{ f.name }}\n{{ f.arguments | tojson }}",
        tools=">>>${recipient}\n{{ tools | tojson }}",
        opens=">>>",
    ),
}
"""Templates that write calls, by the notation that reads them."""

INVENTED = family(
    before="((", call="call {{ f.name }} with {{ f.arguments | tojson }}", between=" & ", after="))"
)
"""A notation that nobody reads."""
ANSWERED_ONLY = CALLS["nemotron"].replace(
    "{% if m.tool_calls %}", "{% if m.tool_calls and not loop.last %}"
)
"""Shows calls only with their results behind them."""

THINKING = {
    "[THINK]": ("[THINK]", "[/THINK]"),
    "seed": ("<seed:think>", "</seed:think>"),
    "cohere": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "plain": ("<think>", "</think>"),
    "m3": ("<mm:think>", "</mm:think>"),
    "hy3": ("<think:opensource>", "</think:opensource>"),
    "apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "apriel": ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    "granite 3.2": ("Here is my thought process:", "Here is my response:"),
    "channel": ("<|channel>thought", "<channel|>"),
}
"""Pairs of tags by family."""


def thinking(name: str, *, opened: bool = False) -> str:
    """A template whose history has thinking in the family's tags, and whose prompt may open it."""
    opening, closing = THINKING[name]
    written = opening + "\n{{ m.reasoning_content }}\n" + closing
    return family(thought=written, opens=opening + "\n" if opened else "")


ACTIONS = family(
    before="Action:\n```json\n[",
    call='{"tool_name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}',
    between=",\n",
    after="\n]```\n",
    tools="{{ tools | tojson }} Use the `directly-answer` tool if no other is needed.",
)
"""Command R+'s form, in which an answer to read would need another prompt."""
BESIDE_THINKING = family(call=CALLED, tools="{{ tools | tojson }} Think in <think></think> first.")
"""Its model thinks, and it has no place for thinking of the history."""
DROPS_THINKING = BESIDE_THINKING.replace(
    "{{ m.content or '' }}", "{{ (m.content or '').split('</think>') | last }}"
)
"""The same, but its own rule is that thinking is dropped."""
ASSIGNS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% set m.seen = true %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
"""Sets a member of a message, which only other engines for templates allow."""

KIMI_K2 = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}## Return of {{ m.tool_call_id }}\n{% endif %}{{ m.content or '' }}"
    "{% if m.tool_calls %}<|tool_calls_section_begin|>{% for c in m.tool_calls %}"
    "<|tool_call_begin|>{{ c['id'] }}<|tool_call_argument_begin|>"
    "{% set a = c.function.arguments %}{{ a if a is string else a | tojson }}"
    "<|tool_call_end|>{% endfor %}<|tool_calls_section_end|>{% endif %}<|endturn|>{% endfor %}"
)
"""Never writes a call's name, only its id."""
TOOLS_IN_SYSTEM = (
    "{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content or '' }}"
    "{% if m.role == 'system' and tools %}{{ tools | tojson }}{% endif %}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<TOOLCALL>["
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "]</TOOLCALL>{% endfor %}{% endif %}<|endturn|>{% endfor %}"
)
"""Writes tools only beside the system's text."""
TOOLS_BESIDE_USER = TOOLS_IN_SYSTEM.replace("'system'", "'user'")
