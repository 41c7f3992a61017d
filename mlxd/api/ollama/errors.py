"""Errors as Ollama words them: one text, of which clients know some by heart."""

from collections.abc import Mapping

import msgspec
from pydantic import ValidationError

from mlxd import errors
from mlxd.api.dialect import ErrorReply, JsonObject
from mlxd.api.wire.errors import ErrorRow, bracketed, retry_headers

MAX_ECHO = 64
"""Characters of a wrong value that the message repeats."""
KNOWN = "known"
"""The code of errors whose text is Ollama's own, and is not begun with the field."""
BUSY = "server busy, please try again.  maximum pending requests exceeded"
NOT_PULLED = (
    "pull model manifest: file does not exist (nothing is downloaded while serving; "
    "`mlxd pull` brings a model here, and a `[models.…]` table serves it)"
)

STATUSES: Mapping[type[errors.MlxdError], int] = {
    errors.ConfigError: 500,
    errors.ModelUnusable: 500,
    errors.MalformedRequest: 400,
    errors.InvalidBody: 400,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.InvalidField: 400,
    errors.ModelNotFound: 404,
    errors.ContextTooLong: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.ResponseNotFound: 404,
    errors.PreviousNotFound: 404,
    errors.ConversationNotFound: 404,
    errors.ItemNotFound: 404,
    errors.NotCancellable: 400,
    errors.RouteNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.QueueFull: 503,
    errors.Overloaded: 503,
    errors.RateLimited: 429,
    errors.ModelLoading: 503,
    errors.StoreUnavailable: 503,
    errors.EngineStopped: 503,
    errors.EngineFailed: 503,
    errors.EngineCrashed: 503,
    errors.EngineStalled: 503,
    # Not one of the statuses that clients try again by themselves.
    errors.Cancelled: 499,
    errors.DeadlineExceeded: 504,
    errors.OutOfMemory: 503,
    errors.InvalidLogits: 500,
    errors.InternalError: 500,
}
RETRIES: Mapping[type[errors.MlxdError], float] = {
    **{errors.EngineCrashed: 1, errors.EngineStalled: 1, errors.OutOfMemory: 5}
}
"""Seconds after which asking again makes sense, where the error does not say so itself."""


def error_reply(
    error: errors.MlxdError, *, validation_status: int, pulled: bool = False
) -> ErrorReply:
    """The reply for an error before the first byte; `pulled` says that a model was to come here."""
    kind = type(error)
    row = ErrorRow(STATUSES[kind], "", retry=RETRIES.get(kind))
    headers = retry_headers(error, row)
    if isinstance(error, errors.Unauthorized):
        headers["www-authenticate"] = "Bearer"
    malformed = isinstance(error, errors.InvalidBody | errors.InvalidField)
    body = error_body(error)
    if pulled and isinstance(error, errors.ModelNotFound):
        body = {"error": NOT_PULLED}
    return ErrorReply(validation_status if malformed else row.status, body, headers)


def error_body(error: errors.MlxdError) -> JsonObject:
    """The envelope."""
    match error:
        case errors.InvalidBody(reason=errors.InvalidBody.EMPTY):
            text = "missing request body"
        case errors.InvalidBody(reason=reason):
            text = f"invalid request body: {reason}"
        case errors.ModelNotFound(model=model):
            text = f"model '{model}' not found"
        case errors.QueueFull():
            text = BUSY
        case errors.ConfigError():
            # The text names a file.
            text = "the server's configuration can't be used"
        case errors.InvalidField(code=code, message=message) if code == KNOWN:
            text = message
        case errors.InvalidField(field=field, message=message) if field:
            text = f"{bracketed(field)}: {message}"
        case _:
            text = str(error)
    return {"error": text}


def missing(field: str) -> errors.InvalidField:
    """A field that must be there is not."""
    return errors.InvalidField(field, "missing", f"{bracketed(field)} is required", KNOWN)


def wrong(field: str, why: str) -> errors.InvalidField:
    """`why` says what was expected and what came."""
    return errors.InvalidField(field, "value", why)


def unsupported(field: str, why: str) -> errors.InvalidField:
    """A value that is not honoured; `why` is a text that clients know, and names the field."""
    return errors.InvalidField(field, "unsupported", why, KNOWN)


def from_pydantic(error: ValidationError) -> errors.InvalidField:
    """The first finding of a failed validation."""
    detail = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return missing(field)
    # Pydantic's sentences begin with what they are about, ours with "expected".
    why = detail["msg"].replace("expected", "should be", 1).removeprefix("Input ")
    if detail["type"] == "model_type":
        # It names a class of ours.
        why = "should be an object"
    got = msgspec.json.encode(detail["input"]).decode()
    got = got if len(got) <= MAX_ECHO else f"{got[:MAX_ECHO]}..."
    return wrong(field, f"{why[0].lower()}{why[1:]}, got {got}")
