"""Which special tokens are dropped from answers: those that no reader knows."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import NOTATIONS
from mlxd.engine.prompt.special_tokens import unknown_special_tokens
from tests.engine.notations.family_samples import FAMILIES
from tests.engine.notations.samples import SAMPLES, Sample

CONTROL = re.compile(r"<\|?/?[\w▁]+\|>|<｜[\w▁]+｜>|\[[A-Z_]+\]|<\|\"\|>|<escape>|<tool_call\|>")


def tokenizer(*special: str, plain: tuple[str, ...] = ()) -> Any:
    texts = [*((text, True) for text in special), *((text, False) for text in plain)]
    added = {
        number: SimpleNamespace(content=text, special=is_special)
        for number, (text, is_special) in enumerate(texts)
    }
    return SimpleNamespace(added_tokens_decoder=added)


def test_special_tokens_that_nothing_knows_are_dropped() -> None:
    markup = Markup((("<think>", "</think>"),), "json_tools", ("<|eom|>",))
    known = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<|eom|>")
    found = unknown_special_tokens(
        tokenizer(*known, "<|END|>", plain=("<extra>", "<|role|>")), markup
    )
    assert found == {5: "<|END|>", 7: "<|role|>"}


def test_a_token_that_is_a_part_of_markup_is_kept() -> None:
    markup = Markup((), "kimi_k3")
    assert unknown_special_tokens(tokenizer("<|open|>", "<|sep|>", "<|role|>"), markup) == {
        2: "<|role|>"
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.notation)
def test_no_token_of_a_notation_is_dropped(sample: Sample) -> None:
    given = sample.given
    markup = Markup(given.reasoning, given.tool_format, given.structural)
    special = CONTROL.findall(sample.text)
    assert unknown_special_tokens(tokenizer(*special), markup) == {}


@pytest.mark.parametrize(("notation", "text", "_"), FAMILIES)
def test_no_token_of_a_familys_calls_is_dropped(notation: str, text: str, _: object) -> None:
    special = CONTROL.findall(text)
    assert unknown_special_tokens(tokenizer(*special), Markup((), notation)) == {}


def test_every_notation_says_what_its_calls_begin_with() -> None:
    for notation in NOTATIONS.values():
        assert set(notation.starts) <= set(notation.texts)


def test_tokens_of_calls_that_a_model_may_fall_into_are_kept() -> None:
    sep, end = "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
    markup = Markup((), "json_tools", also_read=("deepseek", "kimi_k2"))
    given = tokenizer(sep, end, "<|tool_call_argument_begin|>", "<｜fim▁hole｜>")
    assert unknown_special_tokens(given, markup) == {3: "<｜fim▁hole｜>"}
