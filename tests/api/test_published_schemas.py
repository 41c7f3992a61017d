"""What goes over the wire against the published schemas, of OpenAI and of Open Responses.

Collected only where the folder with the schemas lies beside the checkout; `test_shapes.py` holds
the same samples against the types of the vendors' clients wherever the tests run.
"""

import gc
import json
from functools import cache
from typing import Any

import jsonschema
import pytest

from tests.api.responses import Json
from tests.api.support import PUBLISHED_SCHEMAS
from tests.api.wire_samples import EVENT, OPENAI, SAMPLES, Sample

pytestmark = pytest.mark.client


@pytest.mark.parametrize("name", SAMPLES)
async def test_everything_sent_is_what_is_published(name: str) -> None:
    for sample in await SAMPLES[name]():
        for document in sample.schemas:
            check(sample, document)


def check(sample: Sample, document: str) -> None:
    """Raises `ValidationError` unless the sample is what its schema in the document describes."""
    name, value = sample.schemas[document], sample.value
    if name == EVENT:
        name = events(document)[value["type"]]
    if document == OPENAI and "response" in value:
        value = {**value, "response": as_published(value["response"])}
    validator(name, document).validate(value)


def as_published(response: Json) -> Json:
    """The same response in an event, but for what OpenAI's document says otherwise than its server.

    There is no usage before the end, and the list of codes leaves out what the server says.
    """
    left_out = {"usage"} if response["usage"] is None else set()
    if response["status"] == "failed":
        assert response["error"]["code"] == "server_error"
    return {name: value for name, value in response.items() if name not in left_out}


@cache
def schemas(document: str) -> dict[str, Any]:
    """All schemas by name, as JSON Schema."""
    read: dict[str, Any] = json.loads((PUBLISHED_SCHEMAS / document).read_text(encoding="utf-8"))
    found: dict[str, Any] = nullable(read["components"]["schemas"])
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


@cache
def validator(schema: str, document: str) -> jsonschema.Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas(document)}}
    return jsonschema.Draft202012Validator(root)


def nullable(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(schema, list):
        return [nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    translated = {key: nullable(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True:
        return {"anyOf": [translated, {"type": "null"}]}
    return translated
