"""Who may call the admin endpoints: whoever has the token, from a program, never from a page."""

import hashlib
import hmac
import time

from mlxd.api.http.api_keys import FailureLimit
from mlxd.api.http.framework import IncomingRequest
from mlxd.errors import Forbidden, Unauthorized

ADMIN = "admin "
"""What the names of these endpoints begin with."""


def is_admin(request: IncomingRequest) -> bool:
    """Whether the request goes to an admin endpoint, by what it was routed to."""
    return (request.endpoint or "").startswith(ADMIN)


class AdminGate:
    """Raises the refusal of a request that may not come in."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)
        self._failures = FailureLimit(time.monotonic)

    def check(self, request: IncomingRequest) -> None:
        """The token goes into `Authorization: Bearer`, and nowhere else."""
        if "Origin" in request.headers:
            raise Forbidden("Web pages may not call the admin endpoint.")
        presented = request.headers.getlist("Authorization")
        scheme, _, token = presented[0].strip().partition(" ") if presented else ("", "", "")
        # Of digests, which are equally long: the time of comparing would show the token's length.
        matches = hmac.compare_digest(_digest(token.strip()), self._digest)
        if matches and len(presented) == 1 and scheme.lower() == "bearer":
            return
        self._failures.check(request.client)
        self._failures.failed(request.client)
        raise Unauthorized("The admin endpoint needs its own token, as `Authorization: Bearer`.")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("latin-1", "replace")).digest()
