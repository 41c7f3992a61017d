"""Makes up a JSON value that satisfies a JSON Schema, as small and as plain as it can.

Libraries that generate values make them at random, for finding faults; the built-in agent script
answers the same every time. Whether a value fits is `jsonschema`'s to judge.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
Hint = Callable[[str], Sequence[Json]]
"""Values to prefer for a property of this name, if they fit."""

LARGEST_EFFORT = 5_000
"""Schemas looked at, after which the best so far has to do; ends what would double for ever."""
MOST_REFERENCES = 1_000
"""References followed to judge values, after which none fits; ends the same."""
DEEPEST = 32
"""References inside each other in judging a value."""
SAME_REFERENCE = 2
"""How often a reference may lie inside itself."""
LARGEST_ARRAY = 1000
LARGEST_TEXT = 100_000

_TEXTS = ("text", "README.md", "a", "A", "0", "1", "a1", "abc-123", "2026-01-31", "ABC123", "")
_FORMATS: dict[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "email": "user@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/",
    "uri-reference": "/",
    "url": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "regex": "a",
    "json-pointer": "/a",
}
# Each keyword with those that go with it, in the order they are resolved: alternatives that can't
# be merged with others are put into `allOf`, so that comes after them.
_COMPOSING: dict[str, tuple[str, ...]] = {
    "$ref": ("$ref",),
    "anyOf": ("anyOf",),
    "oneOf": ("oneOf",),
    "allOf": ("allOf",),
    "if": ("if", "then", "else"),
}
_IMPLIED = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def no_hint(_: str) -> Sequence[Json]:
    return ()


def instance(schema_text: str, hint: Hint = no_hint) -> Json:
    """A value for the schema in `schema_text`; the nearest thing found if none is."""
    try:
        root: Json = json.loads(schema_text)
        return Maker(root, hint).make(root)
    except (ValueError, RecursionError, ArithmeticError):
        return {}


class Judge:
    """Whether values satisfy the schemas of one document; all do if it is no schema itself."""

    def __init__(self, root: Json) -> None:
        # Imported when it is needed, as most servers have a model and start without it.
        import jsonschema
        from referencing.exceptions import Unresolvable

        base = jsonschema.validators.validator_for(root, default=jsonschema.Draft202012Validator)
        validator = jsonschema.validators.extend(base, {"$ref": self._followed(base)})
        self._errors = (Unresolvable, re.error, RecursionError, ArithmeticError)
        self._left, self._depth = MOST_REFERENCES, 0
        try:
            base.check_schema(root)
            self._validator: Any = validator(root)
        except (jsonschema.SchemaError, RecursionError):
            self._validator = None

    def fits(self, schema: Json, value: Json) -> bool:
        """Whether `value` satisfies `schema`, a part of the document."""
        if self._validator is None:
            return True
        try:
            return bool(self._validator.evolve(schema=schema).is_valid(value))
        except self._errors:
            return False

    def _followed(self, base: Any) -> Callable[..., Iterator[Any]]:
        """The library's `$ref`, which counts: a schema can double the work at every level."""

        def follow(validator: Any, *arguments: Any) -> Iterator[Any]:
            self._left -= 1
            self._depth += 1
            try:
                if self._left < 0 or self._depth > DEEPEST:
                    raise RecursionError
                yield from base.VALIDATORS["$ref"](validator, *arguments) or ()
            finally:
                self._depth -= 1

        return follow


class Maker:
    """Makes values for the schemas of one document."""

    def __init__(self, root: Json, hint: Hint) -> None:
        self._root = root
        self._hint = hint
        self._judge = Judge(root)
        self._effort = 0

    def make(self, schema: Json, name: str = "", inside: tuple[str, ...] = ()) -> Json:
        """The first candidate that fits, else the first one; `inside` are references followed."""
        candidates = self._candidates(schema, name, inside)
        first = next(candidates, None)
        for candidate in chain([first], candidates):
            if self._judge.fits(schema, candidate):
                return candidate
        return first

    def _candidates(self, schema: Json, name: str, inside: tuple[str, ...]) -> Iterator[Json]:
        """Values worth a try, the likeliest first."""
        for fields, depth in self._variants(schema, inside):
            if "const" in fields:
                yield fields["const"]
            yield from as_list(fields.get("enum"))
            yield from self._hint(name)
            if "default" in fields:
                yield fields["default"]
            yield from as_list(fields.get("examples"))
            for type_ in _types(fields):
                yield from self._of_type(type_, fields, depth)

    def _variants(
        self, schema: Json, inside: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, Json], tuple[str, ...]]]:
        """The plain schemas that a composed one allows, with the references followed so far."""
        self._effort += 1
        if schema is False or self._effort > LARGEST_EFFORT:
            return
        fields = as_dict(schema)
        keyword = next((each for each in _COMPOSING if each in fields), None)
        if keyword is None:
            yield fields, inside
            return
        if keyword == "$ref":
            reference = str(fields["$ref"])
            if inside.count(reference) >= SAME_REFERENCE:
                return
            inside = (*inside, reference)
        rest = {key: value for key, value in fields.items() if key not in _COMPOSING[keyword]}
        for part in self._parts(keyword, fields):
            if part is not False:
                yield from self._variants(merged(as_dict(part), rest), inside)

    def _parts(self, keyword: str, fields: dict[str, Json]) -> list[Json]:
        """The schemas of which one has to be merged into the rest."""
        value = fields[keyword]
        match keyword:
            case "$ref":
                return [resolve(value, self._root)]
            case "allOf":
                whole: dict[str, Json] = {}
                for part in as_list(value):
                    whole = merged(whole, as_dict(part))
                return [whole]
            case "if":
                then = merged(as_dict(value), as_dict(fields.get("then")))
                return [then, fields.get("else", {}), {}]
            case _:
                return sorted(as_list(value), key=lambda part: as_dict(part).get("type") == "null")

    def _of_type(
        self, type_: Json, fields: dict[str, Json], inside: tuple[str, ...]
    ) -> Iterator[Json]:
        match type_:
            case "string":
                yield from _strings(fields)
            case "integer" | "number":
                yield from _numbers(fields, whole=type_ == "integer")
            case "boolean":
                yield from (False, True)
            case "null":
                yield None
            case "array":
                yield self._array(fields, inside)
            case "object":
                yield self._object(fields, inside)

    def _array(self, fields: dict[str, Json], inside: tuple[str, ...]) -> list[Json]:
        heads, rest = tuple_schemas(fields)
        size = int(number(fields.get("minItems")) or 0)
        items = [self.make(head, "", inside) for head in heads]
        if "contains" in fields:
            found = min(int(number(fields.get("minContains", 1)) or 0), LARGEST_ARRAY)
            items += [self.make(fields["contains"], "", inside) for _ in range(found)]
        wanted = min(size, LARGEST_ARRAY) - len(items)
        if fields.get("uniqueItems") is True and wanted > 0:
            return items + self._different(rest, wanted, inside)
        return items + [self.make(rest, "", inside) for _ in range(wanted)]

    def _different(self, schema: Json, count: int, inside: tuple[str, ...]) -> list[Json]:
        """So many values for one schema, no two the same."""
        found: list[Json] = []
        for item in islice(self._candidates(schema, "", inside), LARGEST_ARRAY):
            if len(found) == count:
                break
            if self._judge.fits(schema, item) and not any(same(item, each) for each in found):
                found.append(item)
        model = found[0] if found else None
        return found + [_numbered(model, at) for at in range(len(found), count)]

    def _object(self, fields: dict[str, Json], inside: tuple[str, ...]) -> dict[str, Json]:
        known = as_dict(fields.get("properties"))
        names = [str(name) for name in as_list(fields.get("required"))]
        names = names or [name for name in known if self._hint(name)][:1]
        for name, others in as_dict(fields.get("dependentRequired")).items():
            names += [str(other) for other in as_list(others)] if name in names else []
        missing = int(number(fields.get("minProperties")) or 0) - len(names)
        spare = [name for name in known if name not in names]
        spare += [f"key{at}" for at in range(min(missing, LARGEST_ARRAY))]
        made: dict[str, Json] = {}
        for name in (*names, *spare[: max(0, missing)]):
            made[name] = self.make({"allOf": property_schemas(fields, name)}, name, inside)
        return made


def merged(one: dict[str, Json], other: dict[str, Json]) -> dict[str, Json]:
    """One schema that asks for what both ask for, as far as a single schema can."""
    result = dict(one)
    for key, value in other.items():
        result[key] = _both(key, result[key], value) if key in result else value
        if key in ("anyOf", "oneOf") and key in one:
            result[key] = one[key]
            result["allOf"] = [*as_list(result.get("allOf")), {key: value}]
    return result


def _both(key: str, one: Json, other: Json) -> Json:
    match one, other:
        case (dict(), dict()) if key in ("properties", "patternProperties", "dependentRequired"):
            shared = {name: _both_schemas(one[name], other[name]) for name in one if name in other}
            return {**one, **other, **shared}
        case (list(), list()) if key in ("required", "allOf"):
            return [*one, *(each for each in other if not any(same(each, has) for has in one))]
        case (list(), list()) if key in ("enum", "type"):
            return [each for each in one if any(same(each, has) for has in other)]
        case (list(), str()) | (str(), list()) if key == "type":
            return other if isinstance(other, str) else one
        case (int() | float(), int() | float()) if key.startswith(("min", "exclusiveMin")):
            return max(one, other)
        case (int() | float(), int() | float()) if key.startswith(("max", "exclusiveMax")):
            return min(one, other)
    return other


def _both_schemas(one: Json, other: Json) -> Json:
    match one, other:
        case (dict(), dict()):
            return merged(one, other)
        case (list(), list()):
            return _both("required", one, other)
    return one if other is True else other


def _types(fields: dict[str, Json]) -> list[Json]:
    """The types to try; for a schema that names none those that its keywords are about."""
    named = fields.get("type")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return sorted(named, key=lambda each: each == "null")
    implied = [type_ for type_, words in _IMPLIED.items() if any(word in fields for word in words)]
    return [*implied, "string", "object", "array", "integer", "boolean", "null"]


def _strings(fields: dict[str, Json]) -> Iterator[str]:
    if isinstance(form := fields.get("format"), str) and form in _FORMATS:
        yield _FORMATS[form]
    low = int(number(fields.get("minLength")) or 0)
    high = number(fields.get("maxLength"))
    for text in _TEXTS:
        longer = text.ljust(min(low, LARGEST_TEXT), text[-1:] or " ")
        sized = longer if high is None else longer[: int(high)]
        if matches(fields.get("pattern"), sized):
            yield sized


def _numbers(fields: dict[str, Json], *, whole: bool) -> Iterator[float]:
    """Candidates from the plain ones to those at the limits; which of them fit is seen later."""
    low = number(fields.get("minimum", fields.get("exclusiveMinimum")))
    high = number(fields.get("maximum", fields.get("exclusiveMaximum")))
    step = number(fields.get("multipleOf")) or 1
    if low is not None:
        multiple = -(-low // step) * step
        yield from (multiple, multiple + step)
    if high is not None:
        multiple = high // step * step
        yield from (multiple, multiple - step)
    yield from (step, 0, -step)
    if not whole:
        yield 0.5 if low is None or high is None else (low + high) / 2


def _numbered(item: Json, at: int) -> Json:
    """Another item like this one, for an array that wants no two the same."""
    match item:
        case bool() | None:
            return at
        case int() | float():
            return item + at
        case str():
            return f"{item}{at}"
    return item


def same(one: Json, other: Json) -> bool:
    """Equality as JSON has it: `true` is not `1`."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


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
