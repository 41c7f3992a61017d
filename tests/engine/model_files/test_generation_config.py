"""The sampling that a model's own file advises."""

from pathlib import Path

import pytest

from mlxd.config.settings import SamplingSettings
from mlxd.engine.model_files.generation_config import RANGES, Advice, advice
from mlxd.messages import Sampling

READ: dict[str, Sampling] = {
    "{}": Sampling(),
    '{"temperature": 0.6, "top_p": 0.9, "top_k": 20}': Sampling(0.6, 0.9, 20),
    '{"temperature": 1, "min_p": 0.05}': Sampling(temperature=1.0, min_p=0.05),
    '{"top_k": 0, "repetition_penalty": 1.05}': Sampling(top_k=0, repetition_penalty=1.05),
    '{"top_k": 64.0}': Sampling(top_k=64),
    '{"do_sample": false, "temperature": 0.6, "top_p": 0.8}': Sampling(0.0, 0.8),
    '{"do_sample": true, "temperature": 0.3}': Sampling(0.3),
    '{"do_sample": null, "top_p": null, "eos_token_id": [1, 2]}': Sampling(),
    '{"max_new_tokens": 2048, "num_beams": 4, "typical_p": 0.3}': Sampling(),
}
WRONG = (
    *('{"temperature": -1}', '{"temperature": 9}', '{"temperature": "warm"}'),
    *('{"temperature": true}', '{"temperature": NaN}', '{"temperature": Infinity}'),
    *('{"top_p": 0}', '{"top_p": 1.5}', '{"top_k": -3}', '{"top_k": 2.5}', '{"top_k": 1e300}'),
    *('{"min_p": 2}', '{"min_p": []}', '{"repetition_penalty": 0}', '{"do_sample": "no"}'),
    '{"top_k": 99999999999999999999}',
)
UNREADABLE = (b"", b"{", b"[]", b"3", b"[" * 100_000, b"\xff\xfe", b'{"temperature": 0.6')


def written(folder: Path, content: bytes) -> Path:
    (folder / "generation_config.json").write_bytes(content)
    return folder


@pytest.mark.parametrize("text", READ)
def test_known_keys_are_read_and_others_left_alone(tmp_path: Path, text: str) -> None:
    assert advice(written(tmp_path, text.encode())) == Advice(READ[text])


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_value_is_left_out_and_named(tmp_path: Path, text: str) -> None:
    beside = text.replace("{", '{"top_p": 0.5, ' if "top_p" not in text else '{"min_p": 0.5, ')
    found = advice(written(tmp_path, beside.encode()))
    assert found.sampling in (Sampling(top_p=0.5), Sampling(min_p=0.5))
    (fault,) = found.faults
    assert "generation_config.json: " in fault
    assert "should be" in fault


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_file_that_can_not_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    found = advice(written(tmp_path, content))
    assert (found.sampling, found.readable, len(found.faults)) == (Sampling(), False, 1)


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    assert advice(tmp_path) == Advice()


def test_all_that_can_be_configured_is_read() -> None:
    assert list(RANGES) == list(SamplingSettings.model_fields)
