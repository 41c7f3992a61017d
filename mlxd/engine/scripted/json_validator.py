"""Whether a JSON value satisfies a JSON Schema: the keywords that tools and answers use.

For the built-in agent script, which has to know that what it makes up fits. Unknown keywords and
formats are taken as satisfied.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

DEEPEST = 64
"""References and subschemas inside each other; past it a schema counts as not satisfied."""
LARGEST_EFFORT = 50_000
"""Values looked at by one checker, all in all; past it nothing is satisfied. A schema can double
the work at every level."""


def kind(value: Json) -> str:
    """The most special JSON Schema type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"


def same(one: Json, other: Json) -> bool:
    """Equality as JSON has it: `true` is not `1`."""
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case (list(), list()):
            return len(one) == len(other) and all(map(same, one, other))
        case (dict(), dict()):
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def as_dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def number(value: Json) -> float | None:
    """The value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def resolve(reference: Json, root: Json) -> Json:
    """The schema that `#`, `#/$defs/…` or `#name` points to; `False` when there is none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    target = root
    for step in filter(None, reference[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        match target:
            case dict() if name in target:
                target = target[name]
            case list() if name.isdigit() and int(name) < len(target):
                target = target[int(name)]
            case _:
                return False
    return target


class Checker:
    """Judges values by the schemas of one document."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._effort = 0

    def fits(self, schema: Json, value: Json, depth: int = 0) -> bool:
        """Whether `value` satisfies `schema`."""
        if not isinstance(schema, dict):
            return schema is not False
        self._effort += 1
        if depth > DEEPEST or self._effort > LARGEST_EFFORT:
            return False
        checks = (self._fits_itself, self._fits_logic, self._fits_kind)
        return all(check(schema, value, depth + 1) for check in checks)

    def _fits_itself(self, schema: dict[str, Json], value: Json, depth: int) -> bool:
        if "$ref" in schema and not self.fits(resolve(schema["$ref"], self._root), value, depth):
            return False
        if "const" in schema and not same(schema["const"], value):
            return False
        if "enum" in schema and not any(same(each, value) for each in as_list(schema["enum"])):
            return False
        return _fits_type(schema.get("type"), value)

    def _fits_logic(self, schema: dict[str, Json], value: Json, depth: int) -> bool:
        def hits(keyword: str) -> int:
            return sum(self.fits(each, value, depth) for each in as_list(schema.get(keyword)))

        if hits("allOf") < len(as_list(schema.get("allOf"))):
            return False
        if "anyOf" in schema and not hits("anyOf"):
            return False
        if "oneOf" in schema and hits("oneOf") != 1:
            return False
        if "not" in schema and self.fits(schema["not"], value, depth):
            return False
        if "if" not in schema:
            return True
        branch = "then" if self.fits(schema["if"], value, depth) else "else"
        return self.fits(schema.get(branch, True), value, depth)

    def _fits_kind(self, schema: dict[str, Json], value: Json, depth: int) -> bool:
        match value:
            case str():
                return _fits_string(schema, value)
            case bool() | None:
                return True
            case int() | float():
                return _fits_number(schema, value)
            case list():
                return self._fits_array(schema, value, depth)
            case dict():
                return self._fits_object(schema, value, depth)

    def _fits_array(self, schema: dict[str, Json], value: list[Json], depth: int) -> bool:
        if not _in_bounds(len(value), schema.get("minItems"), schema.get("maxItems")):
            return False
        if schema.get("uniqueItems") is True and any(
            same(one, other) for at, one in enumerate(value) for other in value[:at]
        ):
            return False
        heads, rest = tuple_schemas(schema)
        if not all(self.fits(head, each, depth) for head, each in zip(heads, value, strict=False)):
            return False
        if not all(self.fits(rest, each, depth) for each in value[len(heads) :]):
            return False
        if "contains" not in schema:
            return True
        found = sum(self.fits(schema["contains"], each, depth) for each in value)
        return _in_bounds(found, schema.get("minContains", 1), schema.get("maxContains"))

    def _fits_object(self, schema: dict[str, Json], value: dict[str, Json], depth: int) -> bool:
        needed = [*as_list(schema.get("required"))]
        for name, others in as_dict(schema.get("dependentRequired")).items():
            needed += as_list(others) if name in value else []
        if not all(name in value for name in needed):
            return False
        if not _in_bounds(len(value), schema.get("minProperties"), schema.get("maxProperties")):
            return False
        if not all(self.fits(schema.get("propertyNames", True), name, depth) for name in value):
            return False
        return all(
            self.fits(each, inner, depth)
            for name, inner in value.items()
            for each in property_schemas(schema, name)
        )


def tuple_schemas(schema: Mapping[str, Json]) -> tuple[list[Json], Json]:
    """The schemas of an array's first items, and that of all others."""
    items = schema.get("items", True)
    if isinstance(items, list):
        return items, schema.get("additionalItems", True)
    return as_list(schema.get("prefixItems")), items


def property_schemas(schema: Mapping[str, Json], name: str) -> list[Json]:
    """All schemas that the property `name` has to satisfy."""
    known = as_dict(schema.get("properties"))
    found = [known[name]] if name in known else []
    for pattern, inner in as_dict(schema.get("patternProperties")).items():
        if matches(pattern, name):
            found.append(inner)
    return found or [schema.get("additionalProperties", True)]


def matches(pattern: Json, text: str) -> bool:
    """Whether a pattern is found in `text`; one that Python can't read is."""
    try:
        return not isinstance(pattern, str) or re.search(pattern, text) is not None
    except re.error:
        return True


def _fits_type(types: Json, value: Json) -> bool:
    if types is None:
        return True
    names = types if isinstance(types, list) else [types]
    found = kind(value)
    return found in names or (found == "integer" and "number" in names)


def _fits_string(schema: dict[str, Json], value: str) -> bool:
    return _in_bounds(len(value), schema.get("minLength"), schema.get("maxLength")) and matches(
        schema.get("pattern"), value
    )


def _fits_number(schema: dict[str, Json], value: float) -> bool:
    limits: tuple[tuple[str, Callable[[float], bool]], ...] = (
        ("minimum", lambda limit: value >= limit),
        ("maximum", lambda limit: value <= limit),
        ("exclusiveMinimum", lambda limit: value > limit),
        ("exclusiveMaximum", lambda limit: value < limit),
        ("multipleOf", lambda step: _is_multiple(value, step)),
    )
    return all(
        holds(limit)
        for keyword, holds in limits
        if (limit := number(schema.get(keyword))) is not None
    )


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return step == 0 or value % step == 0
    ratio = value / step if step else 0.0
    return math.isclose(ratio, round(ratio), abs_tol=1e-9)


def _in_bounds(size: float, low: Json, high: Json) -> bool:
    return (number(low) or 0) <= size <= (math.inf if (top := number(high)) is None else top)
