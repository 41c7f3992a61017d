"""Arguments that a notation writes as plain text instead of JSON, as Lark terminals."""

import json
import re
from dataclasses import dataclass
from typing import Any

from llguidance import regex_to_lark

from mlxd.engine.notations.reading.schema import ToolSchema, referenced
from mlxd.errors import InvalidField

_ANY = r"(?s:.)"
_WORDS = r"\s*(null|None)\s*"
_REFERENCES = 8


@dataclass(frozen=True)
class ToolShape:
    """An offered tool: its schema, parsed, with what can't be enforced taken out."""

    name: str
    schema: dict[str, Any]
    strict: bool


class PlainValues:
    """Terminals for values up to and with the tag that closes them, without a line break behind it.

    `line` is the line break that is no part of a value on either side; what is `forbidden` inside
    of a value would end it for the reader.
    """

    def __init__(self, closing: str, forbidden: tuple[str, ...], line: str) -> None:
        self._closing = closing
        self._line = line
        inside = [closing.strip() or closing, *forbidden] if closing else list(forbidden)
        # Lark ends a pattern at a slash and reads no line break in one.
        plain = (re.escape(text).replace("/", r"\/").replace("\n", r"\n") for text in inside)
        self._forbidden = "|".join(plain)

    def terminal(self, schema: Any, tool: ToolShape) -> str | None:
        """The terminal of a text; None where the value is JSON."""
        kinds = _kinds(schema)
        streamed = next((kind for kind in kinds if kind != "null"), "")
        if streamed != "string" or not isinstance(schema, dict):
            return None
        bodies = " | ".join(f"({body})" for body in self._bodies(schema, schema, tool))
        return f"({bodies}) {json.dumps(self._closing.rstrip())}"

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
        if "null" in _kinds(schema, root):
            # The word null would be read as null.
            body += f" & ~/{_WORDS}/"
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
        body = f"/{_ANY}{{{low},{high}}}/ & ~/{_ANY}*({self._forbidden}){_ANY}*/"
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            body += f" & /{_whole(pattern, tool)}/"
        return body


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
        return f"{_ANY}*"
    before, after = "" if left else f"{_ANY}*", "" if right else f"{_ANY}*"
    return f"{before}({regex_to_lark(inner, 'dw')}){after}"
