"""Arguments that a notation writes as plain text instead of JSON, as Lark terminals."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llguidance import regex_to_lark

from mlxd.engine.notations.reading.schema import ToolSchema, referenced
from mlxd.errors import InvalidField

ANY = r"(?s:.)"
SPACES = r"[ \t\r\n]*"
_NO_NULL = r" & ~/\s*(null|None)\s*/"
_NULL = '"null"'
_REFERENCES = 8


@dataclass(frozen=True)
class ToolShape:
    """An offered tool: its schema, parsed, with what can't be enforced taken out."""

    name: str
    schema: dict[str, Any]
    strict: bool


def expression(text: str) -> str:
    """A text as a regular expression."""
    # Every odd character by its number: Lark and the engine of expressions escape differently.
    return "".join(
        char if char.isalnum() or char in "_ " else f"\\x{{{ord(char):x}}}" for char in text
    )


class PlainValues:
    """Terminals of the texts that a notation writes as they are.

    `inside` are expressions of what would end a value for the reader, `first` of what its reader
    would take off its beginning.
    """

    def __init__(self, inside: Sequence[str], first: str = "") -> None:
        self.without = f" & ~/{ANY}*({'|'.join(inside)}){ANY}*/" if inside else ""
        self.without += f" & ~/{first}{ANY}*/" if first else ""

    @property
    def free(self) -> str:
        """The terminal of any text."""
        return f"/{ANY}*/{self.without}"

    def terminals(self, schema: Any, tool: ToolShape) -> list[str] | None:
        """Terminals whose texts satisfy `schema`; None where the value is JSON."""
        kinds = _kinds(schema)
        streamed = next((kind for kind in kinds if kind != "null"), "")
        if streamed != "string" or not isinstance(schema, dict):
            return None
        return self._bodies(schema, schema, tool)

    def _bodies(self, schema: Any, root: dict[str, Any], tool: ToolShape) -> list[str]:
        """Terminals of the texts that satisfy one of the schema's choices."""
        schema = _resolved(schema, root)
        for union in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(union), list):
                texts = [each for each in branches if "string" in _kinds(each, root)]
                return [body for each in texts for body in self._bodies(each, root, tool)]
        choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(choices, list):
            texts = [choice for choice in choices if isinstance(choice, str)]
            return [json.dumps(text, ensure_ascii=False) for text in texts if text] or ['""']
        body = self._text(schema, tool)
        if body != self.free and "null" in _kinds(schema, root):
            # The word is no text then, and need not be like one.
            return [body + _NO_NULL, _NULL]
        return [body]

    def without_strings(self, schema: Any, tool: ToolShape) -> Any:
        """`schema` without strings: their quotes would be read as a part of them."""
        kinds = [kind for kind in _kinds(schema) if kind not in ("string", "any")]
        if "string" not in _kinds(schema) or not kinds:
            return schema
        types = {"type": list(dict.fromkeys(kinds))}
        if not isinstance(schema, dict):
            return types
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        rest = {key: value for key, value in schema.items() if key not in shared}
        return {**shared, "allOf": [rest, types]}

    def _text(self, schema: dict[str, Any], tool: ToolShape) -> str:
        low, high = schema.get("minLength", 0), schema.get("maxLength", "")
        length = f"{{{low},{high}}}" if low or high != "" else "*"
        body = f"/{ANY}{length}/{self.without}"
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            body += f" & /{_whole(pattern, tool)}/"
        return body


_SCALARS = {
    "integer": r"-?(0|[1-9][0-9]*)",
    "number": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    "boolean": "(true|false)",
    "null": "null",
}
_HELD = ("enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def scalar(schema: Any) -> str:
    """The JSON that satisfies a schema of numbers and words as an expression; empty for others."""
    kinds = _kinds(schema)
    if not isinstance(schema, dict) or any(word in schema for word in (*_HELD, "multipleOf")):
        return ""
    if not kinds or any(kind not in _SCALARS for kind in kinds):
        return ""
    return "|".join(_SCALARS[kind] for kind in kinds)


def _kinds(schema: Any, root: dict[str, Any] | None = None) -> tuple[str, ...]:
    """The types of a value in the order in which the reader tries them."""
    whole = {"properties": {"value": schema}}
    shared = root if root is not None else schema
    if isinstance(shared, dict):
        whole |= {key: shared[key] for key in ("$defs", "definitions") if key in shared}
    return ToolSchema(json.dumps(whole)).kinds("value") or ()


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference names, and all parts of an `allOf` as one."""
    found = dict(schema) if isinstance(schema, dict) else {}
    for _ in range(_REFERENCES):
        reference = found.pop("$ref", None)
        if not isinstance(reference, str):
            break
        node = referenced(root, reference)
        found = {**(node if isinstance(node, dict) else {}), **found}
    parts = found.pop("allOf", None)
    for part in parts if isinstance(parts, list) else ():
        found = {**(part if isinstance(part, dict) else {}), **found}
    return found


def _whole(pattern: str, tool: ToolShape) -> str:
    """A pattern that may match anywhere as one of the whole text."""
    left, right = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith(r"\$")
    inner = pattern[1 if left else 0 : -1 if right else None]
    if "|" in inner and (left or right) and not inner.startswith("("):
        if tool.strict:
            raise InvalidField(
                "tools",
                "unsupported",
                f"A pattern of the tool `{tool.name}` can't be enforced in this model's notation.",
            )
        # `^red|green$` anchors one branch each, which can't be rewritten; it is left to the model.
        return f"{ANY}*"
    before, after = "" if left else f"{ANY}*", "" if right else f"{ANY}*"
    return f"{before}({regex_to_lark(inner, 'dw')}){after}"
