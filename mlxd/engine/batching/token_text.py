"""The text and bytes of single tokens, for logprobs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer

from mlxd.events import TokenLogprob, TopLogprob

FLOOR = -9999.0
"""Stands for the logarithm of zero, which JSON has no number for."""

_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + index): byte for index, byte in enumerate(_OTHERS)
}
"""GPT-2's reversible map between printable characters and bytes."""


class TokenText:
    """What each token of one tokenizer stands for."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.of = lru_cache(maxsize=65536)(self._of)

    def logprob(self, token: int, chosen: float, top: Sequence[tuple[int, float]]) -> TokenLogprob:
        """A token with its logprob `chosen`, and the most likely ones, each with its own."""
        text, raw = self.of(token)
        alternatives = tuple(
            TopLogprob(text, max(value, FLOOR), raw)
            for (text, raw), value in ((self.of(other), value) for other, value in top)
        )
        return TokenLogprob(text, max(chosen, FLOOR), raw, alternatives)

    def _of(self, token: int) -> tuple[str, bytes]:
        """A token's text and bytes; text that is part of a character shows as U+FFFD."""
        detokenizer = self._tokenizer.detokenizer
        if isinstance(detokenizer, BPEStreamingDetokenizer):
            text = detokenizer.tokenmap[token]
            mapped = all(character in BYTES for character in text)
            raw = bytes(BYTES[character] for character in text) if mapped else text.encode()
        elif isinstance(detokenizer, SPMStreamingDetokenizer):
            raw = detokenizer.tokenmap[token].replace("\u2581".encode(), b" ")
        else:
            # Here a token that is part of a character has lost its bytes.
            raw = self._tokenizer.decode([token]).encode()
        return raw.decode(errors="replace"), raw
