"""The text and bytes of single tokens: a table a model."""

from collections.abc import Sequence
from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer

from mlxd.engine.parsing.detokenize import ByteDetokenizer, Detokenizer, Streamed, TokenPiece
from mlxd.events import TokenLogprob, TopLogprob

FLOOR = -9999.0
"""Stands for the logarithm of zero, which JSON has no number for."""

_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + index): byte for index, byte in enumerate(_OTHERS)
}
"""GPT-2's reversible map between printable characters and bytes."""


class TokenText(dict[int, TokenPiece]):
    """What each token of one tokenizer stands for, as far as it was needed."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._streaming = tokenizer.detokenizer
        self._added = set(tokenizer.get_added_vocab().values())

    def __missing__(self, token: int) -> TokenPiece:
        raw = self._bytes(token)
        try:
            piece = TokenPiece(raw.decode(), raw)
        except UnicodeDecodeError:
            piece = TokenPiece(None, raw)
        self[token] = piece
        return piece

    def detokenizer(self) -> Detokenizer:
        """A new one, for one row."""
        match self._streaming:
            case BPEStreamingDetokenizer():
                return ByteDetokenizer(self, trim=True)
            case SPMStreamingDetokenizer(trim_space=trim):
                return ByteDetokenizer(self, trim=trim)
            case _:
                return Streamed(self._tokenizer.detokenizer)

    def logprob(self, token: int, chosen: float, top: Sequence[tuple[int, float]]) -> TokenLogprob:
        """A token with its logprob `chosen`, and the most likely ones, each with its own."""
        text, raw = self._of(token)
        alternatives = tuple(
            TopLogprob(text, max(value, FLOOR), raw)
            for (text, raw), value in ((self._of(other), value) for other, value in top)
        )
        return TokenLogprob(text, max(chosen, FLOOR), raw, alternatives)

    def _of(self, token: int) -> tuple[str, bytes]:
        """A token's text and bytes; text that is part of a character shows as U+FFFD."""
        text, raw = self[token]
        return raw.decode(errors="replace") if text is None else text, raw

    def _bytes(self, token: int) -> bytes:
        if isinstance(self._streaming, BPEStreamingDetokenizer | SPMStreamingDetokenizer):
            # A model may have more outputs than its vocabulary has tokens.
            known = self._streaming.tokenmap[token : token + 1]
            return self._as_bytes(token, known[0]) if known and known[0] is not None else b""
        # Here a token that is part of a character has lost its bytes.
        return bytes(self._tokenizer.decode([token]).encode())

    def _as_bytes(self, token: int, mapped: Any) -> bytes:
        if isinstance(mapped, bytes):
            return mapped.replace("\u2581".encode(), b" ")
        # What was added to a vocabulary stands there as it is.
        if token in self._added or not all(character in BYTES for character in mapped):
            return bytes(mapped.encode())
        return bytes(BYTES[character] for character in mapped)
