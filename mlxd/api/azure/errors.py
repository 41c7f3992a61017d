"""What Azure says differently when it says no; everything else is as OpenAI says it."""

import math

from mlxd import errors
from mlxd.api.dialect import ErrorReply

DENIED = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a "
    "valid key for an active subscription and use a correct regional API endpoint for your "
    "resource."
)
NO_DEPLOYMENT = "The API deployment for this resource does not exist."


def in_azures_words(error: errors.MlxdError, reply: ErrorReply) -> ErrorReply:
    """`reply`, which is OpenAI's, with the code and the words that Azure has for `error`."""
    body = {**reply.body, "error": {**reply.body["error"], **_own_words(error)}}
    return ErrorReply(reply.status, body, reply.headers)


def _own_words(error: errors.MlxdError) -> dict[str, str | None]:
    match error:
        case errors.Unauthorized(reason=reason):
            return {"code": "401", "message": f"{DENIED} ({reason})"}
        case errors.ModelNotFound(model=model, available=available):
            named = f"{NO_DEPLOYMENT} Asked for: '{model}'. Available: {', '.join(available)}."
            return {"code": "DeploymentNotFound", "message": named, "param": None}
        case errors.RouteNotFound():
            return {"code": "404", "message": f"Resource not found. {error}"}
        case errors.MethodNotAllowed():
            return {"code": "405"}
        case errors.RateLimited(reason=reason, retry_after=seconds):
            wait = max(1, math.ceil(seconds))
            return {"code": "429", "message": f"{reason} Please retry after {wait} seconds."}
        case _:
            return {}
