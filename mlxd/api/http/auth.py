"""The door every request goes through before its endpoint: Host, Origin, preflight, key.

It denies by default and knows endpoints, not paths: Quart calls it after routing, so that no way of
writing a path avoids it, and routes nobody has need a key too.
"""

import time

from quart import Response

from mlxd.api.http.admin_gate import AdminGate, is_admin
from mlxd.api.http.api_keys import FailureLimit, KeyRing, presented_keys
from mlxd.api.http.framework import IncomingRequest, current_incoming
from mlxd.api.http.origins import HostList, OriginList, is_own_page, preflight_headers
from mlxd.api.http.refusals import RefusalLog
from mlxd.config.settings import ServerSettings
from mlxd.errors import Forbidden, RateLimited, Unauthorized

OPEN_ENDPOINTS = frozenset({"health", "index", "docs", "page", "icon"})
"""Answered without a key: probes have none, nor has a browser before a person gives it one."""


class AccessGate:
    """Runs before every request and every handshake; what it raises becomes the response."""

    def __init__(self, server: ServerSettings, admin: AdminGate, refusals: RefusalLog) -> None:
        self._admin = admin
        self._refusals = refusals
        self._failures = FailureLimit(time.monotonic)
        self.configure(server)

    def configure(self, server: ServerSettings) -> None:
        """Let requests from now on in by these settings."""
        self._hosts = HostList(server)
        self._origins = OriginList(server.cors_origins)
        self._keys = KeyRing(server.api_keys)

    async def check(self) -> Response | None:
        """Raises the refusal, or answers a preflight, or lets the request through."""
        request = current_incoming()
        # First of all: to a page that rebinds its own name to this machine, the server is its own
        # site, and its browser sends no Origin.
        # Several together are none that is allowed, of hosts as of origins.
        host = ", ".join(request.headers.getlist("Host"))
        if not self._hosts.allows(host, request.local_address):
            self._refusals.host(request.record, host)
            raise Forbidden("This Host header is not served here (see server.allowed_hosts).")
        if is_admin(request):
            self._admin.check(request)
            return None
        if origins := request.headers.getlist("Origin"):
            origin = ", ".join(origins)
            if not (is_own_page(origin, host) or self._origins.allows(origin)):
                self._refusals.origin(request.record, origin)
                raise Forbidden("This Origin may not call here (see server.cors_origins).")
            request.allowed_origin = origin
            # A preflight has no key to show; browsers leave credentials out of it.
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return _preflight(request)
        if request.endpoint in OPEN_ENDPOINTS:
            request.authorized = self._recognises(request)
        else:
            request.key = self._identify(request)
            request.authorized = True
        return None

    def _identify(self, request: IncomingRequest) -> str:
        if not self._keys:
            return ""
        try:
            return self._keys.identify(presented_keys(request.headers.items()))
        except Unauthorized:
            # Only now: others may share the address with a client that keeps guessing.
            self._failures.check(request.client)
            self._failures.failed(request.client)
            raise

    def _recognises(self, request: IncomingRequest) -> bool:
        """Whether an open endpoint may tell its caller everything."""
        if self._keys and not presented_keys(request.headers.items()):
            return False
        try:
            self._identify(request)
        except (Unauthorized, RateLimited):
            return False
        return True


def _preflight(request: IncomingRequest) -> Response:
    headers = preflight_headers(
        request.allowed_origin,
        request.headers.get("Access-Control-Request-Headers", ""),
        private_network=request.headers.get("Access-Control-Request-Private-Network") == "true",
    )
    return Response(status=204, headers=headers)
