"""Argument values that a notation writes as plain text, typed by the tool's JSON Schema."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

from mlxd.engine.notations.reading.strings import Emit, escaped, quoted
from mlxd.engine.notations.reading.values import PYTHON, as_json, is_number

Kind = Literal["string", "integer", "number", "boolean", "null", "object", "array", "any", "quoted"]
Kinds = tuple[Kind, ...]

STRING: Kinds = ("string",)
ANY: Kinds = ("any",)

Lines = Literal["", "own", "either"]
"""Whether a value stands on lines of its own; with "either", if it begins with a line break."""
OBJECT_OR_STRING: Kinds = ("object", "array", "string")

WRAPPERS = ("arguments", "input", "parameters", "properties")
"""Parameters that models make up to write all arguments in, as one JSON object."""

_DEPTH = 8
"""Unions and references are followed this deep."""

_NAMES: dict[str, Kind] = {
    **{"string": "string", "str": "string", "text": "string"},
    **{"integer": "integer", "int": "integer", "number": "number", "float": "number"},
    **{"boolean": "boolean", "bool": "boolean", "null": "null"},
    **{"object": "object", "dict": "object", "array": "array", "list": "array"},
}


class ToolSchema:
    """What a tool's parameters may be."""

    def __init__(self, parameters: str) -> None:
        self._root = _object(parameters)
        properties = self._root.get("properties")
        self._properties = properties if isinstance(properties, dict) else {}
        required = self._root.get("required")
        self.required = frozenset(
            key for key in (required if isinstance(required, list) else ()) if isinstance(key, str)
        )

    def knows(self, key: str) -> bool:
        """Whether there is an argument of this name; any may be where the schema names none."""
        return not self._properties or self.kinds(key) is not None

    def kinds(self, key: str) -> Kinds | None:
        """The types of one argument in order; empty when it has none, None when it is unknown."""
        schema = self._properties.get(key, self._root.get("additionalProperties"))
        if key not in self._properties and not schema:
            return None
        return tuple(dict.fromkeys(self._kinds(schema, _DEPTH, set())))

    def _kinds(self, schema: Any, depth: int, followed: set[str]) -> Iterator[Kind]:
        """The types of `schema`; a reference is followed once, since it may lead to itself."""
        if not isinstance(schema, dict) or depth == 0:
            return
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:
            followed.add(reference)
            yield from self._kinds(referenced(self._root, reference), depth - 1, followed)
        yield from _declared(schema)
        for union in ("anyOf", "oneOf", "allOf"):
            choices = schema.get(union)
            for choice in choices if isinstance(choices, list) else ():
                yield from self._kinds(choice, depth - 1, followed)


def referenced(root: Any, reference: str) -> Any:
    """The part of a schema that a reference such as `#/$defs/name` names; None where it is none."""
    node = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if not isinstance(node, dict):
            return None
        node = node.get(step.replace("~1", "/").replace("~0", "~"))
    return node


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _declared(schema: dict[str, Any]) -> Iterator[Kind]:
    declared = schema.get("type")
    names = declared if isinstance(declared, list) else [declared]
    found = [_NAMES[name] for name in names if isinstance(name, str) and name in _NAMES]
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if not found and isinstance(values, list):
        found = [_kind_of(value) for value in values]
    if not found and "properties" in schema:
        found = ["object"]
    if not found and "items" in schema:
        found = ["array"]
    yield from found


def _kind_of(value: Any) -> Kind:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case dict():
            return "object"
        case list():
            return "array"
        case _:
            return "string"


def written_as_json(kinds: Kinds) -> Kinds:
    """The types of a value that is said to be JSON, in order; a text may lack its quotes."""
    texts: Kinds = ("quoted", "string") if "string" in kinds else ANY
    return (*(kind for kind in kinds if kind != "string"), *texts)


def typed(text: str, kinds: Kinds) -> str:
    """`text` as JSON of the first of `kinds` that it fits; a string when it fits none.

    The literal `null` wins over every other type that allows it besides.
    """
    word = text.strip()
    if "null" in kinds and word in _NULLS and len(text) <= _LONGEST_NULL:
        return "null"
    for kind in kinds:
        value = _FITS[kind](text if kind == "string" else word)
        if value is not None:
            return value
    return "null" if kinds != STRING and word == "null" else quoted(text)


_NULLS = ("null", "None")
_LONGEST_NULL = 16
"""Characters, with the white space around it, that the word null may take in a nullable string."""


def _integer(text: str) -> str | None:
    if not is_number(text):
        return None
    if text.removeprefix("-").isdigit():
        return text
    # Models write 3.0 for 3; past 2**53 a float does not hold every integer.
    number = float(text)
    return str(int(number)) if abs(number) < 2**53 and number.is_integer() else None


def _boolean(text: str) -> str | None:
    word = text.lower()
    return word if word in ("true", "false") else None


def _container(text: str, opening: str, openings: str) -> str | None:
    if text[:1] not in tuple(openings):
        return None
    value = as_json(text) or as_json(text, PYTHON)
    return value if value is not None and value[0] == opening else None


def _any(text: str) -> str | None:
    if value := as_json(text):
        return value
    return as_json(text, PYTHON) if text[:1] in ("{", "[") else None


_FITS: dict[Kind, Callable[[str], str | None]] = {
    "string": quoted,
    "integer": _integer,
    "number": lambda text: text if is_number(text) else None,
    "boolean": _boolean,
    "null": lambda text: "null" if text in _NULLS else None,
    "object": lambda text: _container(text, "{", "{"),
    "array": lambda text: _container(text, "[", "[("),
    "any": _any,
    "quoted": lambda text: as_json(text) if text[:1] == '"' else None,
}


class ValueWriter:
    """Writes one value as JSON while its text arrives: strings at once, the rest when whole.

    Where the value stands on lines of its own, their line breaks are not part of it.
    """

    def __init__(self, emit: Emit, kinds: Kinds, *, lines: Lines = "") -> None:
        self._emit = emit
        self._kinds = kinds
        self._lines = lines
        self._streams = next((kind for kind in kinds if kind != "null"), "") == "string"
        self._open = False
        self._begun = lines == ""
        self._held = ""
        self._parts: list[str] = []

    def feed(self, text: str) -> None:
        """More of the value's text."""
        if not text:
            return
        if not self._begun:
            self._begun = True
            if self._lines == "either" and text[0] != "\n":
                self._lines = ""
            text = text.removeprefix("\n")
        if self._lines:
            text = self._held + text
            self._held = "\n" if text.endswith("\n") else ""
            text = text.removesuffix("\n")
        self._parts.append(text)
        if self._streams:
            self._stream()

    def close(self) -> None:
        """The value is whole."""
        if self._open:
            self._emit('"')
        else:
            self._emit(typed("".join(self._parts), self._kinds))

    def _stream(self) -> None:
        if not self._open:
            # A nullable string may still turn out to be the word null.
            text = "".join(self._parts)
            if "null" in self._kinds and _may_be_null(text):
                return
            self._open = True
            self._emit('"')
            self._parts = [text]
        self._emit(escaped("".join(self._parts)))
        self._parts.clear()


def _may_be_null(text: str) -> bool:
    word = text.strip()
    if len(text) > _LONGEST_NULL:
        return False
    return any(null.startswith(word) for null in _NULLS)


class WrappedWriter:
    """Writes the members of an object as arguments of their own; `name` is what it is a value of.

    An object without any argument that the tool has stays one value, and so does all else.
    """

    def __init__(
        self, members: "ObjectWriter", schema: ToolSchema, name: str, kinds: Kinds
    ) -> None:
        self._members = members
        self._schema = schema
        self._name = name
        self._kinds = kinds
        self._parts: list[str] = []

    def feed(self, text: str) -> None:
        """More of the value's text."""
        self._parts.append(text)

    def close(self) -> None:
        """The value is whole."""
        text = "".join(self._parts)
        found = _object(_container(text.strip(), "{", "{") or "")
        if not any(map(self._schema.knows, found)):
            self._members.member(self._name)(typed(text, self._kinds))
            return
        for name, value in found.items():
            self._members.member(name)(json.dumps(value, ensure_ascii=False))


class ObjectWriter:
    """Writes the members of one JSON object; `remark` is told what is left out."""

    def __init__(self, emit: Emit, remark: Callable[[str], None]) -> None:
        self._emit = emit
        self._remark = remark
        self.names: set[str] = set()
        """The members so far."""

    def member(self, name: str) -> Emit:
        """The next member begins; returns where its value goes.

        A name that was there already is not written again: what was sent can't be taken back, and
        many decoders refuse an object that has a name twice.
        """
        if name in self.names:
            self._remark("tool call repaired: an argument that comes twice; the first one counts")
            return lambda _: None
        self._emit(f"{', ' if self.names else '{'}{quoted(name)}: ")
        self.names.add(name)
        return self._emit

    def end(self) -> None:
        """The object is whole."""
        self._emit("}" if self.names else "{}")


ArgumentWriter = ValueWriter | WrappedWriter
