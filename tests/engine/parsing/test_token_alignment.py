"""Which tokens and logprobs belong to which stretch of an answer's text."""

from mlxd.engine.parsing.token_alignment import Attribution
from mlxd.events import TokenLogprob


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text, -1.0, text.encode())


def test_a_space_that_the_detokeniser_drops_moves_no_later_token() -> None:
    attribution = Attribution()
    hello, one, two = map(token, (" Hello", "a", "b"))
    attribution.add("Hello", 1, (hello,))
    attribution.add("ab", 2, (one, two))
    taken = [attribution.take(*stretch) for stretch in ((0, 5), (5, 6), (6, 7))]
    assert taken == [(1, (hello,)), (1, (one,)), (1, (two,))]
