"""Errors as responses: the envelope follows the path, for errors of the framework too."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from quart import Response
from werkzeug.exceptions import (
    MethodNotAllowed as WrongMethod,
)
from werkzeug.exceptions import (
    NotFound,
    RequestEntityTooLarge,
    RequestTimeout,
)

from mlxd.api.dialect import Dialect, Route
from mlxd.api.http.framework import Visit
from mlxd.api.http.internal_errors import told
from mlxd.errors import (
    BodyTooLarge,
    BodyTooSlow,
    MethodNotAllowed,
    MlxdError,
    RouteNotFound,
)

MAX_ECHO = 200
"""Characters of a path that an error repeats."""


@dataclass(frozen=True)
class _Claim:
    """A dialect owns the paths that begin with `prefix`; with a `header` only if that is sent."""

    prefix: str
    header: str
    dialect: Dialect

    def header_is_in(self, request: Visit) -> bool:
        return not self.header or self.header in request.headers


class Envelopes:
    """Turns what was raised into the response of the dialect that owns the path."""

    def __init__(
        self, dialects: Sequence[Dialect], *, max_body: int, validation_status: int
    ) -> None:
        self._first = dialects[0]
        self._claims = tuple(_claims(dialects))
        self._max_body = max_body
        self._validation_status = validation_status

    def respond(self, error: Exception, request: Visit) -> Response:
        """The response, with the error's name noted for the log."""
        known = self.known(error, request)
        caller = request.caller(self._validation_status)
        reply = self.owner(request).error(known, caller)
        response = json_response(reply.body, reply.status, reply.headers)
        if isinstance(error, WrongMethod) and error.valid_methods:
            response.headers["allow"] = ", ".join(sorted(error.valid_methods))
        return response

    def known(self, error: Exception, request: Visit) -> MlxdError:
        """`error` as one of ours, its name noted for the log."""
        known = error if isinstance(error, MlxdError) else self._translate(error, request)
        request.record.error = type(known).__name__
        return known

    def owner(self, request: Visit) -> Dialect:
        """The dialect with the longest route that the path begins with; else the first."""
        path = f"{request.path}/"
        for claim in self._claims:
            if path.startswith(claim.prefix) and claim.header_is_in(request):
                return claim.dialect
        return self._first

    def _translate(self, error: Exception, request: Visit) -> MlxdError:
        match error:
            case NotFound():
                return RouteNotFound(request.method[:16], request.path[:MAX_ECHO])
            case WrongMethod():
                return MethodNotAllowed(request.method[:16], request.path[:MAX_ECHO])
            case RequestEntityTooLarge():
                return BodyTooLarge(self._max_body)
            case RequestTimeout():
                return BodyTooSlow(request.tuning.body_timeout)
            case _:
                return told(error, request.id)


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`body` as JSON."""
    return Response(
        msgspec.json.encode(body), status, dict(headers or {}), content_type="application/json"
    )


def retry_after(seconds: float) -> str:
    """Whole seconds, at least one, as the header wants them."""
    return str(max(1, math.ceil(seconds)))


def _claims(dialects: Sequence[Dialect]) -> list[_Claim]:
    """What the dialects own, the longest paths first, and of those the first dialect's."""
    claims = {
        (prefix, route.header): _Claim(f"{prefix}/", route.header, dialect)
        for dialect in reversed(dialects)
        for route in dialect.routes
        for prefix in _prefixes(route)
    }
    place = {dialect.name: number for number, dialect in enumerate(dialects)}
    return sorted(
        claims.values(), key=lambda claim: (-len(claim.prefix), place[claim.dialect.name])
    )


def _prefixes(route: Route) -> tuple[str, str]:
    """The fixed part of a route's path, and the same for clients that leave out the version."""
    prefix = route.rule.partition("<")[0].rstrip("/")
    return prefix, prefix.removeprefix("/v1")
