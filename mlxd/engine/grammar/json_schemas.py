"""JSON Schemas of callers: limits, and what a grammar has no use for taken out."""

import json
from dataclasses import dataclass
from typing import Any

from mlxd.errors import InvalidField

MAX_BYTES = 64 * 1024
MAX_DEPTH = 10
"""Objects and arrays inside of each other, as far as the schema itself writes them out."""
MAX_PROPERTIES = 5000
MAX_VALUES = 1000
"""Values of all `enum` lists."""
MAX_PATTERN = 1024
"""Bytes of a regular expression."""

FORMATS = frozenset(
    {
        *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6"),
        *("uuid", "uri"),
    }
)
"""Formats that are enforced; others are notes to a reader, and say nothing to a validator."""

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    *("items", "additionalProperties", "not", "contains", "if", "then", "else"),
    *("propertyNames", "unevaluatedProperties", "unevaluatedItems", "additionalItems"),
)
_NESTING = frozenset(
    {"properties", "patternProperties", "items", "prefixItems", "additionalProperties", "contains"}
)
# The first would set options of llguidance. The others constrain nothing, and a grammar is cached
# by its text.
_DROPPED = frozenset({"x-guidance", "$schema", "$id", "$comment", "title", "description"})
_MAX_RECURSION = 100


def read_schema(text: str, field: str) -> dict[str, Any]:
    """The schema in `text`, within the limits; raises `InvalidField` naming `field`."""
    if len(text.encode()) > MAX_BYTES:
        raise InvalidField(field, "value", f"The schema is larger than {MAX_BYTES} bytes.")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidField(field, "value", "The schema is not valid JSON.") from None
    if not isinstance(schema, dict):
        raise InvalidField(field, "value", "The schema must be a JSON object.")
    cleaned = _SchemaReader(field).schema(schema, 0, 0)
    assert isinstance(cleaned, dict)
    return cleaned


@dataclass
class _SchemaReader:
    """Copies a schema and counts what is in it."""

    field: str
    properties: int = 0
    values: int = 0

    def schema(self, schema: Any, depth: int, recursion: int) -> Any:
        if not isinstance(schema, dict):
            return schema
        self._check(schema, depth, recursion)
        useful = {key: value for key, value in schema.items() if key not in _DROPPED}
        if useful.get("format", "") not in FORMATS:
            useful.pop("format", None)
        return {key: self._part(key, value, depth, recursion + 1) for key, value in useful.items()}

    def _part(self, key: str, value: Any, depth: int, recursion: int) -> Any:
        below = depth + 1 if key in _NESTING else depth
        if key in _MAPS and isinstance(value, dict):
            return {name: self.schema(each, below, recursion) for name, each in value.items()}
        if isinstance(value, list) and (key in _LISTS or key == "items"):
            return [self.schema(each, below, recursion) for each in value]
        return self.schema(value, below, recursion) if key in _SINGLE else value

    def _check(self, schema: dict[str, Any], depth: int, recursion: int) -> None:
        if depth > MAX_DEPTH or recursion > _MAX_RECURSION:
            self._refuse(f"nests objects and arrays more than {MAX_DEPTH} deep")
        named = schema.get("properties")
        self.properties += len(named) if isinstance(named, dict) else 0
        if self.properties > MAX_PROPERTIES:
            self._refuse(f"has more than {MAX_PROPERTIES} properties")
        listed = schema.get("enum")
        self.values += len(listed) if isinstance(listed, list) else 0
        if self.values > MAX_VALUES:
            self._refuse(f"has more than {MAX_VALUES} enum values")
        for pattern in (schema.get("pattern"), *(schema.get("patternProperties") or ())):
            if isinstance(pattern, str) and len(pattern.encode()) > MAX_PATTERN:
                self._refuse(f"has a pattern of more than {MAX_PATTERN} bytes")

    def _refuse(self, what: str) -> None:
        raise InvalidField(self.field, "value", f"The schema {what}.")
