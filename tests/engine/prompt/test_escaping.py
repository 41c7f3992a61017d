"""Control texts as characters, also where a tokenizer treats the beginning of a text specially."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from mlxd.engine.prompt.escaping import PlainEncoder, control_tokens
from mlxd.errors import ContextTooLong

pytestmark = pytest.mark.mlx

SPECIAL = ("<s>", "</s>", "<<s>", "<|a|>", "<|a|>b", "\u00a7")
TEXTS = (
    "plain words",
    "<|a|>",
    "x</s>y",
    "</s></s> z </s>",
    "<<s>",
    "<|a|>b<|a|>c",
    "a\u00a7b",
    "\U000f0000 and \U000f0001<s>",
    " <s> \n<|a|>\n",
    "half <|a and |a|> apart",
)


def tokenizer_with(prefix: str) -> Any:
    """A tokenizer of single characters that marks the beginning of words as SentencePiece does."""
    chars = sorted({*"".join(TEXTS), *"\n \u2581<>|/sabcdefghijklmnopqrstuvwxyz[]"} - {"\u00a7"})
    tokenizer = Tokenizer(BPE({char: n for n, char in enumerate(chars)}, [], unk_token="a"))
    if prefix == "normalizer":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
    elif prefix != "none":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("prefix", ["none", "first", "always", "normalizer"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_callers_text_is_written_out_between_real_control_tokens(prefix: str, text: str) -> None:
    tokenizer = tokenizer_with(prefix)
    controls = control_tokens(tokenizer, "<s>")
    assert controls == set(SPECIAL)
    encoder = PlainEncoder(tokenizer, controls)
    escaper = encoder.escaper()
    ids, _ = encoder.encode(f"<s>[{escaper.text(text)}]</s>", (), escaper.restore())
    special = set(tokenizer.convert_tokens_to_ids(list(SPECIAL)))
    assert [id_ for id_ in ids if id_ in special] == tokenizer.convert_tokens_to_ids(
        ["<s>", "</s>"]
    )
    said = tokenizer.decode([id_ for id_ in ids if id_ not in special]).strip()
    assert said == f"[{text.replace(chr(0xA7), '')}]"


class Slow:
    """A tokenizer that knows no positions, as some that are written in Python."""

    def __init__(self, tokenizer: Any) -> None:
        self.encode = tokenizer.encode
        self.decode = tokenizer.decode
        self.convert_tokens_to_ids = tokenizer.convert_tokens_to_ids
        self.all_special_tokens = list(SPECIAL)


@pytest.mark.parametrize("slow", [False, True])
def test_marks_are_found_in_every_piece(slow: bool) -> None:
    tokenizer = tokenizer_with("always")
    if slow:
        tokenizer = Slow(tokenizer)
    encoder = PlainEncoder(tokenizer, control_tokens(tokenizer, "<s>"))
    escaper = encoder.escaper()
    text = f"<s>one {escaper.text('</s>')} two<s>three"
    marks = tuple(range(len(text) + 1))
    ids, cuts = encoder.encode(text, marks, escaper.restore())
    assert cuts == sorted(cuts)
    assert (cuts[0], cuts[-1]) == (0, len(ids))
    three = ids[cuts[text.index("three")] :]
    assert tokenizer.decode(three).strip() == "three"


def test_many_control_texts_are_given_up_on_at_the_limit() -> None:
    tokenizer = tokenizer_with("none")
    encoder = PlainEncoder(tokenizer, control_tokens(tokenizer, "<s>"))
    escaper = encoder.escaper()
    text = escaper.text("</s>x" * 10_000)
    with pytest.raises(ContextTooLong) as refusal:
        encoder.encode(text, (), escaper.restore(), limit=100)
    assert refusal.value.prompt_tokens == pytest.approx(50_000, rel=0.1)


def test_a_text_without_control_texts_is_left_as_it_is() -> None:
    tokenizer = tokenizer_with("first")
    escaper = PlainEncoder(tokenizer, control_tokens(tokenizer, "<s>")).escaper()
    assert escaper.text("a < b and <s and |> c") == "a < b and <s and |> c"
    assert not escaper.used


def test_other_threads_go_on_while_a_prompt_is_encoded() -> None:
    encoder = PlainEncoder(tokenizer_with("none"), ())
    text, steps, over = "abcdefgh" * 8_000, 0, threading.Event()

    def count() -> None:
        encoder.count(text)
        over.set()

    thread = threading.Thread(target=count)
    thread.start()
    # A wait that no encoding holds up comes back after a millisecond.
    while not over.wait(0.001):
        steps += 1
    thread.join()
    assert steps > 10


def test_added_tokens_of_white_space_are_never_control_tokens() -> None:
    # Many vocabularies have runs of white space as added tokens, and templates write them.
    added = {1: AddedToken("\n\n"), 2: AddedToken("  ", special=True), 3: AddedToken("<|x|>")}
    tokenizer = SimpleNamespace(added_tokens_decoder=added)
    assert control_tokens(tokenizer, "one\n\ntwo  <|x|>") == {"<|x|>"}
