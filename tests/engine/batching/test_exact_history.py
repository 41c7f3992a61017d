"""Rows that go on from what was said: all of it is in the prefix cache, in every architecture."""

from array import array

import pytest

from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.parsing.detokenize import RowText, Streamed
from mlxd.engine.prompt.answers import Answers, RememberedAnswer, scope_of
from mlxd.engine.prompt.splice import CHANGED
from mlxd.engine.protocol import ModelSpec
from mlxd.engine.scheduling.scheduler import BatchRow
from mlxd.events import CacheNote
from mlxd.messages import Sampling
from tests.engine.batching.test_architectures import with_architecture
from tests.engine.batching.test_batch import Bench, endless
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

PROMPT = [40 + number % 200 for number in range(90)]
REST = [60 + number % 50 for number in range(30)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(ModelSpec(id="tiny", source=str(make_tiny_model(tmp_path_factory.mktemp("tiny")))))


def row(
    loaded: LoadedModel,
    tokens: list[int],
    boundaries: tuple[int, ...] = (),
    *,
    note: CacheNote | None = None,
    stop: tuple[str, ...] = (),
    sampling: Sampling | None = None,
) -> BatchRow:
    return BatchRow(
        id=len(tokens),
        tokens=tokens,
        max_tokens=12,
        text=RowText(Streamed(loaded.tokenizer.detokenizer), stop),
        boundaries=boundaries,
        before=b"prompt",
        begins=len(tokens),
        prompt_note=note,
        sampling=sampling or endless(loaded),
    )


def run(bench: Bench, asked: BatchRow) -> BatchRow:
    bench.scheduler.submit(asked)
    while bench.scheduler.busy:
        bench.scheduler.step()
        bench.batch.remember()
        bench.batch.settle()
    return asked


def bench_with(loaded: LoadedModel, answers: Answers) -> Bench:
    return Bench(loaded, prefixes=Prefixes(10**9), answers=answers)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen3_next", "mamba2"])
def test_the_next_turn_computes_nothing_of_the_answer_again(name: str, tiny: LoadedModel) -> None:
    loaded = tiny if name == "llama" else with_architecture(name, tiny)
    answers = Answers()
    bench = bench_with(loaded, answers)
    run(bench, row(loaded, PROMPT, (80,)))
    (said,) = answers.after(scope_of("tiny", ""), b"prompt")
    assert list(said.tokens[: said.begins]) == PROMPT
    assert len(said.tokens) == len(PROMPT) + 12
    assert said.boundaries == (80,)
    # A plain value, which can be made again of what a file holds.
    assert RememberedAnswer(b"prompt", array("I", said.tokens), said.begins, (80,)) == said
    known = list(said.tokens)
    after = run(bench, row(loaded, known + REST, (len(known),)))
    assert after.cached == len(known)


def test_only_whole_answers_are_remembered(tiny: LoadedModel) -> None:
    letters = Sampling(temperature=0, logit_bias={65: 100.0})
    letter = tiny.tokenizer.decode([65])
    for stop, end in ((letter * 20, "length"), (letter * 2, "stop_sequence")):
        answers = Answers()
        asked = row(tiny, PROMPT, stop=(stop,), sampling=letters)
        assert run(bench_with(tiny, answers), asked).end == end
        assert answers.knows(scope_of("tiny", "")) == (end == "length")


def test_why_an_answer_is_read_again_stands_beside_why_it_is_not_cached(tiny: LoadedModel) -> None:
    answers = Answers()
    bench = bench_with(tiny, answers)
    first = run(bench, row(tiny, PROMPT, note=CHANGED))
    assert first.cache_note == CacheNote(
        "changed_answer", f"first prompt of this key; {CHANGED.words}"
    )
    again = run(bench, row(tiny, [*PROMPT, *REST], note=CHANGED))
    assert again.cache_note is not None
    assert again.cache_note.words.endswith(CHANGED.words)
