"""The page, its files, and what programs get at the same addresses.

The page is no part of `/admin`: it has no token, shows what any caller with a key may know, and
calls the open endpoints alone. Its files say nothing of this server, so they need no key.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from quart import Response

from mlxd.api.http.error_replies import json_response
from mlxd.api.http.framework import Api, current_request

GREETINGS = ("/", "/api/hello")
"""What programs knock at: agents that connect before they ask."""
NONE: Mapping[int, str] = MappingProxyType({})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Whatever a model writes, a browser loads, runs and sends nothing but what is this server's."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Asked for anew each time, answered with 304: the page must fit the server after an update.
    "cache-control": "no-cache",
}
MEDIA_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "openapi.json": "application/json",
}


@dataclass(frozen=True)
class _File:
    data: bytes
    media_type: str
    etag: str


@cache
def _file(name: str) -> _File:
    data = files(__package__).joinpath(name).read_bytes()
    return _File(data, MEDIA_TYPES[name], hashlib.sha256(data).hexdigest()[:16])


class PageEndpoints:
    """The endpoints; with `shown` false there is no page, and browsers get what programs get.

    On the ports of `greetings` everyone gets the text there: programs know a server by it.
    """

    def __init__(self, *, shown: bool, greetings: Mapping[int, str] = NONE) -> None:
        self._shown = shown
        self._greetings = greetings

    def add_rules(self, app: Api) -> None:
        """Serve them; `api.http.auth` opens the endpoints of these names to callers without key."""
        for path in GREETINGS:
            app.add_url_rule(path, "index", self.index, methods=["GET"])
        if self._shown:
            app.add_url_rule("/docs", "docs", self.docs, methods=["GET"])
            for path in ("/page.css", "/page.js"):
                app.add_url_rule(path, "page", self.file, methods=["GET"])
        else:
            app.add_url_rule("/docs", "index", self.index, methods=["GET"])
        app.add_url_rule("/openapi.json", "page", self.file, methods=["GET"])
        app.add_url_rule("/favicon.ico", "icon", self.icon, methods=["GET"])

    async def index(self) -> Response:
        """The page for whoever would rather have HTML than JSON, and something short for others."""
        request = current_request()
        greeting = self._greetings.get(request.local_port)
        if greeting and request.path == "/":
            return Response(greeting, 200, content_type="text/plain; charset=utf-8")
        wish = request.accept_mimetypes
        if self._shown and request.path == "/" and wish["text/html"] > wish["application/json"]:
            response = await _answer("index.html")
        else:
            response = json_response({"object": "server", "name": "mlxd"})
        response.vary.add("Accept")
        return response

    async def docs(self) -> Response:
        """Where people look for a description of an API; the page has it."""
        return Response(status=302, headers={"location": "/#routes"})

    async def file(self) -> Response:
        """A file by its own name."""
        return await _answer(current_request().path.removeprefix("/"))

    async def icon(self) -> Response:
        """Browsers ask for it whether a page names it or not."""
        return await _answer("icon.svg")


async def _answer(name: str) -> Response:
    file = _file(name)
    response = Response(file.data, 200, HEADERS, content_type=file.media_type)
    response.set_etag(file.etag)
    await response.make_conditional(current_request())
    return response
