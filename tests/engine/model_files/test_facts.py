"""What is known of a model from its files alone."""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import pytest

from mlxd.engine.model_files.facts import describe
from mlxd.status import ModelFacts

BYTES = {"U32": 4, "BF16": 2, "F32": 4}
CONFIG = {
    **{"model_type": "qwen3", "hidden_size": 64, "max_position_embeddings": 4096},
    "torch_dtype": "bfloat16",
}
Tensors = dict[str, tuple[str, list[int]]]


def model(folder: Path, config: dict[str, Any], tensors: Tensors, template: str = "") -> str:
    """A folder that looks like a model; its source."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + BYTES[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    data = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data + bytes(end))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return str(folder)


def test_the_files_say_family_size_and_window(tmp_path: Path) -> None:
    source = model(tmp_path, CONFIG, {"a.weight": ("BF16", [8, 64]), "b.bias": ("BF16", [8])})
    facts = describe(source)
    assert (facts.family, facts.context_length, facts.embedding_length) == ("qwen3", 4096, 64)
    assert (facts.parameters, facts.quantization) == (8 * 64 + 8, "bfloat16")
    assert facts.bytes > 1040
    assert facts.modified > 0
    assert not facts.thinks


def test_packed_numbers_are_counted_as_what_they_stand_for(tmp_path: Path) -> None:
    config = {**CONFIG, "quantization": {"bits": 4, "group_size": 64}}
    tensors: Tensors = {
        "a.weight": ("U32", [8, 8]),
        "a.scales": ("BF16", [8, 1]),
        "a.biases": ("BF16", [8, 1]),
        "norm.weight": ("BF16", [64]),
    }
    facts = describe(model(tmp_path, config, tensors))
    assert (facts.parameters, facts.quantization) == (8 * 64 + 64, "4bit")


def test_what_a_model_that_sees_has_in_a_table_of_its_own_is_found(tmp_path: Path) -> None:
    config = {"model_type": "seer", "text_config": CONFIG}
    facts = describe(model(tmp_path, config, {}, template="{% if enable_thinking %}"))
    assert (facts.family, facts.context_length, facts.thinks) == ("seer", 4096, True)


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    before = describe(model(tmp_path, CONFIG, {}))
    after = describe(model(tmp_path, {**CONFIG, "model_type": "llama"}, {}))
    assert (before.family, after.family) == ("qwen3", "llama")
    assert before.digest != after.digest
    assert len(after.digest) == 64


@pytest.mark.parametrize(
    "config", ["", "[]", '{"model_type": 3, "quantization": [], "hidden_size": "x"}']
)
def test_damaged_files_leave_their_facts_out(tmp_path: Path, config: str) -> None:
    source = model(tmp_path, CONFIG, {})
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "tokenizer_config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 9)
    facts = describe(source)
    assert (facts.family, facts.parameters, facts.embedding_length) == ("", 0, 0)
    assert not facts.thinks


def test_nothing_is_known_of_a_model_that_is_not_here() -> None:
    assert describe("nobody/no-such-model") == ModelFacts()
