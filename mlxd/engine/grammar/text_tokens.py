"""A model's tokenizer for grammars, with its tags of tool calls as text where values may hold them.

llguidance takes a token that looks like a tag for a control token, which no text in a grammar can
hold. Values that a notation writes as they are may hold its tags, so these must be text.
"""

from collections.abc import Collection, Sequence
from typing import Any

from llguidance import LLTokenizer
from llguidance.hf import from_tokenizer

from mlxd.engine.notations.notation import Form


def tag_tokens(tokenizer: Any, form: Form) -> frozenset[int]:
    """The tokens that are tags of a form whose values may hold them."""
    if form.marks is None:
        return frozenset()
    texts = " ".join((*form.region, *form.call, *form.member))
    added: dict[str, int] = tokenizer.get_added_vocab()
    return frozenset(token for text, token in added.items() if text in texts)


def load_tokenizer(
    tokenizer: Any, size: int, ends: Sequence[int], *, texts: Collection[int]
) -> LLTokenizer:
    """The tokenizer with a vocabulary of `size`; the tokens `texts` are text."""
    loaded = from_tokenizer(tokenizer, n_vocab=size, eos_token=list(ends))
    if not texts:
        return loaded
    vocabulary: Any = _Vocabulary(loaded, tokenizer, texts)
    return LLTokenizer(vocabulary, n_vocab=size, eos_token=list(ends))


class _Vocabulary:
    """A vocabulary in the shape in which llguidance takes one from Python."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, loaded: LLTokenizer, tokenizer: Any, texts: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = loaded.eos_token
        self.tokens = [loaded.decode_bytes([token]) for token in range(loaded.vocab_size)]
        self.special_token_ids = [
            token
            for token in range(loaded.vocab_size)
            if loaded.is_special_token(token) and token not in texts
        ]

    def __call__(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return found
