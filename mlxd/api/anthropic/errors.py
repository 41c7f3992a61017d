"""Errors as Anthropic's API words them: statuses, types, and pydantic's findings in sentences."""

from collections.abc import Mapping

from pydantic import ValidationError

from mlxd import errors
from mlxd.api.dialect import ErrorReply, JsonObject
from mlxd.api.wire.errors import ErrorRow, retry_headers

MAX_ECHO = 64
"""Characters of a wrong value that the message repeats."""

NO_THREADS = "thread_unsupported_request"
"""The code by which Anthropic's clients know to send the whole conversation instead."""


BAD = "invalid_request_error"
OURS = "api_error"
BUSY = "overloaded_error"

TABLE: Mapping[type[errors.MlxdError], ErrorRow] = {
    errors.ConfigError: ErrorRow(500, OURS),
    errors.ModelUnusable: ErrorRow(500, OURS),
    errors.MalformedRequest: ErrorRow(400, BAD),
    errors.InvalidBody: ErrorRow(400, BAD),
    errors.BodyTooLarge: ErrorRow(413, "request_too_large"),
    errors.BodyTooSlow: ErrorRow(408, BAD),
    errors.InvalidField: ErrorRow(400, BAD),
    errors.ModelNotFound: ErrorRow(404, "not_found_error"),
    errors.ContextTooLong: ErrorRow(400, BAD),
    errors.Unauthorized: ErrorRow(401, "authentication_error"),
    errors.Forbidden: ErrorRow(403, "permission_error"),
    errors.ResponseNotFound: ErrorRow(404, "not_found_error"),
    errors.PreviousNotFound: ErrorRow(404, "not_found_error"),
    errors.ConversationNotFound: ErrorRow(404, "not_found_error"),
    errors.ItemNotFound: ErrorRow(404, "not_found_error"),
    errors.NotCancellable: ErrorRow(400, BAD),
    errors.RouteNotFound: ErrorRow(404, "not_found_error"),
    errors.MethodNotAllowed: ErrorRow(405, "not_found_error"),
    errors.QueueFull: ErrorRow(529, BUSY),
    errors.Overloaded: ErrorRow(529, BUSY),
    errors.RateLimited: ErrorRow(429, "rate_limit_error"),
    errors.ModelLoading: ErrorRow(529, BUSY),
    errors.StoreUnavailable: ErrorRow(529, BUSY),
    errors.EngineStopped: ErrorRow(529, BUSY),
    errors.EngineFailed: ErrorRow(529, BUSY),
    errors.EngineCrashed: ErrorRow(500, OURS, retry=1),
    errors.EngineStalled: ErrorRow(500, OURS, retry=1),
    # Not one of the statuses that clients try again by themselves.
    errors.Cancelled: ErrorRow(499, BAD),
    errors.DeadlineExceeded: ErrorRow(504, "timeout_error"),
    errors.OutOfMemory: ErrorRow(529, BUSY, retry=5),
    errors.InvalidLogits: ErrorRow(500, OURS),
    errors.InternalError: ErrorRow(500, OURS),
}


def error_reply(
    error: errors.MlxdError, *, request_id: str, validation_status: int = 400
) -> ErrorReply:
    """The reply for an error before the first byte."""
    row = TABLE[type(error)]
    malformed = isinstance(error, errors.InvalidBody | errors.InvalidField)
    # Clients look for this code under 400 alone.
    threads = isinstance(error, errors.InvalidField) and error.code == NO_THREADS
    return ErrorReply(
        status=validation_status if malformed and not threads else row.status,
        body=error_body(error, request_id=request_id),
        headers=retry_headers(error, row),
    )


def error_body(error: errors.MlxdError, *, request_id: str) -> JsonObject:
    """The envelope, with the request's id in it."""
    body: JsonObject = {"type": TABLE[type(error)].type, "message": _message(error)}
    if isinstance(error, errors.InvalidField) and error.code:
        body["details"] = {"error_code": error.code}
        if error.code == NO_THREADS:
            body["details"]["unsupported"] = ["inference_hooks"]
    return {"type": "error", "error": body, "request_id": request_id}


def broken_call_body(tool: str, *, request_id: str) -> JsonObject:
    """The envelope in a stream whose model wrote a call that can't be read."""
    message = f"The model's call of '{tool}' can't be made: its arguments are no JSON object."
    error = {"type": OURS, "message": f"{message} Please retry."}
    return {"type": "error", "error": error, "request_id": request_id}


def _message(error: errors.MlxdError) -> str:
    match error:
        case errors.InvalidBody(reason=reason):
            return f"We could not parse the JSON body of your request: {reason}"
        case errors.ContextTooLong(prompt_tokens=tokens, context_length=window):
            # Clients read both numbers out of this sentence.
            return f"prompt is too long: {tokens} tokens > {window} maximum"
        case errors.ModelNotFound(model=model):
            return f"model: {model}"
        case errors.Unauthorized() if error.reason == errors.Unauthorized.reason:
            return "invalid x-api-key"
        case errors.ConfigError():
            # The text names a file.
            return "The server's configuration can't be used."
        case errors.InvalidField(field=field, message=message):
            return message if message.startswith(f"{field}: ") else f"{field}: {message}"
    return str(error)


def wrong_value(field: str, why: str) -> errors.InvalidField:
    """`why` is a sentence."""
    return errors.InvalidField(field, "value", f"{field}: {why}")


def unsupported(field: str, why: str, code: str = "") -> errors.InvalidField:
    """A value that this server knows and does not honour; `why` is a sentence."""
    return errors.InvalidField(field, "unsupported", f"{field}: {why}", code)


TYPE_ERRORS = frozenset(
    {
        *("string_type", "int_type", "float_type", "finite_number", "bool_type", "list_type"),
        *("dict_type", "model_type", "model_attributes_type"),
    }
)


def from_pydantic(error: ValidationError) -> errors.InvalidField:
    """The first finding of a failed validation, as Anthropic's own server would put it."""
    detail = error.errors(include_url=False)[0]
    kind = detail["type"]
    field = ".".join(str(part) for part in detail["loc"] if not str(part).startswith("#"))
    if kind == "missing":
        return errors.InvalidField(field, "missing", f"{field}: Field required")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        context = detail["ctx"]
        # What a union's discriminator is named for.
        name = context["discriminator"].removesuffix("_tag()").rpartition("_")[2]
        if kind == "union_tag_not_found":
            field = f"{field}.{name}" if field else name
            return errors.InvalidField(field, "missing", f"{field}: Field required")
        tag = context["tag"].removeprefix("#")[:MAX_ECHO]
        known = context["expected_tags"].replace("#", "")
        why = f"Input tag '{tag}' found using '{name}' does not match any of the expected tags:"
        return wrong_value(field, f"{why} {known}")
    if kind == "expected":
        message = f"{field}: Input should be {detail['ctx']['what']}"
        return errors.InvalidField(field, "type", message)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return errors.InvalidField(field, "type", f"{field}: Input should be an object")
    problem: errors.FieldProblem = "type" if kind in TYPE_ERRORS else "value"
    return errors.InvalidField(field, problem, f"{field}: {detail['msg']}")
