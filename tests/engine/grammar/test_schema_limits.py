"""How large a schema may be: each thing is counted as itself and as nothing else."""

import json

import pytest

from mlxd.engine.grammar.json_schemas import MAX_PROPERTIES, read_schema

VALUES = 1000
"""Enum values that a schema may have in all, as OpenAI documents it."""


def spread(properties: int, values: int) -> str:
    """A schema with so many properties, and so many values over them."""
    fields: dict[str, object] = {f"p{number}": {"type": "string"} for number in range(properties)}
    share = -(-values // properties)
    for number in range(properties):
        if count := min(share, values - number * share):
            if count < 1:
                break
            fields[f"p{number}"] = {"enum": [f"v{number}_{value}" for value in range(count)]}
    return json.dumps({"type": "object", "properties": fields})


def test_properties_without_values_count_as_none() -> None:
    assert read_schema(spread(VALUES + 500, 0)).faults == ()


@pytest.mark.parametrize("properties", [1, 7, 100])
def test_values_are_counted_over_the_whole_schema(properties: int) -> None:
    assert read_schema(spread(properties, VALUES)).faults == ()
    (fault,) = read_schema(spread(properties, VALUES + 1)).faults
    assert f"more than {VALUES} enum values" in fault.reason


def test_properties_are_counted_over_the_whole_schema() -> None:
    fields: dict[str, object] = {f"{n}": {} for n in range((MAX_PROPERTIES - 2) // 2)}
    half = {"properties": fields}
    assert read_schema(compact({"properties": {"a": half, "b": half}})).faults == ()
    (fault,) = read_schema(compact({"properties": {"a": half, "b": half, "c": {}}})).faults
    assert "properties" in fault.reason


def compact(value: object) -> str:
    """So many properties are only just within the bytes that a schema may have."""
    return json.dumps(value, separators=(",", ":"))
