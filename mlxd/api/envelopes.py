"""Errors as responses: the envelope follows the path, for errors of the framework too."""

import math
from collections.abc import Mapping, Sequence

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

from mlxd.api.crash import told
from mlxd.api.dialect import Dialect
from mlxd.api.web import Visit
from mlxd.errors import (
    BodyTooLarge,
    BodyTooSlow,
    MethodNotAllowed,
    MlxdError,
    RouteNotFound,
)

MAX_ECHO = 200
"""Characters of a path that an error repeats."""


class Envelopes:
    """Turns what was raised into the response of the dialect that owns the path."""

    def __init__(
        self, dialects: Sequence[Dialect], *, max_body: int, validation_status: int
    ) -> None:
        self._dialects = dialects
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
        return max(self._dialects, key=lambda dialect: _overlap(dialect, request))

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


def _overlap(dialect: Dialect, request: Visit) -> int:
    """Characters of the longest route of `dialect` that the path begins with."""
    path = request.path
    routes = (
        route for route in dialect.routes if not route.header or route.header in request.headers
    )
    prefixes = (route.rule.partition("<")[0].rstrip("/") for route in routes)
    variants = (each for prefix in prefixes for each in (prefix, prefix.removeprefix("/v1")))
    return max((len(each) for each in variants if f"{path}/".startswith(f"{each}/")), default=0)
