"""OpenAI's published schema, to hold bodies and chunks against where it is at hand."""

import gc
import json
from functools import cache
from typing import Any

import jsonschema
import pytest

from tests.api.support import ROOT

FOLDER = ROOT.parent / "shared" / "spec"
OPENAI = "openai-openapi.json"
OPEN_RESPONSES = "openresponses.json"

needs_spec = pytest.mark.skipif(
    not (FOLDER / OPENAI).exists() or not (FOLDER / OPEN_RESPONSES).exists(),
    reason="the published schemas are not next to the checkout",
)


def check_against(schema: str, value: object, document: str = OPENAI) -> None:
    """Raises `ValidationError` unless `value` is what the schema of that name describes."""
    _validator(schema, document).validate(value)


@cache
def schemas(document: str = OPENAI) -> dict[str, Any]:
    """All schemas by name, as JSON Schema."""
    read: dict[str, Any] = json.loads((FOLDER / document).read_text(encoding="utf-8"))
    found: dict[str, Any] = _nullable(read["components"]["schemas"])
    gc.freeze()
    return found


@cache
def events(document: str) -> dict[str, str]:
    """The names of the schemas of a stream's events, by the type they are for."""
    return {
        kind: name
        for name, schema in schemas(document).items()
        if "sequence_number" in schema.get("properties", {})
        for kind in schema["properties"]["type"]["enum"]
    }


def properties(name: str) -> set[str]:
    """The names of all fields of a schema, of the schemas it is put together from too."""
    schema = schemas()[name]
    names = set(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        reference = part.get("$ref")
        inner = properties(reference.rpartition("/")[2]) if reference else part.get("properties")
        names |= set(inner or ())
    return names


@cache
def _validator(schema: str, document: str) -> jsonschema.Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas(document)}}
    return jsonschema.Draft202012Validator(root)


def _nullable(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(schema, list):
        return [_nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    translated = {key: _nullable(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True:
        return {"anyOf": [translated, {"type": "null"}]}
    return translated
