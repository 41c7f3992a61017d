"""Errors as OpenAI's APIs word them: statuses, types, codes, and pydantic's findings in sentences.

Shared by every dialect whose errors have OpenAI's envelope.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlxd import errors
from mlxd.api.dialect import ErrorReply, JsonObject
from mlxd.api.wire.errors import ErrorRow, bracketed, retry_headers

MAX_ECHO = 64
"""Characters of a wrong value that the message repeats."""


BAD = "invalid_request_error"
OURS = "server_error"

TABLE: Mapping[type[errors.MlxdError], ErrorRow] = {
    errors.ConfigError: ErrorRow(500, OURS),
    errors.ModelUnusable: ErrorRow(500, OURS, "model_unusable", "model"),
    errors.MalformedRequest: ErrorRow(400, BAD),
    errors.InvalidBody: ErrorRow(400, BAD),
    errors.BodyTooLarge: ErrorRow(413, BAD, "request_too_large"),
    errors.BodyTooSlow: ErrorRow(408, BAD, "request_timeout"),
    errors.InvalidField: ErrorRow(400, BAD),
    errors.ModelNotFound: ErrorRow(404, BAD, "model_not_found", "model"),
    errors.ContextTooLong: ErrorRow(400, BAD, "context_length_exceeded", "messages"),
    errors.Unauthorized: ErrorRow(401, BAD, "invalid_api_key"),
    errors.Forbidden: ErrorRow(403, BAD, "forbidden"),
    errors.ResponseNotFound: ErrorRow(404, BAD),
    errors.PreviousNotFound: ErrorRow(
        400, BAD, "previous_response_not_found", "previous_response_id"
    ),
    errors.ConversationNotFound: ErrorRow(404, BAD),
    errors.ItemNotFound: ErrorRow(404, BAD),
    errors.NotCancellable: ErrorRow(400, BAD),
    errors.RouteNotFound: ErrorRow(404, BAD, "unknown_url"),
    errors.MethodNotAllowed: ErrorRow(405, BAD, "method_not_allowed"),
    errors.QueueFull: ErrorRow(503, OURS, "queue_full"),
    errors.Overloaded: ErrorRow(503, OURS, "overloaded"),
    errors.RateLimited: ErrorRow(429, "rate_limit_error", "rate_limit_exceeded"),
    errors.ModelLoading: ErrorRow(503, OURS, "model_loading"),
    errors.StoreUnavailable: ErrorRow(503, OURS, "store_unavailable"),
    errors.EngineStopped: ErrorRow(503, OURS, "shutting_down"),
    errors.EngineFailed: ErrorRow(503, OURS, "engine_failed"),
    errors.EngineCrashed: ErrorRow(503, OURS, "engine_crashed", retry=1),
    errors.EngineStalled: ErrorRow(503, OURS, "engine_stalled", retry=1),
    # Not one of the statuses that clients try again by themselves.
    errors.Cancelled: ErrorRow(499, BAD, "request_cancelled"),
    errors.DeadlineExceeded: ErrorRow(504, OURS, "deadline_exceeded"),
    errors.OutOfMemory: ErrorRow(503, OURS, "out_of_memory", retry=5),
    errors.InvalidLogits: ErrorRow(500, OURS, "invalid_logits"),
    errors.InternalError: ErrorRow(500, OURS),
}
FIELD_CODES = {
    "missing": "missing_required_parameter",
    "type": "invalid_type",
    "value": "invalid_value",
    "unsupported": "unsupported_value",
}


class Bound(NamedTuple):
    """What a number must stay within; `noun` says what kind of number is meant."""

    sign: str
    limit: float
    noun: str = "decimal"


def error_reply(error: errors.MlxdError, *, validation_status: int, prompt: str) -> ErrorReply:
    """The reply for an error; `prompt` is the field that holds the prompt in this API."""
    row = TABLE[type(error)]
    headers = retry_headers(error, row)
    if isinstance(error, errors.Unauthorized):
        headers["www-authenticate"] = "Bearer"
    malformed = isinstance(error, errors.InvalidBody | errors.InvalidField)
    return ErrorReply(
        status=validation_status if malformed else row.status,
        body=error_body(error, prompt=prompt),
        headers=headers,
    )


def error_body(error: errors.MlxdError, *, prompt: str) -> JsonObject:
    """The envelope: all four keys, and the figures of an overflow."""
    row = TABLE[type(error)]
    body = {"message": _message(error), "type": row.type, "param": row.param, "code": row.code}
    match error:
        case errors.InvalidField(field=field, problem=problem, code=code):
            body |= {"param": bracketed(field) or None, "code": code or FIELD_CODES[problem]}
        case errors.ContextTooLong(prompt_tokens=tokens, context_length=window):
            figures = {"n_prompt_tokens": tokens, "n_ctx": window}
            return {"error": {**body, "param": prompt, **figures}}
    return {"error": body}


def _message(error: errors.MlxdError) -> str:
    match error:
        case errors.InvalidBody(reason=reason):
            return f"We could not parse the JSON body of your request: {reason}"
        case errors.ContextTooLong(prompt_tokens=tokens, context_length=window):
            return (
                f"This model's maximum context length is {window} tokens. However, your messages "
                f"resulted in {tokens} tokens. Please reduce the length of the messages."
            )
        case errors.StoreUnavailable():
            return f"{error} Try again later, or with store set to false."
        case errors.ConfigError():
            # The text names a file.
            return "The server's configuration can't be used."
    return str(error)


def missing(field: str) -> errors.InvalidField:
    """A field that must be there is not."""
    message = f"Missing required parameter: '{bracketed(field)}'."
    return errors.InvalidField(field, "missing", message)


def wrong_type(field: str, expected: str, value: object) -> errors.InvalidField:
    """`expected` with its article: "an integer"."""
    message = (
        f"Invalid type for '{bracketed(field)}': expected {expected}, "
        f"but got {kind_of(value)} instead."
    )
    return errors.InvalidField(field, "type", message)


def wrong_value(field: str, why: str, code: str = "invalid_value") -> errors.InvalidField:
    """`why` completes "Invalid 'field': "."""
    return errors.InvalidField(field, "value", f"Invalid '{bracketed(field)}': {why}", code)


def unsupported(field: str, why: str, code: str = "unsupported_value") -> errors.InvalidField:
    """A value that this server knows and does not honour; `why` is a whole sentence."""
    message = f"Unsupported value for '{bracketed(field)}': {why}"
    return errors.InvalidField(field, "unsupported", message, code)


def out_of_range(field: str, value: object, bound: Bound) -> errors.InvalidField:
    """`value` is on the wrong side of `bound`."""
    above = bound.sign.startswith("<")
    noun = bound.noun
    limit = int(bound.limit) if bound.limit == int(bound.limit) else bound.limit
    why = (
        f"{noun} {'above maximum' if above else 'below minimum'} value. "
        f"Expected a value {bound.sign} {limit}, but got {_short(value)} instead."
    )
    code = f"{noun}_above_max_value" if above else f"{noun}_below_min_value"
    return wrong_value(field, why, code)


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a decimal",
    "finite_number": "a finite decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
SIGNS = {
    "less_than_equal": ("<=", "le"),
    "less_than": ("<", "lt"),
    "greater_than_equal": (">=", "ge"),
    "greater_than": (">", "gt"),
}


def from_pydantic(error: ValidationError, inside: str = "") -> errors.InvalidField:
    """The first finding of a failed validation of the field `inside` as a sentence.

    Wire models mark the branches of their unions with names that begin with `#`, and raise custom
    errors of type `expected` with what they expected; both are read here.
    """
    detail = error.errors(include_url=False)[0]
    path = (inside, *map(str, detail["loc"]))
    field = ".".join(part for part in path if part and not part.startswith("#"))
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return missing(field)
    if kind == "expected":
        return wrong_type(field, context["what"], value)
    if kind in EXPECTED:
        return wrong_type(field, EXPECTED[kind], value)
    if kind in SIGNS:
        sign, key = SIGNS[kind]
        # Pydantic's limits are floats exactly where the field takes decimals.
        noun = "decimal" if isinstance(context[key], float) else "integer"
        return out_of_range(field, value, Bound(sign, context[key], noun))
    if kind in ("too_long", "string_too_long", "too_short", "string_too_short"):
        return _wrong_length(field, detail)
    if kind == "literal_error":
        return wrong_choice(field, value, str(context["expected"]))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(field, detail)
    return wrong_value(field, f"{detail['msg']}.")


def wrong_choice(field: str, value: object, choices: str) -> errors.InvalidField:
    """`choices` are the values that are possible, in words."""
    if not isinstance(value, str):
        return wrong_type(field, f"one of {choices}", value)
    message = f"Invalid value: '{value[:MAX_ECHO]}'. Supported values are: {choices}."
    return errors.InvalidField(field, "value", message)


def _wrong_length(field: str, detail: ErrorDetails) -> errors.InvalidField:
    value: Any = detail["input"]
    context = detail["ctx"]
    noun = "string" if isinstance(value, str) else "array"
    one = f"a {noun}" if noun == "string" else f"an {noun}"
    if detail["type"].endswith("too_short"):
        why = (
            f"empty {noun}. Expected {one} with minimum length {context['min_length']}, "
            f"but got an empty {noun} instead."
        )
        return wrong_value(field, why, f"empty_{noun}")
    why = (
        f"{noun} too long. Expected {one} with maximum length {context['max_length']}, "
        f"but got {one} with length {len(value)} instead."
    )
    return wrong_value(field, why, f"{noun}_above_max_length")


def _wrong_tag(field: str, detail: ErrorDetails) -> errors.InvalidField:
    """The name of a union's discriminator ends in `<field>_tag`."""
    context = detail["ctx"]
    name = context["discriminator"].removesuffix("_tag()").rpartition("_")[2]
    full = f"{field}.{name}" if field else name
    if detail["type"] == "union_tag_not_found":
        return missing(full)
    choices = context["expected_tags"].replace("#", "")
    return wrong_choice(full, context["tag"].removeprefix("#"), choices)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_ECHO else f"{text[:MAX_ECHO]}..."
