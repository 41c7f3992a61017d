"""The exception tree: drawn as it is, every error says something and survives being data."""

import re
from dataclasses import MISSING, fields
from typing import Any

import msgspec
import pytest

from mlxd import errors
from mlxd.errors import (
    ConfigError,
    EngineFailed,
    ErrorReport,
    InternalError,
    MlxdError,
    ModelNotFound,
    QueueFull,
    Unavailable,
    revive,
    subclasses,
)

CLASSES = subclasses(MlxdError)
FACTS: dict[Any, object] = {str: "word", int: 7, float: 2.0, list[str]: ["a", "b"]}
SAID: dict[Any, str] = {str: "word", int: "7", float: "2", list[str]: "a"}


def example(cls: type[MlxdError]) -> MlxdError:
    """An error of this class, all its facts given."""
    return cls(**{field.name: FACTS.get(field.type, "value") for field in fields(cls)})


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^    ([│├└─ ]*)(\w+)", line):
            drawn.append((len(found[1]) // 4, found[2]))

    def walk(cls: type[MlxdError], depth: int) -> list[tuple[int, str]]:
        children = [child for child in cls.__subclasses__() if child in CLASSES]
        below = [each for child in children for each in walk(child, depth + 1)]
        return [(depth, cls.__name__), *below]

    assert drawn == walk(MlxdError, 0)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_survives_being_data(cls: type[MlxdError]) -> None:
    error = example(cls)
    wire = msgspec.msgpack.encode(error.report())
    revived = revive(msgspec.msgpack.decode(wire, type=ErrorReport))
    assert type(revived) is cls
    assert vars(revived) == vars(error)
    assert str(revived) == str(error)


@pytest.mark.parametrize(
    "cls",
    [each for each in CLASSES if not subclasses(each)],
    ids=lambda cls: cls.__name__,
)
def test_every_leaf_says_a_sentence_of_its_facts(cls: type[MlxdError]) -> None:
    said = str(example(cls))
    assert said
    for field in fields(cls):
        if field.default is MISSING and field.name != "problem":
            assert SAID[field.type] in said, field.name


def test_an_unknown_kind_is_an_internal_error() -> None:
    error = revive(ErrorReport("Sabotage", {"reason": "x"}))
    assert isinstance(error, InternalError)
    assert error.reason == "Sabotage"


def test_errors_are_told_apart_by_identity() -> None:
    assert QueueFull(limit=1) != QueueFull(limit=1)
    assert len({QueueFull(), QueueFull()}) == 2


def test_a_fault_of_a_whole_file_has_no_key() -> None:
    assert str(ConfigError("mlxd.toml", "", "it can't be read.")) == "mlxd.toml: it can't be read."
    with_key = ConfigError("mlxd.toml", "server.prt", "unknown key.", "Did you mean `port`?")
    assert str(with_key) == "mlxd.toml: server.prt: unknown key. Did you mean `port`?"


def test_what_may_work_later_says_when() -> None:
    assert QueueFull(retry_after=2.4, limit=64).retry_after == 2.4
    assert "try again in 2s" in str(QueueFull(retry_after=2.4, limit=64))
    assert isinstance(EngineFailed(reason="x"), Unavailable)


def test_a_missing_model_lists_what_there_is() -> None:
    assert str(ModelNotFound("gpt", ["a", "b"])).endswith("Available: a, b.")
