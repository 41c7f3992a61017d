"""Answers that go on with a text keep the space that the text needs."""

from collections.abc import Callable
from typing import Any

import pytest
from mlx_lm.tokenizer_utils import (
    BPEStreamingDetokenizer,
    NaiveStreamingDetokenizer,
    SPMStreamingDetokenizer,
    TokenizerWrapper,
)

from mlxd.engine.batching.token_text import TokenText
from mlxd.engine.parsing.detokenize import Detokenizer, RowText, going_on
from tests.engine.prompt.support import tokenizer_for

pytestmark = pytest.mark.mlx

KINDS = (BPEStreamingDetokenizer, NaiveStreamingDetokenizer)
EURO = "\u20ac"


def written(detokenizer: Detokenizer, tokens: list[int]) -> str:
    text = RowText(detokenizer, ())
    pieces = [text.add(token, None).text for token in tokens]
    return "".join(pieces) + text.finish().text


def maker(kind: Any) -> Callable[[], Detokenizer]:
    """Makes detokenizers of the tests' tokenizer as mlxd does where mlx-lm has this `kind`."""
    return TokenText(TokenizerWrapper(tokenizer_for("tools")._tokenizer, kind)).detokenizer


def encoded(text: str) -> list[int]:
    tokens: list[int] = tokenizer_for("tools").encode(text, add_special_tokens=False)
    return tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [" Paris is", " ", "is", "\n\nHello", f" {EURO}", ""])
@pytest.mark.parametrize("begun", ["The capital of France is", "Hello,", f"1 {EURO}", "one\n"])
def test_an_answer_that_goes_on_is_read_exactly(kind: Any, answer: str, begun: str) -> None:
    detokenizer = going_on(maker(kind), encoded(begun))
    assert written(detokenizer, encoded(answer)) == answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_at_the_end_of_the_beginning_does_not_come_twice(kind: Any) -> None:
    detokenizer = going_on(maker(kind), encoded("a "))
    assert written(detokenizer, encoded("Hello")) == "Hello"


class Pieces:
    """As much of a tokenizer as a SentencePiece detokenizer asks for."""

    vocabulary = ("\u2581The", "\u2581end", "<0xE2>")

    def __init__(self) -> None:
        self.detokenizer = SPMStreamingDetokenizer(self)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.vocabulary[each] for each in ids]

    def get_added_vocab(self) -> dict[str, int]:
        return {}


def test_sentence_pieces_keep_their_space_too() -> None:
    make = TokenText(Pieces()).detokenizer
    assert written(make(), [1]) == "end"
    assert written(going_on(make, [0]), [1]) == " end"
    assert written(going_on(make, [2]), [1]) == "end"
