"""How a model's text is to be read, found out from its tokenizer and chat template."""

from collections.abc import Mapping
from typing import Any

from mlxd.engine.interface import Markup
from mlxd.engine.protocol import ModelSpec

HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
HARMONY_REASONING = (("<|channel|>analysis<|message|>", "<|end|>"),)
HARMONY_STRUCTURE = (
    *("<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>"),
    *("<|end|>", "<|return|>"),
)
NOTATIONS = (
    ("deepseek", "<\uff5ctool\u2581calls\u2581begin\uff5c>"),
    ("llama3_json", "<|python_tag|>"),
    ("llama3_json", '{"name": function name, "parameters":'),
    ("json_tools", "<tool_call>"),
)
"""Notations that mlx-lm has no parser for, or does not find, and what their templates hold."""


def read_markup(tokenizer: Any, spec: ModelSpec, *, describes_tools: bool) -> Markup:
    """Tags of thinking, notation of tool calls and control texts of a loaded tokenizer.

    `describes_tools` says that tools are described to the model in words, because its template
    has none; it is then asked to call them in the notation of those words.
    """
    harmony = all(text in tokenizer.get_vocab() for text in HARMONY)
    reasoning: tuple[tuple[str, str], ...] = HARMONY_REASONING if harmony else ()
    if spec.reasoning_tags is not None:
        reasoning = (spec.reasoning_tags,)
    elif not harmony and tokenizer.think_start and tokenizer.think_end:
        reasoning = ((tokenizer.think_start, tokenizer.think_end),)
    structural = HARMONY_STRUCTURE if harmony else tuple(tokenizer.structural_markers)
    found = "harmony" if harmony else _tool_format(tokenizer)
    if describes_tools and found != "pythonic":
        found = "json_tools"
    return Markup(reasoning, spec.tool_format or found, structural)


def _tool_format(tokenizer: Any) -> str | None:
    named = tokenizer.init_kwargs.get("tool_parser_type")
    if isinstance(named, str):
        return named
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        template = "\n".join(map(str, template.values()))
    text = template if isinstance(template, str) else ""
    return next((name for name, sign in NOTATIONS if sign in text), None)
