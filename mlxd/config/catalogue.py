"""A few current models of the hub, for people who have not chosen one yet: `catalogue.toml`."""

import datetime
import tomllib
from functools import cache
from pathlib import Path

import msgspec

GB = 1_000_000_000
OVERHEAD = 1.25
"""Weights times this leaves room for the KV cache of a few requests."""
CHOICES = 6
"""Models that are offered to someone who has named none."""
LEAST_WINDOW = 4096
"""Tokens of window below which a model is of no use on a machine."""
FILE = Path(__file__).with_name("catalogue.toml")


class HubModel(msgspec.Struct, frozen=True):
    """A repository in mlx-lm's format, and the short name that people call it by.

    `bytes` is what its weights take on disk and in memory, `kv_bytes` what a KV cache grows by with
    each token, `window` the model's own, in tokens.
    """

    name: str
    source: str
    bytes: int
    kv_bytes: int
    window: int
    what: str

    def window_in(self, memory: int) -> int:
        """The tokens of window that there is room for in `memory` bytes; 0 if it is too large."""
        window = min(self.window, (memory - self.bytes) // self.kv_bytes)
        return window if window >= LEAST_WINDOW else 0


class Catalogue(msgspec.Struct, frozen=True):
    """The models by size, as they were on a day."""

    date: datetime.date
    models: tuple[HubModel, ...]

    def by_name(self, name: str) -> HubModel | None:
        """The model with that short name."""
        return next((model for model in self.models if model.name == name.lower()), None)

    def by_source(self, source: str) -> HubModel | None:
        """The model in that repository."""
        return next((model for model in self.models if model.source == source), None)

    def fitting(self, memory: int, *, quick: bool) -> tuple[HubModel, ...]:
        """Models that fit `memory` bytes: the most able ones, or with `quick` the smallest."""
        fits = [model for model in self.models if model.bytes * OVERHEAD <= memory]
        return tuple(fits[:CHOICES] if quick else fits[-CHOICES:])


@cache
def catalogue() -> Catalogue:
    """What the package brings."""
    return msgspec.convert(tomllib.loads(FILE.read_text(encoding="utf-8")), Catalogue)


def gigabytes(size: int) -> str:
    """A size for people: "4.3 GB"."""
    return f"{size / GB:.1f} GB"
