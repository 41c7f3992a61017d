"""What a model's files say of it: its family, size and window. Nothing here imports MLX.

A file that can't be read leaves its facts out: this is for people who choose among models, and
says nothing about whether one can be served.
"""

import json
import math
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlxd.engine.model_files.library import locate, size_on_disk, state_of_files
from mlxd.engine.model_files.verification import (
    MAX_HEADER,
    Unusable,
    read_object,
    weight_files,
)
from mlxd.status import ModelFacts

NONE = ModelFacts()
REMEMBERED = 64
"""Models whose facts are kept, until their files change."""
THINKING = "think"
"""In a chat template: tags, switches and fields of thinking all have it in their names."""
WINDOWS = ("max_position_embeddings", "max_seq_len", "seq_length", "n_positions", "n_ctx")
PACKED_BITS = 32
"""Quantised weights are packed into integers of so many bits."""


def describe(source: str) -> ModelFacts:
    """The facts of a model that is here; none of one that is not."""
    state = state_of_files(source)
    folder = locate(source)
    return _facts(folder, state) if folder is not None and state else NONE


@lru_cache(REMEMBERED)
def _facts(folder: Path, state: str) -> ModelFacts:
    config = _object(folder / "config.json")
    # Models that see have the language model's figures in a table of their own.
    text = {**config, **_table(config, "text_config")}
    quantization = _table(config, "quantization") or _table(config, "quantization_config")
    bits = _number(quantization, "bits")
    dtype = _word(text, "torch_dtype") or _word(text, "dtype")
    weights = weight_files(folder)
    return ModelFacts(
        family=_word(config, "model_type"),
        parameters=sum(_parameters(path, bits) for path in weights),
        quantization=f"{bits}bit" if bits else dtype,
        context_length=next(filter(None, (_number(text, name) for name in WINDOWS)), 0),
        embedding_length=_number(text, "hidden_size"),
        bytes=size_on_disk(folder),
        modified=max((path.stat().st_mtime for path in weights), default=0.0),
        digest=state,
        thinks=THINKING in _template(folder),
    )


def _parameters(path: Path, bits: int) -> int:
    """How many numbers the weights of a file stand for."""
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(min(length, MAX_HEADER)))
        return sum(_stands_for(name, entry, header, bits) for name, entry in header.items())
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return 0


def _stands_for(name: str, entry: Any, header: dict[str, Any], bits: int) -> int:
    if name == "__metadata__":
        return 0
    packed = bits and f"{name.removesuffix('weight')}scales" in header
    numbers = int(math.prod(entry["shape"]))
    if packed and name.endswith("weight"):
        return numbers * PACKED_BITS // bits
    # What scales the packed numbers is none of the model's own.
    return 0 if bits and name.endswith((".scales", ".biases")) else numbers


def _template(folder: Path) -> str:
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return json.dumps(_object(folder / "tokenizer_config.json").get("chat_template") or "")


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, Unusable):
        return {}


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    table = config.get(name)
    return table if isinstance(table, dict) else {}


def _word(config: dict[str, Any], name: str) -> str:
    value = config.get(name)
    return value if isinstance(value, str) else ""


def _number(config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    return value if type(value) is int and 0 < value < 2**53 else 0
