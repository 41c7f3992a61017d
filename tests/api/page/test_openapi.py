"""The description of our own part of the API is made from the code, and true of its answers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from quart import Response

from docs.openapi import openapi_json
from docs.routes import routes, routes_html
from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.app import create_app
from mlxd.api.page import endpoints
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import ScriptedEngine
from tests.api.support import CHAT, DEMO, HELLO, MESSAGES, OTHER, Front, front, settings_for
from tests.memory_store import MemoryStore
from tests.scripts import SCRIPTS

FOLDER = Path(endpoints.__file__).parent
DOCUMENT: dict[str, Any] = json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))
TOKEN = "a-token-of-the-tests"
MODELS = (DEMO, OTHER)


def test_the_document_and_the_routes_of_the_page_are_made_from_the_code() -> None:
    assert (FOLDER / "openapi.json").read_text(encoding="utf-8") == openapi_json(), (
        "run `python -m docs.generate`"
    )
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert routes_html(page) == page, "run `python -m docs.generate`"


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    for kind, name in re.findall(r'"#/components/(\w+)/([\w-]+)"', text):
        assert name in DOCUMENT["components"][kind]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name


def test_paths_are_those_that_are_served() -> None:
    served = {(each.path, each.method) for found in routes().values() for each in found}
    assert served == {
        (path, method.upper()) for path, found in DOCUMENT["paths"].items() for method in found
    }
    assert {("/v1/chat/completions", "POST"), ("/admin/status", "GET"), ("/health", "GET")} < served
    assert ("/v1/responses/{response}", "DELETE") in served
    assert not [path for path, _ in served if path.startswith(("/v1/v1", "/chat", "/messages"))]


async def holds(response: Response, path: str, *, method: str = "get", status: str = "200") -> None:
    """The response is as the document says."""
    described = DOCUMENT["paths"][path][method]["responses"][status]
    schema = described["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(
        await response.get_json()
    )


def administered() -> Front:
    engine = ScriptedEngine(lambda _: SCRIPTS["text"], models=MODELS)
    facts = ServerFacts(token=TOKEN)
    return Front(create_app(Settings(), engine, store=MemoryStore(), facts=facts), engine)


async def test_answers_of_our_own_are_as_described() -> None:
    server = front(*SCRIPTS["text"], models=MODELS)
    for path in ("/", "/api/hello", "/health", "/v1/models"):
        await holds(await server.get(path), path)
    await holds(await server.get("/v1/models/demo"), "/v1/models/{name}")
    keyed = front(*SCRIPTS["text"], settings=settings_for(api_keys=("a-secret-key",)))
    await holds(await keyed.get("/health"), "/health")
    await holds(await keyed.get("/v1/models"), "/v1/models", status="default")


async def test_what_the_admin_sees_is_as_described() -> None:
    server = administered()
    await server.post({"messages": HELLO})
    for path in ("/admin/status", "/admin/history", "/admin/config"):
        await holds(await server.get(path, authorization=f"Bearer {TOKEN}"), path)
    await holds(await server.get("/admin/status"), "/admin/status", status="default")
    loaded = await server.client.post(
        "/admin/models/other/load", headers={"authorization": f"Bearer {TOKEN}"}
    )
    await holds(loaded, "/admin/models/{name}/load", method="post")


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", MESSAGES, "/openai/v1/chat/completions"])
async def test_errors_of_all_vendors_have_a_message_where_it_is_described(path: str) -> None:
    response = await front(*SCRIPTS["text"]).post({"messages": 7, "input": 7}, path)
    assert response.status_code == 400
    await holds(response, path, method="post", status="default")
