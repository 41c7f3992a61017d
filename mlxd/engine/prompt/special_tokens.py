"""Special tokens that a model may write and that mean nothing to whoever reads its answers."""

import re
from typing import Any

from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import notation_named, read_as

_CONTROL = re.compile(r"<[|｜][^|｜<>\s]+[|｜]>")
"""What a control token looks like: not all vocabularies mark theirs as special."""


def call_tokens(tokenizer: Any, markup: Markup) -> frozenset[int]:
    """The tokens that begin nothing but calls; none where calls begin with ordinary text."""
    vocabulary = tokenizer.get_vocab()
    starts = read_as(markup.tool_format, markup.also_read).starts
    return frozenset(vocabulary[start] for start in starts if start in vocabulary)


def unknown_special_tokens(tokenizer: Any, markup: Markup) -> dict[int, str]:
    """The special tokens that are no part of how answers are read, with their texts."""
    known = "\n".join(
        (
            *(tag for pair in markup.reasoning for tag in pair),
            *markup.structural,
            *notation_named(markup.tool_format).texts,
            *(text for name in markup.also_read for text in notation_named(name).texts),
        )
    )
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {
        number: token.content
        for number, token in added.items()
        if (token.special or _CONTROL.fullmatch(token.content)) and token.content not in known
    }
