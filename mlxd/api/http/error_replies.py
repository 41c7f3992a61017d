"""Errors as responses: the shape follows the path, for errors of the framework too."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from mlxd.api.dialect import Dialect
from mlxd.api.http.framework import IncomingRequest
from mlxd.api.http.internal_errors import logged
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
class Claim:
    """A dialect owns the paths that begin as `rule` does; with a `header` only if that is sent."""

    rule: str
    dialect: Dialect
    header: str = ""

    def prefixes(self) -> tuple[str, ...]:
        """The fixed part of the path, and the same for clients with another count of versions."""
        prefix = self.rule.partition("<")[0].rstrip("/")
        # The version alone, left out, would be every path.
        bare = prefix.removeprefix("/v1")
        doubled = f"/v1{prefix}" if bare and bare != prefix else ""
        return tuple(f"{each}/" for each in (prefix, bare, doubled) if each)


class PathOwners:
    """Which dialect a path belongs to."""

    def __init__(self, dialects: Sequence[Dialect], claims: Iterable[Claim]) -> None:
        self._first = dialects[0]
        positions = {dialect.name: number for number, dialect in enumerate(dialects)}

        def rank(owner: tuple[str, Claim]) -> tuple[int, bool, int]:
            """The longest path counts, then a header, then the order of the configuration."""
            prefix, claim = owner
            return -len(prefix), not claim.header, positions[claim.dialect.name]

        owners = [(prefix, claim) for claim in claims for prefix in claim.prefixes()]
        self._owners = sorted(owners, key=rank)

    def of(self, request: IncomingRequest) -> Dialect:
        """The owner; the first dialect for the paths of nobody."""
        return self.named(request.path, request.headers.__contains__) or self._first

    def named(self, path: str, has: Callable[[str], bool] = lambda header: False) -> Dialect | None:
        """The owner of a path, `has` saying which headers are there; None for a path of nobody."""
        # By the path and not the route: an error for a path without one has its owner's shape too.
        path = f"{path}/"
        for prefix, claim in self._owners:
            if path.startswith(prefix) and (not claim.header or has(claim.header)):
                return claim.dialect
        return None


class ErrorReplies:
    """Turns what was raised into the response of the dialect that owns the path."""

    def __init__(self, owners: PathOwners, *, max_body: int) -> None:
        self._owners = owners
        self._max_body = max_body

    def respond(self, error: Exception, request: IncomingRequest) -> Response:
        """The response, with the error's name noted for the log."""
        ours = self.ours(error, request)
        reply = self._owners.of(request).error(ours, request.caller())
        response = json_response(reply.body, reply.status, reply.headers)
        if isinstance(error, WrongMethod) and error.valid_methods:
            response.headers["allow"] = ", ".join(sorted(error.valid_methods))
        return response

    def ours(self, error: Exception, request: IncomingRequest) -> MlxdError:
        """`error` as one of ours, its name noted for the log."""
        ours: MlxdError
        match error:
            case MlxdError():
                ours = error
            case NotFound():
                ours = RouteNotFound(request.method[:16], request.path[:MAX_ECHO])
            case WrongMethod():
                ours = MethodNotAllowed(request.method[:16], request.path[:MAX_ECHO])
            case RequestEntityTooLarge():
                ours = BodyTooLarge(self._max_body)
            case RequestTimeout():
                ours = BodyTooSlow(request.tuning.body_timeout)
            case _:
                ours = logged(error, request.id)
        request.record.error = type(ours).__name__
        return ours


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
