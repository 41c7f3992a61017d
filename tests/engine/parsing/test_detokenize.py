"""Stop strings and logprobs against a detokenizer whose tokens are the characters of a text."""

import itertools
import random

import pytest

from mlxd.engine.parsing.detokenize import (
    ByteDetokenizer,
    FinalText,
    RowText,
    StopStrings,
    TokenPiece,
)
from mlxd.events import TokenLogprob


class Characters(ByteDetokenizer):
    """Token n is the byte n of UTF-8 text; a character shows once its last byte is there."""

    def __init__(self) -> None:
        bytes_alone = {n: TokenPiece(chr(n) if n < 128 else None, bytes([n])) for n in range(256)}
        super().__init__(bytes_alone, trim=False)


def logprob(token: int) -> TokenLogprob:
    return TokenLogprob(f"<{token}>", -1.0, bytes([token]))


def play(text: str, stops: tuple[str, ...] = ()) -> list[FinalText]:
    row = RowText(Characters(), stops)
    pieces = []
    for byte in text.encode():
        pieces.append(row.add(byte, logprob(byte)))
        if pieces[-1].stop is not None:
            return pieces
    return [*pieces, row.finish()]


def text_of(pieces: list[FinalText]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("text", "stops", "expected", "stop"),
    [
        ("It is Paris", (" is",), "It", " is"),
        ("It is Paris", ("is",), "It ", "is"),
        ("The capital of France.", ("France",), "The capital of ", "France"),
        ("abcabd", ("abd",), "abc", "abd"),
        ("aaab", ("aab",), "a", "aab"),
        ("one two three", ("three", "two"), "one ", "two"),
        ("abcd", ("cd", "bcd"), "a", "bcd"),
        ("no stop here", ("xyz",), "no stop here", None),
        ("ends in a half st", ("stop",), "ends in a half st", None),
        ("naïve café", ("é",), "naïve caf", "é"),
        ("anything", ("",), "anything", None),
    ],
)
def test_stop_string_cuts_exactly_before_it(
    text: str, stops: tuple[str, ...], expected: str, stop: str | None
) -> None:
    pieces = play(text, stops)
    assert text_of(pieces) == expected
    assert pieces[-1].stop == stop


def test_cutting_the_text_anywhere_finds_the_same_stop() -> None:
    text, stops = "xababacaba", ("abac", "caba")
    for first, second in itertools.combinations(range(len(text) + 1), 2):
        matcher = StopStrings(stops)
        out, found = "", None
        for piece in (text[:first], text[first:second], text[second:]):
            final, found = matcher.feed(piece)
            out += final
            if found is not None:
                break
        assert (out, found) == ("xab", "abac")


def test_nothing_of_a_stop_string_is_ever_released_early() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(500):
        text = "".join(rng.choice("ab") for _ in range(30))
        stops = tuple("".join(rng.choice("ab") for _ in range(rng.randint(2, 6))) for _ in "12")
        places = sorted((text.find(stop), stop) for stop in stops if stop in text)
        released = text_of(play(text, stops))
        if not places:
            assert released == text, f"seed {seed}"
        else:
            assert text.startswith(released), f"seed {seed}"
            assert not any(stop in released for stop in stops), f"seed {seed}"


def test_characters_are_never_split() -> None:
    pieces = play("aé😀👩‍👩‍👧‍👦z")
    assert text_of(pieces) == "aé😀👩‍👩‍👧‍👦z"
    assert all("\ufffd" not in piece.text for piece in pieces)


def test_logprobs_come_with_the_text_their_token_completes() -> None:
    pieces = play("aé")
    assert [(piece.text, len(piece.logprobs)) for piece in pieces] == [
        ("a", 1),
        ("", 0),
        ("é", 2),
        ("", 0),
    ]


def test_logprobs_of_held_back_text_come_when_it_is_released() -> None:
    pieces = play("xst", ("stop",))
    assert [(piece.text, len(piece.logprobs)) for piece in pieces] == [
        ("x", 1),
        ("", 0),
        ("", 0),
        ("st", 2),
    ]


def test_logprobs_behind_a_stop_string_are_dropped() -> None:
    pieces = play("ab stop", (" stop",))
    assert sum(len(piece.logprobs) for piece in pieces) == 2
