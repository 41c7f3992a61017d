"""OpenAI's Chat Completions: from the wire's request to neutral ones, and the table of errors."""

import re
from typing import Any

import msgspec
from pydantic import ValidationError

from mlxd.api.dialect import Caller, ErrorReply, JsonObject, ParsedCall, Route
from mlxd.api.openai_chat_messages import neutral_messages
from mlxd.api.openai_chat_output import output
from mlxd.api.openai_chat_render import ChatRenderer, Wanted
from mlxd.api.openai_chat_tools import Toolbox, legacy_toolbox, toolbox
from mlxd.api.openai_chat_wire import ChatRequest
from mlxd.api.openai_errors import (
    Bound,
    error_reply,
    from_pydantic,
    out_of_range,
    unsupported,
    wrong_type,
    wrong_value,
)
from mlxd.api.openai_wire import unknown_fields
from mlxd.errors import MlxdError
from mlxd.messages import (
    GenerateRequest,
    ReasoningOptions,
    Sampling,
    Scalar,
    Source,
)

MAX_TOKENS = 2**31 - 1
"""A larger `max_tokens` means the same: the window ends the answer long before."""
ALL_TOKENS = 1_000_000
"""A `top_k` from here on is above any vocabulary, and restricts nothing."""
MAX_BIASES = 1024
MAX_TEMPLATE_TEXT = 1000
"""Characters of a template argument."""

TEMPLATE_ARGS = frozenset(
    {
        *("enable_thinking", "thinking", "thinking_budget", "thinking_mode", "reasoning_effort"),
        *("preserve_thinking", "clear_thinking", "date_string"),
    }
)
"""What a caller may set in a chat template. The rest of its variables are the server's."""

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")


class OpenAIChat:
    """The dialect; has no state."""

    name = "openai_chat"
    routes = (Route("POST", "/v1/chat/completions", "generate"),)

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        """See `Dialect.parse`."""
        try:
            wire = ChatRequest.model_validate(body)
        except ValidationError as error:
            raise from_pydantic(error) from None
        box = _toolbox(wire)
        asked = wire.model or ""
        wanted = Wanted(
            id=f"chatcmpl-{caller.request_id.removeprefix('req_')}",
            created=caller.created,
            model=asked,
            choices=wire.n or 1,
            usage=bool(wire.stream_options and wire.stream_options.include_usage),
            logprobs=bool(wire.logprobs),
            custom_tools=box.custom,
            legacy_calls=box.legacy,
        )
        return ParsedCall(
            requests=_requests(wire, box, caller),
            stream=bool(wire.stream),
            renderer=ChatRenderer(wanted),
            asked_model=asked,
            ignored=_ignored(wire, box),
        )

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        return error_reply(error, validation_status=caller.validation_status, prompt="messages")


def _toolbox(wire: ChatRequest) -> Toolbox:
    if wire.tools or not wire.functions:
        return toolbox(wire.tools or [], wire.tool_choice)
    return legacy_toolbox(wire.functions, wire.function_call)


def _requests(wire: ChatRequest, box: Toolbox, caller: Caller) -> tuple[GenerateRequest, ...]:
    """One request a choice; they differ in id and seed only."""
    sampling = _sampling(wire)
    choices = wire.n or 1
    first = GenerateRequest(
        id=caller.request_id,
        model=wire.model or "",
        messages=neutral_messages(wire.messages),
        tools=box.tools,
        tool_choice=box.choice,
        parallel_tools=wire.parallel_tool_calls is not False and not box.legacy,
        sampling=sampling,
        max_tokens=_max_tokens(wire),
        stop=tuple(stop for stop in wire.stop or [] if stop),
        output=output(wire),
        reasoning=_reasoning(wire),
        logprobs=_logprobs(wire),
        template_args=_template_args(wire),
        source=Source(dialect=OpenAIChat.name, key=caller.key),
    )
    if choices == 1:
        return (first,)
    return tuple(
        msgspec.structs.replace(
            first, id=f"{caller.request_id}-{choice}", sampling=_reseeded(sampling, choice)
        )
        for choice in range(choices)
    )


def _sampling(wire: ChatRequest) -> Sampling:
    top_p, top_k = wire.top_p, wire.top_k
    if top_k is not None and not 0 < top_k < ALL_TOKENS:
        top_k = 0
    if top_p == 0:
        # The smallest set with no mass at all: the likeliest token alone.
        top_p, top_k = None, 1
    return Sampling(
        temperature=wire.temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=wire.min_p,
        repetition_penalty=wire.repetition_penalty,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        logit_bias=_logit_bias(wire.logit_bias) or None,
        seed=wire.seed,
    )


def _reseeded(sampling: Sampling, choice: int) -> Sampling:
    """Another seed for each choice, or all would be the same answer; within 64 bits."""
    if sampling.seed is None:
        return sampling
    seed = (sampling.seed + choice + 2**63) % 2**64 - 2**63
    return msgspec.structs.replace(sampling, seed=seed)


def _logit_bias(biases: dict[str, Any] | None) -> dict[int, float]:
    if biases is None:
        return {}
    if len(biases) > MAX_BIASES:
        why = f"too many keys. Expected at most {MAX_BIASES}, but got {len(biases)} instead."
        raise wrong_value("logit_bias", why, "object_above_max_properties")
    return {_token_id(key): _bias(key, value) for key, value in biases.items()}


def _token_id(key: str) -> int:
    if _TOKEN_ID.fullmatch(key) is None or int(key) > 2**31 - 1:
        why = f"keys must be token ids, but got '{key[:64]}' instead."
        raise wrong_value("logit_bias", why)
    return int(key)


def _bias(key: str, value: object) -> float:
    field = f"logit_bias.{key}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(field, "a decimal", value)
    if value > 100:
        raise out_of_range(field, value, Bound("<=", 100))
    if value < -100:
        raise out_of_range(field, value, Bound(">=", -100))
    return float(value)


def _max_tokens(wire: ChatRequest) -> int | None:
    asked = wire.max_completion_tokens or wire.max_tokens
    return min(asked, MAX_TOKENS) if asked else None


def _logprobs(wire: ChatRequest) -> int | None:
    if wire.logprobs:
        return wire.top_logprobs or 0
    if wire.top_logprobs:
        raise wrong_value("top_logprobs", "only allowed when 'logprobs' is true.")
    return None


def _template_args(wire: ChatRequest) -> dict[str, Scalar]:
    args: dict[str, Scalar] = {}
    for name, value in (wire.chat_template_kwargs or {}).items():
        field = f"chat_template_kwargs.{name[:64]}"
        if name not in TEMPLATE_ARGS:
            raise unsupported(field, f"one of {', '.join(sorted(TEMPLATE_ARGS))} can be set.")
        if isinstance(value, dict | list):
            raise wrong_type(field, "a string, number, boolean or null", value)
        if isinstance(value, str) and len(value) > MAX_TEMPLATE_TEXT:
            raise wrong_value(field, f"longer than {MAX_TEMPLATE_TEXT} characters.")
        args[name] = value
    return args


def _reasoning(wire: ChatRequest) -> ReasoningOptions:
    """The fields of the request, and the template argument by which others ask for the same."""
    enabled = wire.enable_thinking
    if enabled is None:
        given = (wire.chat_template_kwargs or {}).get("enable_thinking")
        enabled = given if isinstance(given, bool) else None
    if wire.reasoning_effort == "none":
        enabled = False
    return ReasoningOptions(enabled=enabled, effort=wire.reasoning_effort, budget=_budget(wire))


def _budget(wire: ChatRequest) -> int | None:
    if wire.thinking_budget is not None:
        return wire.thinking_budget
    given = (wire.chat_template_kwargs or {}).get("thinking_budget")
    return given if type(given) is int and given >= 0 else None


def _ignored(wire: ChatRequest, box: Toolbox) -> tuple[str, ...]:
    names = [*unknown_fields(wire), *box.dropped]
    if "" in (wire.stop or []):
        names.append("stop")
    return tuple(dict.fromkeys(names))
