"""What was said is remembered after a restart, where its prefix lies on the disk."""

from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlxd.engine.batching.block_tree import BLOCK
from mlxd.engine.prompt.answers import ALIKE, RememberedAnswer, note_of
from tests.engine.batching.test_shared_prefixes import SHAPES, attention, cache_of, numbers
from tests.engine.batching.test_stored_prefixes import SCOPE, Run, files_of

pytestmark = pytest.mark.mlx

OTHER = "m\nanother key"


def said(run: Run, shape: str, tokens: Sequence[int], begins: int) -> RememberedAnswer:
    """A row that has answered: its prompt ends where its answer `begins`."""
    answer = RememberedAnswer(
        b"prompt of %d" % begins, array("I", tokens), begins, (begins // 2, begins)
    )
    note = note_of(answer.before, answer.begins, answer.boundaries)
    cache = cache_of(shape, tokens)
    run.prefixes.put(SCOPE, list(tokens), cache, answered=True, note=note)
    return answer


def found(run: Run, answer: RememberedAnswer, scope: str = SCOPE) -> list[RememberedAnswer]:
    return list(run.answers.after(scope, answer.before))


@pytest.mark.parametrize("shape", SHAPES)
def test_all_answers_of_a_conversation_are_known_after_a_restart(
    shape: str, tmp_path: Path
) -> None:
    run, talk, answers = Run(tmp_path, cache_of(shape, [])), numbers(90), list[RememberedAnswer]()
    for turn in range(6):
        talk = talk + numbers(70, 1000 * turn + 500)
        answers.append(said(run, shape, talk, len(talk) - 40))
    # Another one goes on from the middle: blocks are cut in two behind their answers.
    fork = [*talk[:200], *numbers(100, 20_000)]
    answers.append(said(run, shape, fork, 250))
    assert not list(run.answers.after(SCOPE, answers[0].before)), "nothing is written yet"
    run.end()
    again = Run(tmp_path, cache_of(shape, []))
    assert again.answers.knows(SCOPE)
    assert [found(again, answer) for answer in answers] == [[answer] for answer in answers]
    assert not again.answers.knows(OTHER)
    assert not found(again, answers[0], OTHER)
    assert not list(again.answers.after(SCOPE, b"another prompt"))
    # Without the disk: they are in memory by now.
    for path in files_of(tmp_path):
        path.unlink()
    assert [found(again, answer) for answer in answers] == [[answer] for answer in answers]
    again.end()


def test_an_answer_is_read_with_the_tokenizer_and_for_the_model_that_it_was_written_with(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, [attention([])])
    answer = said(run, "attention", numbers(50), 30)
    run.end()
    empty = [attention([])]
    for reading, fingerprint in (("another one", "f" * 32), ("as it was", "e" * 32)):
        again = Run(tmp_path, empty, reading=reading, fingerprint=fingerprint)
        assert not found(again, answer)
        again.end()
    again = Run(tmp_path, empty)
    assert found(again, answer) == [answer]
    again.end()


def test_a_damaged_answer_is_not_remembered(tmp_path: Path) -> None:
    for at in (0, 20, 60, 130, -1):
        run = Run(tmp_path, [attention([])])
        answer = said(run, "attention", numbers(50, at + 1), 30)
        run.end()
        (path,) = (path for path in files_of(tmp_path) if path.suffix == ".answer")
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        again = Run(tmp_path, [attention([])])
        assert not found(again, answer)
        assert again.disk.figures.damaged == 1
        assert not path.exists()
        assert not again.answers.knows(SCOPE)
        again.end()


def test_of_many_answers_to_one_prompt_the_newest_are_read(tmp_path: Path) -> None:
    run, prompt = Run(tmp_path, [attention([])]), numbers(60)
    answers = [
        said(run, "attention", prompt + numbers(20, 100 * number + 100), 60)
        for number in range(2 * ALIKE)
    ]
    run.end()
    again = Run(tmp_path, [attention([])])
    assert len(found(again, answers[0])) == ALIKE
    again.end()


def test_an_answer_goes_before_the_prefix_that_it_ends(tmp_path: Path) -> None:
    each = 8 * 4 * BLOCK
    run = Run(tmp_path, [attention([])])
    answer = said(run, "attention", numbers(BLOCK), 30)
    run.end()
    run = Run(tmp_path, [attention([])], disk=5 * each)
    assert found(run, answer) == [answer]
    for talk in range(1, 8):
        tokens = numbers(BLOCK, 10_000 * talk)
        run.prefixes.put(SCOPE, tokens, [attention(tokens)])
    run.end()
    again = Run(tmp_path, [attention([])])
    assert not again.answers.knows(SCOPE)
    again.end()
