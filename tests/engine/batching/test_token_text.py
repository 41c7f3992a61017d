"""The table of tokens gives what mlx-lm's detokenizers give, and keeps what they lose."""

import random
from typing import Any

import pytest
from mlx_lm.tokenizer_utils import (
    BPEStreamingDetokenizer,
    SPMStreamingDetokenizer,
    StreamingDetokenizer,
)

from mlxd.engine.batching.token_text import BYTES, TokenText
from mlxd.engine.parsing.detokenize import Detokenizer, Streamed

pytestmark = pytest.mark.mlx

PRINTED = {byte: character for character, byte in BYTES.items()}


class Vocabulary:
    """As much of a tokenizer as its detokenizer and the table ask for."""

    def __init__(self, tokens: list[str], kind: Any, added: tuple[str, ...] = ()) -> None:
        self.tokens = [*tokens, *added]
        self._added = {text: self.tokens.index(text) for text in added}
        self._kind = kind

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def detokenizer(self) -> StreamingDetokenizer:
        made: StreamingDetokenizer = self._kind(self)
        return made

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.tokens[each] for each in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return self._added


def written(detokenizer: Detokenizer, tokens: list[int]) -> str:
    return "".join(map(detokenizer.add, tokens)) + detokenizer.finish()


def byte_level(random_: random.Random) -> Vocabulary:
    """Random strings of bytes, as GPT-2 writes them; without the byte 0, which mlx-lm misreads."""
    strings = [bytes([byte]) for byte in range(1, 256)]
    strings += [random_.randbytes(random_.randint(2, 4)).replace(b"\0", b"x") for _ in range(300)]
    strings += [text.encode() for text in ("\u20ac", "\U0001f600", " word", "\u00e9t\u00e9")]
    return Vocabulary(
        ["".join(PRINTED[byte] for byte in raw) for raw in strings], BPEStreamingDetokenizer
    )


def sentence_pieces(random_: random.Random) -> Vocabulary:
    words = ["\u2581", "\u2581word", "x", "\u00e9t\u00e9", "\u2581\u2581", "\u20ac"]
    return Vocabulary([f"<0x{n:02X}>" for n in range(256)] + words, SPMStreamingDetokenizer)


@pytest.mark.parametrize("make", [byte_level, sentence_pieces])
def test_random_tokens_give_the_text_that_mlx_lm_makes_of_them(make: Any) -> None:
    random_ = random.Random(7)
    vocabulary = make(random_)
    table = TokenText(vocabulary)
    for _ in range(1500):
        tokens = [random_.randrange(len(vocabulary)) for _ in range(random_.randint(0, 12))]
        # mlx-lm drops every space in front, and reads the mark of a space in bytes alone too.
        if make is sentence_pieces and (tokens[:1] in ([256], [260]) or 0x96 in tokens):
            continue
        theirs = written(Streamed(vocabulary.detokenizer), tokens)
        assert written(table.detokenizer(), tokens) == theirs


def test_the_byte_zero_is_itself() -> None:
    assert written(TokenText(Vocabulary([PRINTED[0]], BPEStreamingDetokenizer)).detokenizer(), [0])


def test_an_added_token_is_written_as_it_stands_in_the_vocabulary() -> None:
    # Both would be read as bytes otherwise.
    vocabulary = Vocabulary(["x"], BPEStreamingDetokenizer, ("\u00e9", "<|\u0120|>"))
    assert written(TokenText(vocabulary).detokenizer(), [0, 1, 2]) == "x\u00e9<|\u0120|>"


def test_an_output_that_no_token_stands_for_has_no_text() -> None:
    table = TokenText(Vocabulary(["a"], BPEStreamingDetokenizer))
    assert written(table.detokenizer(), [0, 999, 0]) == "aa"
    assert table.logprob(999, -1.0, []).token == ""


def test_what_is_whole_of_a_token_comes_at_once() -> None:
    euro = "\u20ac".encode()
    parts = [b"a" + euro[:1], euro[1:2], euro[2:] + b"b"]
    tokens = ["".join(PRINTED[byte] for byte in part) for part in parts]
    detokenizer = TokenText(Vocabulary(tokens, BPEStreamingDetokenizer)).detokenizer()
    assert [detokenizer.add(token) for token in range(3)] == ["a", "", "\u20acb"]
