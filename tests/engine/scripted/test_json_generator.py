"""Made-up instances satisfy their schemas, by the judgement of a real validator."""

import json
from typing import Any

import jsonschema
import pytest

from mlxd.engine.scripted.json_generator import Json, instance

NODE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
    "$ref": "#/$defs/node",
}
TREE = {
    "definitions": {
        "tree": {
            "type": "object",
            "properties": {
                "left": {"oneOf": [{"$ref": "#/definitions/tree"}, {"type": "null"}]},
                "right": {"oneOf": [{"$ref": "#/definitions/tree"}, {"type": "null"}]},
            },
            "required": ["left", "right"],
        }
    },
    "type": "array",
    "items": {"$ref": "#/definitions/tree"},
    "minItems": 3,
}
QUESTIONS = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "questions": {
            "type": "array",
            "minItems": 1,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "question": {"type": "string"},
                    "header": {"type": "string", "maxLength": 12},
                    "options": {
                        "type": "array",
                        "minItems": 2,
                        "maxItems": 4,
                        "items": {
                            "type": "object",
                            "properties": {"label": {"type": "string"}},
                            "required": ["label"],
                            "additionalProperties": False,
                        },
                    },
                    "multiSelect": {"type": "boolean", "default": False},
                },
                "required": ["question", "header", "options", "multiSelect"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["questions"],
    "additionalProperties": False,
}
KIND_A = {"properties": {"kind": {"const": "a"}, "x": {"type": "string"}}, "required": ["kind"]}
KIND_B = {"properties": {"kind": {"const": "b"}}, "required": ["kind"]}
IF_THEN = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "if": {"properties": {"a": {"const": "text"}}},
    "then": {"required": ["b"], "properties": {"b": {"const": 4}}},
}

SCHEMAS: list[Any] = [
    True,
    {},
    {"const": {"a": [1]}},
    {"const": None},
    {"enum": [3, "x"]},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "string"]},
    {"type": "string", "default": None},
    {"type": "string", "default": "seven"},
    {"type": "string", "examples": [7, "seven"]},
    {"type": "string", "minLength": 500},
    {"type": "string", "maxLength": 2},
    {"type": "string", "minLength": 3, "maxLength": 3},
    {"type": "string", "pattern": "^[a-z]+$"},
    {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "date-time"},
    {"type": "integer", "minimum": 5, "exclusiveMaximum": 6},
    {"type": "integer", "exclusiveMinimum": 5, "multipleOf": 7},
    {"type": "integer", "maximum": -3},
    {"type": "integer", "minimum": 10**20},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "exclusiveMaximum": 0},
    {"type": "number", "multipleOf": 0.25, "minimum": 0.3},
    {"minimum": 4},
    {"type": "array"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    {"minItems": 1, "items": {"type": "string"}},
    {"type": "array", "items": {"type": "string"}, "minItems": 20, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer"}, "minItems": 9, "uniqueItems": True},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"const": "b"}], "minItems": 3},
    {"type": "array", "prefixItems": [{"type": "integer"}], "items": False, "minItems": 1},
    {"type": "array", "contains": {"const": 7}, "minItems": 2, "items": {"type": "integer"}},
    {"type": "array", "contains": {"const": 7}, "minContains": 2},
    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"type": "object", "required": ["b"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "required": ["xa"]},
    {"type": "object", "minProperties": 2, "additionalProperties": {"type": "null"}},
    {"type": "object", "minProperties": 1, "properties": {"a": {"type": "array"}}},
    {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a"],
        "dependentRequired": {"a": ["b"]},
    },
    {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 3}]},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"type": "object", "oneOf": [KIND_A, KIND_B]},
    {"allOf": [{"type": "object", **KIND_A}, {"required": ["x"]}, {"minProperties": 2}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4]}]},
    {"allOf": [{"minimum": 1, "maximum": 9}, {"minimum": 5, "type": ["integer", "string"]}]},
    {
        "anyOf": [{"type": "string", "minLength": 5}, {"type": "integer"}],
        "oneOf": [{"type": "integer", "minimum": 10}, {"type": "string", "minLength": 8}],
    },
    {"type": "integer", "allOf": [{"maximum": -5}, {"maximum": -7}]},
    {"allOf": [{"type": ["integer", "string"]}, {"type": "string"}]},
    {"allOf": [{"type": "string"}, {"type": ["integer", "string"]}]},
    {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"type": "integer"}]},
    {
        "allOf": [
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ]
    },
    {
        "type": "object",
        "allOf": [
            {"properties": {"a": True, "b": {"minimum": 3}}, "dependentRequired": {"a": ["b"]}},
            {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
            {"required": ["a"], "dependentRequired": {"a": ["c"]}},
        ],
    },
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer"}],
        "additionalItems": False,
        "minItems": 1,
    },
    {"type": "object", "propertyNames": {"pattern": "^key"}, "minProperties": 1},
    {"not": {"type": "string"}},
    {"type": "integer", "not": {"const": 1}},
    IF_THEN,
    {**IF_THEN, "properties": {"a": {"const": "other"}}, "else": {"required": ["c"]}},
    NODE,
    TREE,
    QUESTIONS,
    {"$defs": {"a/b": {"const": 5}}, "$ref": "#/$defs/a~1b"},
    {"allOf": [{"const": 5}], "$ref": "#/allOf/0"},
    {"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s", "minLength": 9},
    {
        "type": "object",
        "properties": {"inner": {"$ref": "#/$defs/i"}},
        "required": ["inner"],
        "$defs": {"i": {"type": "object", "properties": {"v": {}}, "required": ["v"]}},
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_the_instance_satisfies_the_schema(schema: Any) -> None:
    jsonschema.validate(instance(json.dumps(schema)), schema)


def test_names_give_hints_that_are_taken_when_they_fit() -> None:
    def hint(name: str) -> list[Json]:
        return ["hinted", ["hinted"]] if name == "h" else []

    for inner, expected in (
        ({"type": "string"}, "hinted"),
        ({"type": "array", "items": {"type": "string"}}, ["hinted"]),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"enum": ["only"]}, "only"),
    ):
        schema = {"type": "object", "properties": {"h": inner}, "required": ["h"]}
        assert instance(json.dumps(schema), hint) == {"h": expected}


@pytest.mark.parametrize(
    "schema",
    [
        "not json",
        "[" * 100_000,
        "false",
        '{"$ref": "#/$defs/none"}',
        '{"$ref": "https://example.com/schema"}',
        '{"$ref": "#"}',
        '{"type": "string", "pattern": "^unlikely$"}',
        '{"type": "string", "pattern": "(?<ecma>x)("}',
        '{"type": "string", "minLength": 1e12}',
        '{"type": "array", "minItems": 1e12}',
        '{"type": "object", "minProperties": 1e12}',
        '{"type": "unknown"}',
        '{"required": 5, "properties": [], "enum": {}, "minimum": "x", "type": "integer"}',
        '{"type": "integer", "multipleOf": 0}',
        '{"type": "integer", "minimum": 1e999}',
        '{"type": "number", "minimum": 1' + "0" * 400 + ', "multipleOf": 0.3}',
        '{"allOf": [false]}',
    ],
)
def test_a_schema_that_nothing_satisfies_still_ends(schema: str) -> None:
    json.dumps(instance(schema))


def test_a_schema_that_doubles_at_every_level_still_ends() -> None:
    names = ["a", "b", "c", "d"]
    levels: dict[str, Any] = {"level0": {"not": {}}}
    for level in range(1, 30):
        below = {"$ref": f"#/$defs/level{level - 1}"}
        levels[f"level{level}"] = {
            "type": "object",
            "properties": dict.fromkeys(names, {"anyOf": [below, below]}),
            "required": names,
        }
    json.dumps(instance(json.dumps({"$defs": levels, "$ref": "#/$defs/level29"})))
