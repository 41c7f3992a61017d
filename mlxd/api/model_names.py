"""Which configured model answers a request: the name it asks for is a name, never a path."""

import re
from collections.abc import Sequence
from typing import Literal

from mlxd.errors import ModelNotFound
from mlxd.status import ModelInfo

UnknownModel = Literal["auto", "default", "refuse"]

_NAME = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}")
MAX_ECHO = 256
"""Characters of an unknown name that the error repeats."""


LATEST = ":latest"
"""The tag that a name without one means: programs that choose from a list with tags add it."""


def find_model(name: str, models: Sequence[ModelInfo]) -> ModelInfo | None:
    """The model of this id or alias; exact names first, then patterns, in configured order."""
    found = _find(name, models)
    if found is None and name.endswith(LATEST):
        found = _find(name.removesuffix(LATEST), models)
    return found


def _find(name: str, models: Sequence[ModelInfo]) -> ModelInfo | None:
    for model in models:
        if name == model.id:
            return model
    for model in models:
        if name in model.aliases:
            return model
    if _NAME.fullmatch(name) is None:
        return None
    for model in models:
        if any(_matches(alias, name) for alias in model.aliases):
            return model
    return None


def route_model(
    requested: str, models: Sequence[ModelInfo], *, default: str, unknown: UnknownModel
) -> str:
    """The id of the model that answers to `requested`; raises `ModelNotFound`.

    An empty name means the default model. A name nobody configured is answered as `unknown` says:
    by the default model, by the only model (`auto`), or not at all.
    """
    fallback = find_model(default, models) or (models[0] if models else None)
    found = find_model(requested, models) if requested else fallback
    if found is not None:
        return found.id
    may_answer = unknown == "default" or (unknown == "auto" and len(models) == 1)
    if fallback is not None and may_answer and _NAME.fullmatch(requested):
        return fallback.id
    raise ModelNotFound(model=requested[:MAX_ECHO], available=listed_names(models))


def listed_names(models: Sequence[ModelInfo]) -> list[str]:
    """Every name that can be requested as it stands: ids, and aliases that are no patterns."""
    return list(dict.fromkeys(name for model in models for name in names_of(model)))


def names_of(model: ModelInfo) -> list[str]:
    """The model's id and its aliases that are no patterns."""
    return [model.id, *(alias for alias in model.aliases if "*" not in alias)]


def _matches(pattern: str, name: str) -> bool:
    """Whether `name` fits `pattern`, in which `*` stands for anything; linear in both."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    *middle, last = rest
    if not name.startswith(first) or not name.endswith(last):
        return False
    position, end = len(first), len(name) - len(last)
    for piece in middle:
        position = name.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return position <= end
