"""The Response object: what of it the request alone decides, and how usage and errors look."""

import msgspec

from mlxd import errors
from mlxd.api.dialect import Caller, JsonObject
from mlxd.api.openai.errors import error_body
from mlxd.api.openai.responses.format.tools import echoed_tools
from mlxd.api.openai.responses.format.wire import ReasoningFields, ResponsesRequest
from mlxd.api.openai.service_tier import given
from mlxd.api.openai.wire import without_nulls
from mlxd.api.wire.uncached import uncached_tokens
from mlxd.events import Usage
from mlxd.history import Item
from mlxd.messages import Sampling


def response_id(caller: Caller) -> str:
    """The id of the response to this request."""
    return f"resp_{caller.request_id.removeprefix('req_')}"


def settled_fields(wire: ResponsesRequest, body: JsonObject, caller: Caller) -> JsonObject:
    """The fields of a response that stay as they are from its beginning to its end."""
    reasoning = wire.reasoning or ReasoningFields()
    summary = reasoning.summary or reasoning.generate_summary
    fields: JsonObject = {
        "id": response_id(caller),
        "object": "response",
        "created_at": caller.created,
        "background": wire.background or False,
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": wire.max_tool_calls,
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": wire.previous_response_id,
        "prompt_cache_key": wire.prompt_cache_key,
        "prompt_cache_retention": wire.prompt_cache_retention,
        "reasoning": {
            "effort": reasoning.effort,
            "summary": None if summary == "none" else summary,
        },
        "safety_identifier": wire.safety_identifier,
        "service_tier": given(wire.service_tier, caller),
        "store": wire.store is not False,
        "temperature": wire.temperature,
        # As it was sent, not as it was understood: fields that are unknown here come back too.
        "text": _text(body),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": echoed_tools(body.get("tools") or []),
        "top_logprobs": wire.top_logprobs or 0,
        "top_p": wire.top_p,
        "truncation": wire.truncation or "disabled",
        "metadata": wire.metadata or {},
        "presence_penalty": wire.presence_penalty or 0.0,
        "frequency_penalty": wire.frequency_penalty or 0.0,
    }
    if wire.user is not None:
        fields["user"] = wire.user
    if wire.conversation is not None:
        fields["conversation"] = {"id": wire.conversation.id}
    return fields


def echoed_sampling(fields: JsonObject, usual: Sampling) -> JsonObject:
    """What the request left open of sampling, as its model has it; 1 while that is not known."""
    values = {"temperature": usual.temperature, "top_p": usual.top_p}
    return {
        name: 1.0 if value is None else value
        for name, value in values.items()
        if fields.get(name) is None
    }


def _text(body: JsonObject) -> JsonObject:
    given = body.get("text") or {}
    format_ = given.get("format") or {"type": "text"}
    if format_["type"] == "json_schema":
        format_ = {"name": "response", "strict": False, **without_nulls(format_)}
    verbosity = given.get("verbosity")
    return {"format": format_, **({"verbosity": verbosity} if verbosity else {})}


def deleted_response(name: str) -> JsonObject:
    """What is left of a response."""
    return {"id": name, "object": "response", "deleted": True}


def output_of(body: JsonObject) -> tuple[Item, ...]:
    """The output items of a response's object."""
    return tuple(Item(each["id"], msgspec.json.encode(each)) for each in body["output"])


def counted(tokens: int) -> JsonObject:
    """The number of a prompt's tokens."""
    return {"object": "response.input_tokens", "input_tokens": tokens}


def usage_body(usage: Usage) -> JsonObject:
    """`usage` of a response."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": 0,
            **uncached_tokens(usage),
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def error_event(error: errors.MlxdError) -> JsonObject:
    """The fields of an `error` event: flat as it is documented, and nested as it is sent."""
    body = error_body(error, prompt="input")["error"]
    code = body["code"] or body["type"]
    flat = {"code": code, "message": body["message"], "param": body["param"]}
    return {**flat, "error": {"type": body["type"], **flat}}


def response_error(error: errors.MlxdError) -> JsonObject:
    """`error` of a failed response; clients decide by its code whether to try again."""
    match error:
        case errors.ContextTooLong():
            code = "context_length_exceeded"
        case errors.RateLimited():
            code = "rate_limit_exceeded"
        case errors.RequestError():
            code = "invalid_prompt"
        case _:
            code = "server_error"
    return {"code": code, "message": error_body(error, prompt="input")["error"]["message"]}
