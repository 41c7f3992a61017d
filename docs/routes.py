"""The routes that are served, by whose they are, and the table of them on the page."""

import re
from dataclasses import dataclass

from mlxd.api.app import create_app
from mlxd.config.settings import ConversationSettings, Settings
from mlxd.dialects import DIALECTS
from mlxd.engine.scripted.agent import agent
from mlxd.engine.scripted.engine import ScriptedEngine
from mlxd.store.conversations import build_store

OURS = "mlxd"
ADMIN = "admin"
TITLES = {
    OURS: "Of mlxd itself",
    ADMIN: "With the admin token",
    "openai_chat": "OpenAI Chat Completions",
    "openai_responses": "OpenAI Responses and Conversations",
    "anthropic": "Anthropic Messages",
    "azure": "OpenAI's APIs at Azure's paths",
    "ollama": "Ollama's API",
}
BEGIN, END = "<!-- routes: written by docs.generate -->\n", "<!-- end of routes -->"


@dataclass(frozen=True, order=True)
class ServedRoute:
    """A method at a path, in OpenAPI's way to write it."""

    path: str
    method: str


def routes() -> dict[str, list[ServedRoute]]:
    """Ours, the admin's, and those of each API, by its name; each path in its usual form."""
    apis = {name: _routes(name) for name in DIALECTS}
    every = set.intersection(*(set(found) for found in apis.values()))
    admin = {each for each in every if each.path.startswith(("/admin", "/metrics"))}
    return {
        OURS: sorted(every - admin),
        ADMIN: sorted(admin),
        **{name: sorted(set(found) - every) for name, found in apis.items()},
    }


def _routes(api: str) -> list[ServedRoute]:
    """All routes of a server with one API."""
    store = build_store(ConversationSettings(store="memory"), None)
    app = create_app(Settings(dialects=(api,)), ScriptedEngine(agent), store=store)
    found = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in _methods(rule.endpoint, rule.methods or set())
        # Without their `/v1`, or with two of it, paths are served for clients that write them so.
        if not rule.rule.startswith("/v1/v1/")
    }
    usual = {path for _, path in found if "/v1/" in path}
    return [
        ServedRoute(path, method)
        for method, path in found
        if path in usual or not {f"/v1{path}", path.replace("/openai/", "/openai/v1/", 1)} & usual
    ]


def _methods(endpoint: str, methods: set[str]) -> set[str]:
    """The methods that do something: the admin's paths take all of them, to refuse them itself."""
    if endpoint.startswith("socket "):
        return set()
    if not endpoint.startswith("admin "):
        return methods - {"HEAD", "OPTIONS"}
    if endpoint.endswith(("/admin", "/admin/", "/admin/<path:name>")):
        return set()
    return {"POST"} if endpoint.endswith(("load", "cancel", "restart")) else {"GET"}


def routes_html(page: str) -> str:
    """`page` with the table of routes between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = []
    served = routes()
    # Every API of OpenAI's is at Azure's paths too: a line says so, instead of another long list.
    repeated = {
        ServedRoute(f"/openai{each.path}", each.method)
        for name in ("openai_chat", "openai_responses")
        for each in served[name]
    }
    for name, found in served.items():
        lines = [f"{each.method:6} {each.path}" for each in found if each not in repeated]
        if len(lines) < len(found):
            lines.append("and all of OpenAI's below /openai/v1")
        api = "" if name in (OURS, ADMIN) else f' data-api="{name}"'
        parts.append(
            f"<h3{api}>{TITLES.get(name, name)}</h3>\n<pre{api}>{chr(10).join(lines)}</pre>\n"
        )
    return f"{before}{BEGIN}{''.join(parts)}{END}{after}"
