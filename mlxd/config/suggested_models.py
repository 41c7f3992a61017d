"""A few current models of the hub, for people who have not chosen one yet."""

import re
from typing import NamedTuple

GB = 1_000_000_000
OVERHEAD = 1.25
"""Weights times this leaves room for the KV cache of a few requests."""
CHOICES = 6
UNSAID = re.compile(r"-(?:instruct|it|mlx|\d{4}|\d+bit|mxfp4|q\d+)(?=-|$)")
"""Parts of a repository's name that tell variants apart."""


class HubModel(NamedTuple):
    """A repository in mlx-lm's format; `bytes` is what its weights take on disk and in memory."""

    source: str
    bytes: int
    what: str


CATALOG = (
    HubModel("mlx-community/Qwen3.5-0.8B-4bit", int(0.63 * GB), "quick answers, tool calls"),
    HubModel("mlx-community/Llama-3.2-3B-Instruct-4bit", int(1.8 * GB), "plain chat"),
    HubModel("mlx-community/Qwen3-4B-Instruct-2507-4bit", int(2.3 * GB), "chat and tool calls"),
    HubModel("mlx-community/Qwen3.5-4B-MLX-4bit", int(3.1 * GB), "thinking, tool calls"),
    HubModel("mlx-community/gemma-4-e4b-it-4bit", int(5.2 * GB), "chat in many languages"),
    HubModel("mlx-community/Qwen3.5-9B-4bit", int(6.0 * GB), "thinking, agents, long context"),
    HubModel("mlx-community/gpt-oss-20b-MXFP4-Q8", int(12.1 * GB), "thinking, agents"),
    HubModel("mlx-community/gemma-4-26b-a4b-it-4bit", int(15.4 * GB), "quick for its size"),
    HubModel("mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit", int(17.2 * GB), "coding agents"),
    HubModel("mlx-community/Qwen3.6-35B-A3B-4bit", int(20.4 * GB), "agents, long context"),
    HubModel("mlx-community/Qwen3-Coder-Next-4bit", int(44.9 * GB), "coding agents"),
    HubModel("mlx-community/gpt-oss-120b-MXFP4-Q4", int(62.4 * GB), "thinking, agents"),
)
"""By size."""


def short_name(source: str) -> str:
    """What people call a model: `qwen3-4b` of `mlx-community/Qwen3-4B-Instruct-2507-4bit`."""
    return UNSAID.sub("", source.rpartition("/")[2].lower())


def by_short_name(name: str) -> HubModel | None:
    """The model of the catalogue that people call so."""
    return next((model for model in CATALOG if short_name(model.source) == name.lower()), None)


def fitting(memory: int, *, quick: bool) -> tuple[HubModel, ...]:
    """Models that fit `memory` bytes: the most able ones, or with `quick` the smallest."""
    fits = [model for model in CATALOG if model.bytes * OVERHEAD <= memory]
    return tuple(fits[:CHOICES] if quick else fits[-CHOICES:])


def gigabytes(size: int) -> str:
    """A size for people: "4.3 GB"."""
    return f"{size / GB:.1f} GB"
