"""What is remembered of answers, for how long, and for whom."""

from array import array

from mlxd.engine.prompt.answers import ALIKE, Answers, RememberedAnswer, scope_of

ALICE, BOB = scope_of("m", "alice"), scope_of("m", "bob")


def answer(before: bytes, *tokens: int) -> RememberedAnswer:
    return RememberedAnswer(before, array("I", tokens), 1)


def test_the_newest_answer_to_a_prompt_comes_first_and_each_once() -> None:
    answers = Answers()
    for token in range(ALIKE + 2):
        answers.add(ALICE, answer(b"p", 1, token))
    answers.add(ALICE, answer(b"p", 1, ALIKE))
    found = [each.tokens[-1] for each in answers.after(ALICE, b"p")]
    assert found == [ALIKE, ALIKE + 1, *range(ALIKE - 1, 1, -1)]


def test_another_scope_knows_nothing() -> None:
    answers = Answers()
    answers.add(ALICE, answer(b"p", 1, 2))
    assert answers.knows(ALICE)
    assert not answers.knows(BOB)
    assert not list(answers.after(BOB, b"p"))
    assert not list(answers.after(ALICE, b"q"))


def test_what_was_not_used_for_longest_goes_first() -> None:
    one = answer(b"0", *range(1000))
    answers = Answers(3 * one.nbytes)
    for name in (b"0", b"1", b"2"):
        answers.add(ALICE, one._replace(before=name))
    assert list(answers.after(ALICE, b"0"))
    answers.add(BOB, one._replace(before=b"3"))
    found = [list(answers.after(ALICE, name)) != [] for name in (b"0", b"1", b"2")]
    assert found == [True, False, True]
    answers.add(ALICE, answer(b"4", *range(4000)))
    assert not answers.knows(ALICE)
    assert not answers.knows(BOB)


def test_a_models_answers_are_forgotten_with_it() -> None:
    answers = Answers()
    other = scope_of("m2", "alice")
    for scope in (ALICE, BOB, other):
        answers.add(scope, answer(b"p", 1, 2))
    answers.forget(scope_of("m", ""))
    assert [answers.knows(scope) for scope in (ALICE, BOB, other)] == [False, False, True]
