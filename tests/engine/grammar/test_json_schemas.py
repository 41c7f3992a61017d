"""Callers' schemas as they are read: what is left of them, and what is told of the rest."""

import json
from typing import Any

import jsonschema
import pytest

from mlxd.engine.grammar.json_schemas import read_parameters, read_schema

MALFORMED: tuple[tuple[Any, str], ...] = (
    ({"type": "any"}, "type"),
    ({"type": "Integer"}, "type"),
    ({"type": ["string", "date"]}, "type"),
    ({"type": []}, "type"),
    ({"enum": None}, "enum"),
    ({"enum": "red"}, "enum"),
    ({"type": "number", "minimum": "1"}, "minimum"),
    ({"type": "number", "multipleOf": 0}, "multipleOf"),
    ({"type": "string", "maxLength": -2}, "maxLength"),
    ({"type": "string", "minLength": 1.5}, "minLength"),
    ({"type": "string", "pattern": 7}, "pattern"),
    ({"type": "string", "pattern": "a" * 1025}, "pattern"),
    ({"type": "string", "format": ["date"]}, "format"),
    ({"required": [["a"]]}, "required"),
    ({"required": "a"}, "required"),
    ({"anyOf": []}, "anyOf"),
    ({"anyOf": {}}, "anyOf"),
    ({"anyOf": [{"type": "string"}, 5]}, "anyOf.1"),
    ({"prefixItems": {}}, "prefixItems"),
    ({"items": None}, "items"),
    ({"properties": {"x": None}}, "properties.x"),
    ({"properties": []}, "properties"),
    ({"additionalProperties": "false"}, "additionalProperties"),
    ({"uniqueItems": "yes"}, "uniqueItems"),
    ({"dependentRequired": {"a": "b"}}, "dependentRequired"),
    ({"$ref": "#/$defs/Nowhere"}, "$ref"),
    ({"$ref": "https://example.com/schema"}, "$ref"),
    ({"$ref": "other.json#/a"}, "$ref"),
    ({"$ref": 5}, "$ref"),
    ({"enum": [*range(1001)]}, "enum"),
    (None, ""),
    ("string", ""),
)


@pytest.mark.parametrize(("schema", "keyword"), MALFORMED)
@pytest.mark.parametrize("place", ["properties.{}", "items", "anyOf.0", "$defs.D"])
def test_what_is_no_schema_is_left_out_at_its_place_and_named(
    schema: Any, keyword: str, place: str
) -> None:
    place = place.format("code")
    root = {
        "properties.code": {"properties": {"code": schema}},
        "items": {"items": schema},
        "anyOf.0": {"anyOf": [schema, {"type": "string"}]},
        "$defs.D": {"$defs": {"D": schema}, "properties": {"a": {"$ref": "#/$defs/D"}}},
    }[place]
    read = read_schema(json.dumps(root))
    # A definition that is none can't be followed, which shows where it is referred to.
    no_target = place == "$defs.D" and keyword == ""
    expected = "properties.a.$ref" if no_target else f"{place}.{keyword}".strip(".")
    assert [".".join(fault.path) for fault in read.faults] == [expected]
    jsonschema.Draft202012Validator.check_schema(read.schema)


@pytest.mark.parametrize(
    ("root", "place"),
    [
        ({"type": "string"}, "type"),
        ({"type": "array", "items": {}}, "type"),
        ({"type": "null"}, "type"),
        ({"type": ["boolean", "string"]}, "type"),
        ({"enum": ["a", "b"]}, "enum"),
        ({"const": 5}, "const"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}}, "$defs.A.type"),
        ({"title": "T", "anyOf": [{"type": "string"}, {"type": "integer"}]}, "anyOf"),
        ({"allOf": [{"type": "object"}, {"type": "array"}]}, "allOf"),
        (
            {
                "oneOf": [{"$ref": "#/$defs/A"}, {"type": "null"}],
                "$defs": {"A": {"type": "string"}},
            },
            "oneOf",
        ),
    ],
)
def test_parameters_that_can_be_no_object_are_read_as_one(root: Any, place: str) -> None:
    read = read_parameters(json.dumps(root))
    assert [".".join(fault.path) for fault in read.faults] == [place]
    assert read.schema["type"] == "object"
    jsonschema.validate({}, read.schema)


@pytest.mark.parametrize(
    "root",
    [
        {},
        {"properties": {"a": {}}},
        {"type": ["object", "null"]},
        {"anyOf": [{"type": "object"}, {"type": "null"}]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {}}}}},
        {"$ref": "#"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
    ],
)
def test_parameters_that_may_be_an_object_are_whole(root: Any) -> None:
    read = read_parameters(json.dumps(root))
    assert read.faults == ()
    assert read.schema["type"] == "object"


REFERENCES: tuple[tuple[Any, Any, Any], ...] = (
    # Recursion to the root, to a property, to a definition inside another one, an escaped name.
    (
        {"type": "object", "properties": {"n": {"$ref": "#"}}, "additionalProperties": False},
        {"n": {"n": {}}},
        {"n": {"m": {}}},
    ),
    (
        {"properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}}},
        {"b": 1},
        {"b": "1"},
    ),
    (
        {
            "properties": {"a": {"$ref": "#/definitions/Box%3Cint%3E/$defs/In"}},
            "definitions": {"Box<int>": {"$defs": {"In": {"type": "boolean"}}}},
        },
        {"a": True},
        {"a": 1},
    ),
    (
        {"properties": {"a": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": {"enum": ["q"]}}},
        {"a": "q"},
        {"a": "r"},
    ),
    (
        {"properties": {"a": {"prefixItems": [{"type": "null"}, {"$ref": "#/properties/b/0"}]}}},
        {"a": [None]},
        {"a": [1]},
    ),
)


@pytest.mark.parametrize(("schema", "fits", "fails"), REFERENCES)
def test_a_part_with_its_definitions_means_what_it_meant_in_the_whole(
    schema: Any, fits: Any, fails: Any
) -> None:
    read = read_schema(json.dumps(schema)).schema
    part = {
        "properties": read["properties"],
        "additionalProperties": read.get("additionalProperties", True),
        "$defs": read.get("$defs", {}),
    }
    for each in (read, part):
        assert jsonschema.Draft202012Validator(each).is_valid(fits)
        assert not jsonschema.Draft202012Validator(each).is_valid(fails)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"const": "' + "a" * 70_000 + '"}', "larger than 65536 bytes"),
        ("[", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 30_000, "not valid JSON"),
    ],
)
def test_what_can_not_be_read_at_all_is_left_out_as_a_whole(text: str, why: str) -> None:
    (fault,) = read_schema(text).faults
    assert fault.path == ()
    assert why in fault.reason
    assert read_parameters(text).schema == {"type": "object"}


def test_depth_is_cut_where_it_becomes_too_much() -> None:
    inner: Any = {"type": "string"}
    for _ in range(12):
        inner = {"properties": {"a": inner}}
    (fault,) = read_schema(json.dumps(inner)).faults
    assert fault.path == ("properties", "a") * 11
    assert "more than 10 deep" in fault.reason


def test_a_chain_of_references_is_followed_without_depth() -> None:
    chain = {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(900)}
    read = read_parameters(json.dumps({"$ref": "#/$defs/d0", "$defs": chain}))
    assert [".".join(fault.path) for fault in read.faults] == ["$defs.d899.items.$ref"]
