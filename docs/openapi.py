"""What is our own of what is served, as an OpenAPI document.

What a vendor defines is linked, not repeated: its own description is the one to go by.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from docs.routes import ADMIN, OURS, ServedRoute, routes
from mlxd import __version__
from mlxd.api.http.health import HealthReport
from mlxd.api.http.request_reader import IGNORED
from mlxd.api.openai.chat.wire import ChatRequest
from mlxd.status import Lifecycle, Status, ThroughputHistory

JsonObject = dict[str, Any]

VENDORS = {
    "openai_chat": "https://platform.openai.com/docs/api-reference/chat",
    "openai_responses": "https://platform.openai.com/docs/api-reference/responses",
    "anthropic": "https://docs.claude.com/en/api/messages",
    "ollama": "https://docs.ollama.com/api",
    "azure": "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
}
EXTENSIONS = (
    *("top_k", "min_p", "repetition_penalty", "enable_thinking", "thinking_budget", "thinking"),
    *("chat_template_kwargs", "structured_outputs", "guided_json", "guided_regex"),
    *("guided_choice", "guided_grammar", "json_schema", "regex", "ebnf", "grammar"),
)
"""Fields of `POST /v1/chat/completions` that the vendor does not have."""


def openapi_json() -> str:
    """The document."""
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "mlxd",
            "version": __version__,
            "summary": "What is mlxd's own; the vendors' bodies are linked.",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "headers": _headers(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": KEY},
                "admin": {"type": "http", "scheme": "bearer", "description": ADMIN_TOKEN},
            },
        },
    }
    return json.dumps(_on_one_line(document), indent=1, ensure_ascii=False) + "\n"


def _on_one_line(value: Any) -> Any:
    """`value` with its texts on one line: Pythons differ in how they keep those of classes."""
    match value:
        case dict():
            return {key: _on_one_line(inner) for key, inner in value.items()}
        case list():
            return [_on_one_line(inner) for inner in value]
        case str():
            return " ".join(value.split())
    return value


KEY = "One of `server.api_keys`, where there are any; `x-api-key` and `api-key` take it too."
ADMIN_TOKEN = "The admin token, which `mlxd top` finds by itself; web pages are refused."


def _paths() -> JsonObject:
    paths: JsonObject = {}
    for name, found in routes().items():
        for route in found:
            operation = _operation(name, route)
            paths.setdefault(route.path, {}).setdefault(route.method.lower(), operation)
    return paths


def _operation(owner: str, route: ServedRoute) -> JsonObject:
    names = re.findall(r"{(\w+)}", route.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    operation: JsonObject = {"tags": [owner]}
    of_vendor = owner not in (OURS, ADMIN)
    if owner in VENDORS:
        operation["externalDocs"] = {"url": VENDORS[owner]}
    if owner == ADMIN:
        operation["security"] = [{"admin": []}]
    own = OWN.get(route.path, {})
    operation |= {key: own[key] for key in ("summary",) if key in own}
    if query := own.get("query"):
        parameters.append(query)
    if parameters:
        operation["parameters"] = parameters
    if of_vendor and route.method == "POST":
        operation["requestBody"] = _content(_body_of(route))
    answer = own.get("answer") or (MODEL_ANSWERS.get(_last_part(route.path)))
    operation["responses"] = {"200": _answer(answer, of_vendor=of_vendor), **own.get("others", {})}
    if owner != OURS:
        error = "AdminError" if owner == ADMIN else "VendorError"
        operation["responses"]["default"] = {"description": "An error.", **_content(_ref(error))}
    return operation


def _last_part(path: str) -> str:
    return path[path.find("/models") :] if "/models" in path and "/admin" not in path else ""


def _body_of(route: ServedRoute) -> JsonObject:
    if route.path.endswith("/chat/completions"):
        return {"allOf": [{"type": "object"}, _ref("Extensions")]}
    return {"type": "object"}


def _answer(schema: JsonObject | None, *, of_vendor: bool) -> JsonObject:
    answer: JsonObject = {"description": "As the vendor has it." if of_vendor else "The answer."}
    if of_vendor:
        answer["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"}
            for name in ("x-request-id", "x-mlxd-model", IGNORED)
        }
    if schema:
        media_type = schema.get("x-media-type", "application/json")
        plain = {key: value for key, value in schema.items() if key != "x-media-type"}
        answer["description"] = "The answer."
        answer["content"] = {media_type: {"schema": plain}}
    return answer


def _content(schema: JsonObject) -> JsonObject:
    return {"content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(media_type: str) -> JsonObject:
    return {"type": "string", "x-media-type": media_type}


GREETING: JsonObject = {
    "type": "object",
    "properties": {"object": {"const": "server"}, "name": {"const": "mlxd"}},
    "required": ["object", "name"],
}
HEALTH: JsonObject = {
    "anyOf": [
        _ref("HealthReport"),
        {
            "type": "object",
            "description": "For callers without the key that is asked for.",
            "properties": {"status": {"type": "string"}},
            "required": ["status"],
            "additionalProperties": False,
        },
    ]
}
CHANGED: JsonObject = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "state": {"type": "string"}},
    "required": ["id", "state"],
}
RELOADED: JsonObject = {
    "type": "object",
    "properties": {
        "changed": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "key": {"type": "string"},
                    "old": {},
                    "new": {},
                    "effect": {"enum": ["now", "next load", "restart"]},
                },
                "required": ["key", "old", "new", "effect"],
            },
        }
    },
    "required": ["changed"],
}
LATER = {"202": {"description": "It goes on.", **_content(CHANGED)}}
OWN: Mapping[str, JsonObject] = {
    "/": {
        "summary": "The page, for whoever prefers HTML (`server.page`); else a greeting.",
        "answer": GREETING,
    },
    "/api/hello": {"summary": "A greeting.", "answer": GREETING},
    "/docs": {
        "summary": "Leads to the page's routes; a greeting where there is no page.",
        "others": {"302": {"description": "To `/#routes`."}},
    },
    "/page.css": {"summary": "A file of the page.", "answer": _text("text/css")},
    "/page.js": {"summary": "A file of the page.", "answer": _text("text/javascript")},
    "/favicon.ico": {"summary": "The icon.", "answer": _text("image/svg+xml")},
    "/openapi.json": {"summary": "This document.", "answer": {"type": "object"}},
    "/health": {
        "summary": "How the server is: 200 while requests are taken.",
        "answer": HEALTH,
        "others": {"503": {"description": "No requests are taken now.", **_content(HEALTH)}},
    },
    "/metrics": {"summary": "Figures for Prometheus.", "answer": _text("text/plain")},
    "/admin/status": {"summary": "Everything, now.", "answer": _ref("Status")},
    "/admin/history": {
        "summary": "Tokens of the last 600 seconds, second by second.",
        "answer": _ref("ThroughputHistory"),
    },
    "/admin/config": {
        "summary": "The settings in effect, secrets masked.",
        "answer": {
            "type": "object",
            "properties": {"file": {"type": "string"}, "settings": {"type": "object"}},
            "required": ["file", "settings"],
        },
    },
    "/admin/events": {
        "summary": "Server-sent events: `status` with a Status, `activity` with a Lifecycle.",
        "answer": {**_text("text/event-stream")},
        "query": {
            "name": "rate",
            "in": "query",
            "description": "Statuses a second at most.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "default": 4},
        },
    },
    "/admin/requests/{name}/cancel": {
        "summary": "End a request.",
        "answer": {
            "type": "object",
            "properties": {"id": {"type": "string"}, "cancelled": {"const": True}},
            "required": ["id", "cancelled"],
        },
    },
    "/admin/models/{name}/load": {
        "summary": "Bring a model into memory.",
        "answer": CHANGED,
        "others": LATER,
    },
    "/admin/models/{name}/unload": {
        "summary": "Drop a model once its requests are done.",
        "answer": CHANGED,
        "others": LATER,
    },
    "/admin/engine/restart": {
        "summary": "Replace the engine process.",
        "others": {"202": {"description": "It is being replaced."}},
    },
    "/admin/reload": {
        "summary": "Read the configuration again, and take it if all of it is right.",
        "query": {
            "name": "check",
            "in": "query",
            "schema": {"type": "boolean"},
            "description": "Only say what would change, or what is wrong.",
        },
        "answer": RELOADED,
        "others": {"400": {"description": "Something is wrong with it; nothing has changed."}},
    },
}
MODEL_ANSWERS = {"/models": _ref("ModelList"), "/models/{name}": _ref("ListedModel")}
NUMBER = {"type": "integer", "minimum": 1}
WINDOW = "The window in tokens; known once the model was loaded."
OWN_SCHEMAS: JsonObject = {
    "ModelList": {
        "type": "object",
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": _ref("ListedModel")},
        },
        "required": ["object", "data"],
    },
    "ListedModel": {
        "type": "object",
        "description": "A model under one of its names, in a shape that all vendors' clients read.",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "owned_by": {"const": "mlxd"},
            "max_model_len": {**NUMBER, "description": WINDOW},
            "context_length": {**NUMBER, "description": WINDOW},
            "max_input_tokens": {**NUMBER, "description": WINDOW},
            "max_tokens": {**NUMBER, "description": "Tokens of an answer at most."},
        },
        "required": ["id"],
    },
    "AdminError": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
                "required": ["type", "message"],
                "additionalProperties": False,
            }
        },
        "required": ["error"],
    },
    "VendorError": {
        "type": "object",
        "description": "In the shape of the vendor whose path it is; they have this in common.",
        "properties": {
            "error": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "properties": {"message": {"type": "string"}},
                        "required": ["message"],
                    },
                ]
            }
        },
        "required": ["error"],
    },
}


def _schemas() -> JsonObject:
    template = "#/components/schemas/{name}"
    types = (HealthReport, Status, Lifecycle, ThroughputHistory)
    _, made = msgspec.json.schema_components(types, ref_template=template)
    fields = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    extensions = {
        "type": "object",
        "description": "Fields of a chat completion that other servers have added.",
        "properties": {name: fields["properties"][name] for name in EXTENSIONS},
    }
    named = dict(_named(extensions, fields["$defs"]))
    return made | OWN_SCHEMAS | {"Extensions": extensions} | named


def _named(schema: object, definitions: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """What `schema` refers to, directly or not."""
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)):
        yield name, definitions[name]
        yield from _named(definitions[name], definitions)


def _headers() -> JsonObject:
    text = {"type": "string"}
    return {
        "x-request-id": {"description": "Stands in the log too.", "schema": text},
        "x-mlxd-model": {"description": "The configured model that answered.", "schema": text},
        IGNORED: {
            "description": "Fields of the body that changed nothing, by their paths.",
            "schema": text,
        },
    }
