"""How long a prompt a model can take, by what its files say. Nothing here imports MLX."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlxd.engine.model_files.verification import Unusable, read_object

UNKNOWN_CONTEXT = 8192
"""Tokens of window of a model that states none."""
MIN_CONTEXT, MAX_CONTEXT = 16, 100_000_000
"""Windows that are meant: tokenizers write huge numbers for "no limit"."""
CONTEXT_KEYS = ("max_position_embeddings", "max_sequence_length", "max_seq_len", "n_positions")


def stated_window(config: Mapping[str, Any], of_tokenizer: object) -> int:
    """The smaller one of the windows that a model and its tokenizer state."""
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    named = [section.get(key) for section in sections for key in CONTEXT_KEYS]
    known = next((value for value in named if _window(value) is not None), None)
    limits = [_window(known), _window(of_tokenizer)]
    return min((limit for limit in limits if limit is not None), default=UNKNOWN_CONTEXT)


def window_of(folder: Path) -> int:
    """The window of a model in a folder; 0 where its files can't be read."""
    try:
        config = read_object(folder / "config.json")
    except (OSError, Unusable):
        return 0
    limit = None
    with suppress(OSError, Unusable):
        limit = read_object(folder / "tokenizer_config.json").get("model_max_length")
    return stated_window(config, limit)


def _window(value: object) -> int | None:
    """`value` as a number of tokens, if it is one that was meant."""
    if isinstance(value, int | float) and MIN_CONTEXT <= value <= MAX_CONTEXT:
        return int(value)
    return None
