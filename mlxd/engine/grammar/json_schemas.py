"""JSON Schemas of callers: limits, what is no schema, and what a grammar has no use for.

A schema is read into one that stands on its own: all references lead to its `$defs`, so that each
part can be compiled with them and without the rest. What can't be used is left out at the smallest
place, and told with its path; who has asked for the schema decides whether that is an error.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from mlxd.engine.grammar.schema_keywords import NESTING, fault_of, holder, is_schema

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

_DEFINITIONS = "#/$defs/"
# The first would set options of llguidance; definitions are written anew. The others constrain
# nothing, and a grammar is cached by its text.
_DROPPED = frozenset(
    {
        *("x-guidance", "$defs", "definitions", "$schema", "$id", "$comment", "title"),
        *("description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    }
)
_MAX_RECURSION = 100

Path = tuple[str, ...]
Schema = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What is left out of a schema: the path to it from the schema's root, and why."""

    path: Path
    reason: str

    @property
    def place(self) -> str:
        """The path in one text; empty for the schema as a whole."""
        return ".".join(self.path)


@dataclass(frozen=True)
class ReadSchema:
    """A schema that can be compiled on its own, without its `faults`.

    `path` is where the caller wrote it, `definitions` where each entry of `$defs`.
    """

    schema: Schema
    faults: tuple[Fault, ...] = ()
    path: Path = ()
    definitions: dict[str, Path] = field(default_factory=dict)


def read_schema(text: str) -> ReadSchema:
    """The schema in `text`; any value where it is none at all."""
    if len(text.encode()) > MAX_BYTES:
        return _nothing(f"it is larger than {MAX_BYTES} bytes")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        return _nothing("it is not valid JSON")
    if not isinstance(schema, dict):
        return _nothing("it must be a JSON object")
    return _SchemaReader(schema).read()


def read_parameters(text: str) -> ReadSchema:
    """The schema of a tool's parameters, which are an object whatever else the schema says."""
    read = _without_reference(read_schema(text))
    root, faults = dict(read.schema), list(read.faults)
    for keyword in ("type", "enum", "const", "$ref", "allOf", "anyOf", "oneOf"):
        alone = {each: root[each] for each in (keyword, "$defs") if each in root}
        if keyword in root and not _may_be_object(alone, root, set()):
            del root[keyword]
            faults.append(Fault((*read.path, keyword), "the parameters of a tool are an object"))
    return replace(read, schema={**root, "type": "object"}, faults=tuple(faults))


def _nothing(why: str) -> ReadSchema:
    return ReadSchema({}, (Fault((), why),))


def _without_reference(read: ReadSchema) -> ReadSchema:
    """A root that is only a reference as what it refers to: its properties are looked for there."""
    root, path = read.schema, read.path
    followed = set[str]()
    while root.keys() == {"$ref", "$defs"} and root["$ref"] not in followed:
        reference = root["$ref"]
        followed.add(reference)
        target = _definition(root, reference)
        if not isinstance(target, dict):
            break
        root = {**target, "$defs": root["$defs"]}
        path = read.definitions[reference.removeprefix(_DEFINITIONS)]
    return replace(read, schema=root, path=path)


def _definition(root: Schema, reference: str) -> Any:
    return root["$defs"][reference.removeprefix(_DEFINITIONS)]


def _may_be_object(schema: Any, root: Schema, followed: set[str], depth: int = 0) -> bool:
    """Whether an object can satisfy a schema, as far as types say; `root` has its definitions."""
    if not isinstance(schema, dict) or depth > _MAX_RECURSION:
        return schema is not False
    named = schema.get("type", "object")
    values = schema.get("enum", [schema["const"]] if "const" in schema else [{}])
    if "object" not in (named if isinstance(named, list) else [named]):
        return False
    if not any(isinstance(value, dict) for value in values):
        return False
    parts = list(schema.get("allOf", ()))
    # Each reference once: they may lead to each other, and double the work at every step.
    if (reference := schema.get("$ref")) is not None and reference not in followed:
        followed.add(reference)
        parts.append(_definition(root, reference))
    unions = [schema[keyword] for keyword in ("anyOf", "oneOf") if keyword in schema]
    return all(_may_be_object(part, root, followed, depth + 1) for part in parts) and all(
        any(_may_be_object(part, root, followed, depth + 1) for part in union) for union in unions
    )


class _SchemaReader:
    """Copies a schema without its faults, and counts what is in it."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._faults: list[Fault] = []
        self._names: dict[str, str] = {}
        """The definition that each reference leads to."""
        self._definitions: Schema = {}
        self._places: dict[str, Path] = {}
        self._waiting: list[tuple[str, Any, Path]] = []
        self._properties = 0
        self._values = 0

    def read(self) -> ReadSchema:
        schema = self._schema(self._root, (), 0)
        # One after the other instead of inside each other, or a chain of references would be deep.
        while self._waiting:
            name, target, path = self._waiting.pop()
            self._definitions[name] = self._schema(target, path, 0)
        if self._definitions:
            schema = {**schema, "$defs": self._definitions}
        faults = tuple(dict.fromkeys(self._faults))
        return ReadSchema(schema, faults, definitions=self._places)

    def _schema(self, schema: Any, path: Path, depth: int, recursion: int = 0) -> Any:
        if not is_schema(schema):
            return self._left_out(path, "it must be a schema")
        if isinstance(schema, bool):
            return schema
        if depth > MAX_DEPTH or recursion > _MAX_RECURSION:
            why = f"the schema nests objects and arrays more than {MAX_DEPTH} deep"
            return self._left_out(path, why)
        copied: Schema = {}
        for keyword, value in schema.items():
            if keyword in _DROPPED or (keyword == "format" and _is_note(value)):
                continue
            if reason := fault_of(keyword, value) or self._beyond_limits(keyword, value):
                self._left_out((*path, keyword), reason)
            elif keyword == "$ref":
                copied |= self._reference(value, (*path, keyword))
            else:
                place = (*path, keyword)
                copied[keyword] = self._value(keyword, value, place, (depth, recursion + 1))
        return copied

    def _value(self, keyword: str, value: Any, path: Path, level: tuple[int, int]) -> Any:
        depth, recursion = level
        depth += keyword in NESTING
        match holder(keyword, value):
            case "map":
                named = self._readable(value, path) if keyword == "patternProperties" else value
                return {
                    name: self._schema(each, (*path, name), depth, recursion)
                    for name, each in named.items()
                }
            case "list":
                return [
                    self._schema(each, (*path, str(number)), depth, recursion)
                    for number, each in enumerate(value)
                ]
            case "single":
                return self._schema(value, path, depth, recursion)
        return value

    def _readable(self, patterns: Schema, path: Path) -> Schema:
        short = {each for each in patterns if len(each.encode()) <= MAX_PATTERN}
        for pattern in patterns.keys() - short:
            why = f"a pattern has more than {MAX_PATTERN} bytes"
            self._left_out((*path, pattern[:MAX_PATTERN]), why)
        return {pattern: each for pattern, each in patterns.items() if pattern in short}

    def _beyond_limits(self, keyword: str, value: Any) -> str:
        match keyword:
            case "properties":
                self._properties += len(value)
                if self._properties > MAX_PROPERTIES:
                    return f"the schema has more than {MAX_PROPERTIES} properties"
            case "enum":
                self._values += len(value)
                if self._values > MAX_VALUES:
                    return f"the schema has more than {MAX_VALUES} enum values"
            case "pattern" if len(value.encode()) > MAX_PATTERN:
                return f"it has more than {MAX_PATTERN} bytes"
        return ""

    def _reference(self, reference: str, path: Path) -> Schema:
        """The reference as one to a definition; nothing where it leads nowhere."""
        if reference not in self._names:
            steps = _steps(reference)
            target = None if steps is None else _at(self._root, steps)
            if steps is not None and target is None:
                # A fragment is written as in addresses, though most writers of schemas forget it.
                steps = tuple(map(unquote, steps))
                target = _at(self._root, steps)
            if steps is None or not is_schema(target):
                elsewhere = not reference.startswith("#")
                why = "schemas elsewhere are not fetched" if elsewhere else "nothing is there"
                self._left_out(path, f"{reference[:64]!r} can't be followed: {why}")
                return {}
            name = next((key for key, place in self._places.items() if place == steps), "")
            if not name:
                name = f"d{len(self._places)}"
                self._places[name] = steps
                self._waiting.append((name, target, steps))
            self._names[reference] = name
        return {"$ref": _DEFINITIONS + self._names[reference]}

    def _left_out(self, path: Path, why: str) -> Schema:
        self._faults.append(Fault(path, why))
        return {}


def _is_note(form: Any) -> bool:
    return isinstance(form, str) and form not in FORMATS


def _steps(reference: str) -> Path | None:
    """The way that a reference within the schema describes."""
    if reference in ("#", "#/"):
        return ()
    if not reference.startswith("#/"):
        return None
    steps = reference.removeprefix("#/").split("/")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def _at(node: Any, steps: Path) -> Any:
    for step in steps:
        if isinstance(node, list) and step.isdecimal() and int(step) < len(node):
            node = node[int(step)]
        elif isinstance(node, dict):
            node = node.get(step)
        else:
            return None
    return node
