"""How a model's text is to be read, found out from its tokenizer and chat template."""

from typing import Any

from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import DESCRIBED, NOTATIONS, notation_named
from mlxd.engine.prompt.chat_template import source_of
from mlxd.engine.protocol import ModelSpec


def read_markup(tokenizer: Any, spec: ModelSpec, *, describes_tools: bool) -> Markup:
    """Tags of thinking, notation of tool calls and control texts of a loaded tokenizer.

    `describes_tools` says that tools are described to the model in words, because its template
    has none; it is then asked to call them in the notation of those words.
    """
    reasoning: tuple[tuple[str, str], ...] = ()
    structural = tuple(tokenizer.structural_markers)
    if tokenizer.think_start and tokenizer.think_end:
        reasoning = ((tokenizer.think_start, tokenizer.think_end),)
    found = _notation_name(tokenizer)
    if (messages := notation_named(found).form.messages) is not None:
        reasoning, structural = (messages.thinking,), messages.structural
    if describes_tools and notation_named(found).spell is None:
        found = DESCRIBED.name
    if spec.reasoning_tags is not None:
        reasoning = (spec.reasoning_tags,)
    return Markup(reasoning, spec.tool_format or found, structural)


def _notation_name(tokenizer: Any) -> str | None:
    vocabulary = tokenizer.get_vocab()
    for notation in NOTATIONS.values():
        if notation.tokens and all(token in vocabulary for token in notation.tokens):
            return notation.name
    # Set by the model's author, or by mlx-lm, which may know more families than we do.
    named = tokenizer.init_kwargs.get("tool_parser_type")
    if isinstance(named, str):
        return named
    template = source_of(tokenizer.chat_template)
    for notation in NOTATIONS.values():
        if any(sign in template for sign in notation.signs):
            return notation.name
    return None
