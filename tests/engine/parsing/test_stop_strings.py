"""Stop strings match what is seen of an answer: not thinking, not headers, not dropped tokens."""

import pytest

from mlxd.engine.interface import Markup
from mlxd.engine.parsing.detokenize import FinalText, RowText
from mlxd.events import TokenLogprob
from tests.engine.parsing.test_detokenize import Characters, logprob, text_of

THINK = Markup((("<think>", "</think>"),))
HARMONY = Markup((("<|channel|>analysis<|message|>", "<|end|>"),), "harmony")
FINAL = "<|start|>assistant<|channel|>final<|message|>"


def play(
    text: str, *stops: str, markup: Markup = THINK, opens_reasoning: bool = False
) -> list[FinalText]:
    row = RowText(Characters(), stops, markup=markup, opens_reasoning=opens_reasoning)
    pieces = []
    for byte in text.encode():
        pieces.append(row.add(byte, logprob(byte)))
        if pieces[-1].stop is not None:
            return pieces
    return [*pieces, row.finish()]


@pytest.mark.parametrize(
    ("text", "stop", "end"),
    [
        ("<think>V or V</think>One V two", "V", "<think>V or V</think>One "),
        ("<think>V</think>done", "V", None),
        ("<think>never closed V", "V", None),
        ("<think>a\n\nb</think>\n\nOne\n\ntwo", "\n\n", "<think>a\n\nb</think>\n\nOne"),
        ("<think>a</think>\n \n\nOne", "\n\n", None),
        ("<think>a\nObs: b</think>\nObs: c", "\nObs:", "<think>a\nObs: b</think>"),
        ("<think>```</think>So:\n```", "```", "<think>```</think>So:\n"),
        ("<think>ab</think>cd", "b</think>c", None),
        ("<think>ab</think>cd", "</think>", None),
        ("<think>a</think>b<think>c</think>bc", "bc", "<think>a</think>b<think>c</think>"),
        ("x <think>V</think>V", "V", "x <think>V</think>"),
        ("\n\nOne", "\n\n", ""),
        ('<tool_call>{"a": "V"}', "V", '<tool_call>{"a": "'),
        ("a < b <thin V", "V", "a < b <thin "),
    ],
)
def test_a_stop_string_matches_behind_the_thinking(text: str, stop: str, end: str | None) -> None:
    pieces = play(text, stop, "never there")
    assert text_of(pieces) == (text if end is None else end)
    assert pieces[-1].stop == (None if end is None else stop)


def test_thinking_that_the_prompt_opened_is_not_matched() -> None:
    pieces = play("V\n\n</think>\n\nOne\n\nV", "V", "\n\n", opens_reasoning=True)
    assert (text_of(pieces), pieces[-1].stop) == ("V\n\n</think>\n\nOne", "\n\n")


def test_messages_are_matched_by_their_channel_and_headers_are_not() -> None:
    thought = "<|channel|>analysis<|message|>final V<|end|>"
    pieces = play(f"{thought}{FINAL}It is final", "final", "V", markup=HARMONY)
    assert (text_of(pieces), pieces[-1].stop) == (f"{thought}{FINAL}It is ", "final")


def test_logprobs_go_with_the_text_that_is_let_out() -> None:
    text = "<think>V</think>ab V"
    for piece in play(text, "V"):
        assert len(piece.logprobs) == len(piece.text)
    assert sum(len(piece.logprobs) for piece in play(text, "V")) == len(text) - 1


DROPPED = {300: "<|START|>", 301: "<|END|>", 302: "<|role|>"}


def write(tokens: list[int | str], *stops: str) -> tuple[str, str | None, list[TokenLogprob]]:
    row = RowText(Characters(), stops, dropped=DROPPED)
    text = ""
    entries: list[TokenLogprob] = []
    for each in tokens:
        for token in [each] if isinstance(each, int) else each.encode():
            piece = row.add(token, logprob(token % 256))
            text, entries = text + piece.text, [*entries, *piece.logprobs]
            if piece.stop is not None:
                return text, piece.stop, entries
    rest = row.finish()
    return text + rest.text, rest.stop, [*entries, *rest.logprobs]


@pytest.mark.parametrize(
    "tokens",
    [
        [300, "Hello!", 301],
        ["Hel", 302, "lo!", 300, 301],
        [300, 300, "Hello", 302, "!"],
    ],
)
@pytest.mark.parametrize("stops", [(), ("|>",), ("START",), ("x<|role|>",), ("o<|END|>y", "|>z")])
def test_special_tokens_that_mean_nothing_are_dropped(
    tokens: list[int | str], stops: tuple[str, ...]
) -> None:
    text, stop, entries = write(tokens, *stops)
    assert (text, stop) == ("Hello!", None)
    assert [entry.bytes for entry in entries] == [bytes([each]) for each in b"Hello!"]


def test_a_stop_string_may_name_a_special_token() -> None:
    assert write([300, "Hello", 301, "more"], "<|END|>")[:2] == ("Hello", "<|END|>")
    assert write([300, "Hello\n", 301, "more"], "\n<|END|>m")[:2] == ("Hello", "\n<|END|>m")
    assert write(["a", 302, "b", 301], "<|role|>c", "<|END|>")[:2] == ("ab", "<|END|>")


def test_text_that_only_looks_like_a_special_token_is_kept() -> None:
    assert write(["Write <|END|> here", 301])[0] == "Write <|END|> here"
