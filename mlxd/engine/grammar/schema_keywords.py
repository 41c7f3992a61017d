"""What the keywords of a JSON Schema may hold, as far as a grammar has a use for them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")

MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords whose value holds schemas by name."""
LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SINGLE = frozenset(
    {
        *("items", "additionalProperties", "not", "contains", "if", "then", "else"),
        *("propertyNames", "unevaluatedProperties", "unevaluatedItems", "additionalItems"),
    }
)
NESTING = frozenset(
    {"properties", "patternProperties", "items", "prefixItems", "additionalProperties", "contains"}
)
"""Keywords whose schemas are those of values inside of the value."""

Shape = tuple[Callable[[Any], bool], str]
Holder = Literal["map", "list", "single"]


def is_schema(value: Any) -> bool:
    """Whether a value can be a schema at all."""
    return isinstance(value, dict | bool)


def holder(keyword: str, value: Any) -> Holder | None:
    """How the value of a keyword holds schemas; None where it holds none."""
    if keyword in MAPS:
        return "map"
    if keyword in LISTS or (keyword == "items" and isinstance(value, list)):
        return "list"
    return "single" if keyword in SINGLE else None


def fault_of(keyword: str, value: Any) -> str:
    """Why a keyword can't have this value; empty if it can, or if nobody knows the keyword."""
    fits, expected = _SHAPES.get(keyword, _ANYTHING)
    return "" if fits(value) else f"it must be {expected}"


def _is_type(value: Any) -> bool:
    named = value if isinstance(value, list) else [value]
    return bool(named) and all(isinstance(name, str) and name in TYPES for name in named)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_bound(value: Any) -> bool:
    # Draft 4 writes a boolean that goes with the inclusive bound.
    return _is_number(value) or isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_dependency(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_names, value.values()))


_ANYTHING: Shape = (lambda value: True, "")
_SHAPES: Mapping[str, Shape] = {
    "type": (_is_type, f"one of {', '.join(TYPES)}, or a list of them"),
    "enum": (lambda value: isinstance(value, list), "a list"),
    "required": (_is_names, "a list of names"),
    "dependentRequired": (_is_dependency, "lists of names by name"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    **dict.fromkeys(("minimum", "maximum"), (_is_number, "a number")),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), (_is_bound, "a number")),
    **dict.fromkeys(
        (
            *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
            *("minContains", "maxContains"),
        ),
        (_is_count, "a whole number of at least 0"),
    ),
    **dict.fromkeys(
        ("pattern", "format", "$ref"), (lambda value: isinstance(value, str), "a text")
    ),
    **dict.fromkeys(MAPS, (lambda value: isinstance(value, dict), "an object of schemas")),
    **dict.fromkeys(
        LISTS, (lambda value: isinstance(value, list) and len(value) > 0, "a list of schemas")
    ),
    **dict.fromkeys(SINGLE - {"items"}, (is_schema, "a schema")),
    "items": (lambda value: is_schema(value) or isinstance(value, list), "a schema"),
}
