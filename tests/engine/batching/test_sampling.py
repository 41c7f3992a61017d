"""The draw: distributions, truncation, seeds, and that rows never touch each other."""

import math
from collections import Counter
from typing import Any, cast

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from msgspec.structs import asdict

from mlxd.engine.batching.sampling import (
    CANDIDATES,
    FEW,
    NEUTRAL,
    RowSampling,
    best_tokens,
    draw,
    logits_processors,
    resolve,
)
from mlxd.messages import Sampling

pytestmark = pytest.mark.mlx

PROBS = [0.5, 0.3, 0.15, 0.05]
LOGPROBS = mx.array([[math.log(p) for p in PROBS]])


def row(**asked: float | int | dict[int, float]) -> RowSampling:
    return resolve(msgspec.convert(asked, Sampling))


def ids(array: mx.array) -> list[int]:
    return cast(list[int], array.tolist())


def draws(sampling: RowSampling, count: int = 4000) -> Counter[int]:
    return Counter(ids(draw(mx.repeat(LOGPROBS, count, axis=0), [sampling] * count)))


def processed(sampling: RowSampling, tokens: list[int], prompt: int) -> list[float]:
    logits = mx.zeros((1, 4)) + mx.array([[1.0, -1.0, 2.0, 0.5]])
    for processor in logits_processors(sampling, prompt):
        logits = processor(mx.array(tokens), logits)
    return [round(value, 4) for value in cast(list[float], logits[0].tolist())]


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert draws(row(temperature=0), 20) == {0: 20}


def test_plain_sampling_follows_the_distribution() -> None:
    counts = draws(row(temperature=1, seed=1))
    for token, probability in enumerate(PROBS):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_temperature_sharpens() -> None:
    counts = draws(row(temperature=0.5, seed=1))
    weights = [p**2 for p in PROBS]
    assert counts[0] / 4000 == pytest.approx(weights[0] / sum(weights), abs=0.03)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({"top_p": 0.4}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"top_k": 1}, {0}),
        ({"top_k": 3}, {0, 1, 2}),
        ({"min_p": 0.5}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "min_p": 0.5, "top_p": 0.99}, {0, 1}),
    ],
)
def test_truncation_keeps_exactly_the_likely_ones(
    asked: dict[str, float], allowed: set[int]
) -> None:
    assert set(draws(row(temperature=1.0, seed=3, **asked), 1500)) == allowed


def test_truncated_draws_keep_their_proportions() -> None:
    counts = draws(row(temperature=1, top_k=2, seed=5))
    assert counts[0] / 4000 == pytest.approx(0.5 / 0.8, abs=0.03)


def test_one_seed_gives_one_sequence_whatever_the_neighbours_do() -> None:
    batch = mx.concatenate([LOGPROBS] * 4)
    alone = row(temperature=1, top_p=0.9, seed=7)
    crowded = row(temperature=1, top_p=0.9, seed=7)
    others = [row(temperature=1), row(temperature=0), row(temperature=0.3, top_k=2)]
    first = [ids(draw(LOGPROBS, [alone]))[0] for _ in range(100)]
    second = [ids(draw(batch, [others[0], crowded, *others[1:]]))[1] for _ in range(100)]
    assert first == second


def test_rows_of_every_kind_come_back_in_their_order() -> None:
    logprobs = mx.log(mx.eye(6) + 1e-9)
    kinds = [row(temperature=t, top_k=k) for t, k in ((1, 0), (0, 0), (1, 2))] * 2
    assert draw(logprobs, kinds).tolist() == list(range(6))


def test_request_beats_model_defaults_beat_no_effect() -> None:
    defaults = Sampling(temperature=0.7, top_p=0.9)
    sampling = resolve(Sampling(temperature=0.0).merged(defaults))
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 0.9, 0)
    assert resolve(Sampling()).temperature == 1.0


def test_every_parameter_but_the_seed_has_a_neutral_value() -> None:
    assert [name for name, value in asdict(NEUTRAL).items() if value is None] == ["seed"]


def test_unset_penalties_add_no_processor() -> None:
    assert logits_processors(row(temperature=1), 3) == []


def test_logit_bias_is_added() -> None:
    assert processed(row(logit_bias={0: -100.0, 3: 2.0}), [0], 1) == [-99.0, -1.0, 2.0, 2.5]


def test_repetition_penalty_counts_prompt_and_answer_once() -> None:
    assert processed(row(repetition_penalty=2.0), [0, 1, 1], 2) == [0.5, -2.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"presence_penalty": 0.5}, [0.5, -1.5, 2.0, 0.5]),
        ({"frequency_penalty": 0.25}, [0.75, -1.5, 2.0, 0.5]),
        ({"presence_penalty": -0.5}, [1.5, -0.5, 2.0, 0.5]),
        ({"repetition_penalty": 2.0}, [0.5, -2.0, 1.0, 0.5]),
    ],
)
def test_each_penalty_works_without_the_others(
    asked: dict[str, float], expected: list[float]
) -> None:
    assert processed(row(**asked), [2, 0, 1, 1], 1) == expected


def test_openai_penalties_count_the_answer_only() -> None:
    sampling = row(presence_penalty=0.5, frequency_penalty=0.25)
    assert processed(sampling, [0, 0, 2, 2, 3], 2) == [1.0, -1.0, 1.0, -0.25]
    assert processed(sampling, [0, 0], 2) == [1.0, -1.0, 2.0, 0.5]


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-40, 1e-9])
@pytest.mark.parametrize("more", [{}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_a_temperature_next_to_zero_takes_the_most_likely_token(
    temperature: float, more: dict[str, float]
) -> None:
    assert draws(row(temperature=temperature, **more), 20) == {0: 20}


@pytest.mark.parametrize("spoilt", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("sampling", [{}, {"top_p": 0.9}, {"top_k": 2}, {"temperature": 0}])
def test_a_draw_from_spoilt_numbers_is_still_a_token(
    spoilt: float, sampling: dict[str, float]
) -> None:
    rows = [row(**{"temperature": 1, **sampling})]
    for logprobs in ([spoilt] * 4, [spoilt, -1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, spoilt]):
        assert ids(draw(mx.array([logprobs]), rows))[0] in range(4)


def full_sort(values: np.ndarray[Any, Any], k: int) -> list[list[int]]:
    """The ids of the greatest values of each row in order, of equal ones the lower first."""
    return cast(list[list[int]], np.argsort(-values, axis=-1, kind="stable")[:, :k].tolist())


@pytest.mark.parametrize("vocabulary", [7, 130, 2000])
@pytest.mark.parametrize("k", [1, 5, FEW, CANDIDATES])
def test_the_best_tokens_by_blocks_are_those_of_a_full_sort(vocabulary: int, k: int) -> None:
    numbers = np.random.default_rng(k)
    # Few values, so that each row has ties, also at the edge of what is kept.
    values = numbers.integers(-9, 9, (1000, vocabulary)).astype(np.float32) / 4
    values[::7, : vocabulary // 2] = -np.inf
    values[::11, ::3] = -0.0
    k = min(k, vocabulary)
    assert best_tokens(mx.array(values), k).tolist() == full_sort(values, k)


def test_min_p_alone_counts_every_token_of_the_vocabulary() -> None:
    # More equally likely tokens than are ever sorted.
    logprobs = mx.zeros((500, 4 * CANDIDATES))
    drawn = ids(draw(logprobs, [row(temperature=1, min_p=0.5, seed=n) for n in range(500)]))
    assert min(drawn) < CANDIDATES
    assert max(drawn) > 3 * CANDIDATES


def test_a_rows_draw_is_the_same_whatever_its_neighbours_ask_for() -> None:
    numbers = np.random.default_rng(5)
    logits = mx.array(numbers.normal(size=(40, 700)).astype(np.float32))
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    kinds: list[dict[str, float]] = [
        {"top_k": 5},
        {"top_k": 5, "top_p": 0.7},
        {"top_p": 0.8},
        {"top_k": 200},
        {"min_p": 0.1},
        {},
        {"temperature": 0},
        {"min_p": 0.1, "top_p": 0.9, "top_k": 30, "temperature": 0.6},
    ]

    def rows() -> list[RowSampling]:
        return [row(**({"temperature": 1.3, "seed": n} | kinds[n % len(kinds)])) for n in range(40)]

    alone = [ids(draw(logprobs[n : n + 1], [each]))[0] for n, each in enumerate(rows())]
    assert ids(draw(logprobs, rows())) == alone
