"""What is said once is read again in the same tokens, where it comes back unchanged."""

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from mlxd.engine.prompt.splice import CHANGED, WRITTEN_OTHERWISE
from mlxd.messages import (
    GenerateRequest,
    OutputPart,
    Reasoning,
    Sampling,
    Source,
    Text,
    ToolCall,
)
from tests.engine.prompt.histories import (
    BELL,
    CALL,
    RING,
    SHAPES,
    SPELLINGS,
    THOUGHT,
    WORDS,
    History,
    edited,
    first_turn,
    next_turn,
)
from tests.engine.prompt.support import say
from tests.family_templates import CALLS, thinking
from tests.templates import TEMPLATES

pytestmark = pytest.mark.mlx

ALL = {
    **TEMPLATES,
    **CALLS,
    "thinking": thinking("plain"),
    "opened thinking": thinking("[THINK]", opened=True),
}


@cache
def history(template: str) -> History:
    """One for all tests of a template; each asks something else."""
    return History(ALL[template])


def kept(template: str, parts: Sequence[OutputPart], text: str) -> bool:
    """Whether a template writes all of an answer, in one piece behind what came before it."""
    # It writes the tools behind the last turn, so that nothing stays where it was.
    if template == "arguments as text":
        return False
    # It takes one call a turn, and writes it into the line of a text, where none is read.
    if template == "system first" and len(parts) > 1:
        return False
    return all(part.text in text for part in parts if isinstance(part, Text | Reasoning))


@pytest.mark.parametrize("template", ALL)
def test_the_next_turn_begins_with_the_very_tokens_of_the_turn_before(template: str) -> None:
    talk = history(template)
    for shape, parts in SHAPES.items():
        if isinstance(parts[0], Reasoning) and not talk.markup.reasoning:
            continue
        if template == "functionary_v3" and any(isinstance(part, Text) for part in parts):
            # Its head of a text is part of what is read, so such an answer counts as changed.
            continue
        for spelling in SPELLINGS:
            asked = first_turn(say("user", f"Hello, {shape} {spelling}?"))
            before = talk.build(asked)
            answer = talk.tokens_of(parts, spelling, opened=before.opens_reasoning)
            said = talk.said(before, answer)
            request = next_turn(asked, parts)
            after, plain = talk.build(request), talk.forgetful(request)
            text = talk.text(plain)
            if not kept(template, parts, text):
                assert (after.tokens, after.note) == (plain, WRITTEN_OTHERWISE)
                continue
            known = [*before.tokens, *said[:-1]]
            assert (after.tokens[: len(known)], after.note) == (known, None)
            assert text.endswith(talk.text(after.tokens[len(known) :]))
            assert len(known) in after.boundaries


def asked_and_said(
    talk: History, parts: Sequence[OutputPart], question: str = "Hello?"
) -> GenerateRequest:
    """A first turn that was answered so."""
    asked = first_turn(say("user", question))
    before = talk.build(asked)
    talk.said(before, talk.tokens_of(parts, "pretty", opened=before.opens_reasoning))
    return asked


EDITS: dict[str, tuple[Sequence[OutputPart], Sequence[OutputPart]]] = {
    "edited text": ((WORDS,), (Text(WORDS.text + "!"),)),
    "a line in the text": ((WORDS,), (Text(WORDS.text.replace(" is", "\nis")),)),
    "a changed argument": ((CALL,), (ToolCall("a", "lamp", CALL.arguments.replace("7", "8")),)),
    "1.0 for 1": ((CALL,), (ToolCall("a", "lamp", CALL.arguments.replace("[1,", "[1.0,")),)),
    "true for 1": ((CALL,), (ToolCall("a", "lamp", CALL.arguments.replace("[1,", "[true,")),)),
    "one argument less": ((RING,), (ToolCall("a", "bell", "{}"),)),
    "swapped calls": ((CALL, RING), (RING, CALL)),
    "a call less": ((CALL, RING), (CALL,)),
    "a call more": ((CALL,), (CALL, RING)),
    "another tool": ((RING,), (ToolCall("a", "lamp", RING.arguments),)),
    "text left out": ((WORDS, CALL), (CALL,)),
    "text behind its call": ((WORDS, CALL), (CALL, WORDS)),
    "text added": ((CALL,), (WORDS, CALL)),
    "thinking left out": ((THOUGHT, CALL), (CALL,)),
    "thinking added": ((CALL,), (THOUGHT, CALL)),
    "thinking changed": ((THOUGHT, CALL), (Reasoning(THOUGHT.text + " "), CALL)),
    "thinking as text": ((THOUGHT, CALL), (Text(THOUGHT.text), CALL)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_answer_that_came_back_changed_is_read_as_it_came(edit: str) -> None:
    said, sent = EDITS[edit]
    talk = History(TEMPLATES["tools"])
    request = next_turn(asked_and_said(talk, said), sent)
    prompt = talk.build(request)
    assert prompt.tokens == talk.forgetful(request)
    assert prompt.note == CHANGED
    # Nor is it gone on from in a later turn, whose own answer is what was said.
    known = next_turn(asked_and_said(talk, said), said)
    before = talk.build(known)
    assert before.note is None
    talk.said(before, talk.tokens_of((WORDS,)))
    later = next_turn(request, (WORDS,))
    assert talk.build(later).tokens == talk.forgetful(later)


@pytest.mark.parametrize(
    "more",
    [
        {"source": Source(key="other")},
        {"tools": (BELL,)},
        {"sampling": Sampling(seed=1)},
        {"template_args": {"enable_thinking": False}},
    ],
    ids=["another key", "changed tools", "a seed", "another argument"],
)
def test_nothing_is_remembered_for_other_keys_tools_and_seeds(more: dict[str, Any]) -> None:
    talk = History(TEMPLATES["open think"])
    request = next_turn(asked_and_said(talk, (CALL,)), (CALL,), **more)
    assert talk.build(request).tokens == talk.forgetful(request)
    known = next_turn(asked_and_said(talk, (CALL,)), (CALL,))
    assert talk.build(known).tokens != talk.forgetful(known)


def edits_of(template: str, times: int, seed: int) -> None:
    talk, rng = history(template), random.Random(seed)
    for number in range(times):
        said = rng.choice([each for each in SHAPES.values() if type(each[0]) is not Reasoning])
        sent = edited(said, rng)
        asked = asked_and_said(talk, said, f"Edit {number}?")
        request = next_turn(asked, sent)
        assert talk.build(request).tokens == talk.forgetful(request), (said, sent)
        # Nor does a later turn go on from what the first one was.
        known = next_turn(asked, said)
        before = talk.build(known)
        talk.said(before, talk.tokens_of((WORDS,), opened=before.opens_reasoning))
        changed = next_turn(next_turn(asked, sent), (WORDS,))
        assert talk.build(changed).tokens == talk.forgetful(changed), (said, sent)


@pytest.mark.parametrize("template", ["tools", "seed_oss", "cohere"])
def test_no_random_edit_is_taken_for_what_was_said(template: str) -> None:
    edits_of(template, 25, seed=4)
