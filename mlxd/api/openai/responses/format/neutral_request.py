"""A Responses request in no dialect, once the conversation it goes on from is known."""

from collections.abc import Mapping
from typing import assert_never

import msgspec

from mlxd.api.dialect import Caller
from mlxd.api.openai.errors import missing, unsupported, wrong_type, wrong_value
from mlxd.api.openai.responses.format.messages import not_read
from mlxd.api.openai.responses.format.tools import ResponsesToolbox, dropped_tools, neutral_choice
from mlxd.api.openai.responses.format.wire import (
    UNHEEDED,
    HistoryRequest,
    JsonSchemaFormat,
    ResponsesRequest,
)
from mlxd.api.openai.sampling import (
    neutral_reasoning,
    neutral_sampling,
    template_args,
    token_limit,
)
from mlxd.api.openai.service_tier import KNOWN, priority
from mlxd.api.openai.wire import JsonObjectFormat, TextFormat, unknown_fields
from mlxd.errors import InvalidField
from mlxd.messages import (
    GenerateRequest,
    JsonSchemaOutput,
    Message,
    Output,
    Source,
    TextOutput,
)

MAX_PAIRS = 16
"""Keys of metadata."""
MAX_KEY = 64
"""Characters of such a key."""
MAX_VALUE = 512
"""Characters of its value."""


def check(wire: ResponsesRequest) -> None:
    """Raises `InvalidField` for metadata that is too much, and fields that don't go together."""
    check_metadata(wire.metadata or {})
    if wire.background and wire.store is False:
        raise wrong_value("background", "only allowed when 'store' is true.")
    if wire.prompt is not None and wire.input is None and not _goes_on(wire):
        why = "prompt templates are not kept here; send what they say as 'input'."
        raise unsupported("prompt", why, "unsupported_parameter")
    if (wire.model_extra or {}).get("response_format") is not None:
        why = "Responses has it as 'text.format'."
        raise unsupported("response_format", why, "unsupported_parameter")
    require_input(wire)


def check_metadata(metadata: Mapping[str, object]) -> None:
    """Raises `InvalidField` for metadata that is too much, or not text."""
    if len(metadata) > MAX_PAIRS:
        why = f"too many keys. Expected at most {MAX_PAIRS}, but got {len(metadata)} instead."
        raise wrong_value("metadata", why, "object_above_max_properties")
    for key, value in metadata.items():
        field = f"metadata.{key[:MAX_KEY]}"
        if len(key) > MAX_KEY:
            why = f"a key has {len(key)} characters. Expected at most {MAX_KEY}."
            raise wrong_value("metadata", why, "string_above_max_length")
        if not isinstance(value, str):
            raise wrong_type(field, "a string", value)
        if len(value) > MAX_VALUE:
            why = f"string too long. Expected at most {MAX_VALUE} characters, but got {len(value)}."
            raise wrong_value(field, why, "string_above_max_length")


def require_input(wire: HistoryRequest) -> None:
    """Raises `InvalidField` for a request without anything to answer."""
    if wire.conversation is not None and wire.previous_response_id is not None:
        message = (
            "Mutually exclusive parameters: only one of 'previous_response_id' and 'conversation' "
            "can be given."
        )
        code = "mutually_exclusive_parameters"
        raise InvalidField("previous_response_id", "value", message, code)
    if _goes_on(wire):
        return
    if wire.input is None:
        raise missing("input")
    if not wire.input:
        why = (
            "empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
        raise wrong_value("input", why, "empty_array")


def _goes_on(wire: HistoryRequest) -> bool:
    return wire.conversation is not None or wire.previous_response_id is not None


def generate_request(
    wire: ResponsesRequest, messages: tuple[Message, ...], box: ResponsesToolbox, caller: Caller
) -> GenerateRequest:
    """Raises `InvalidField`."""
    return GenerateRequest(
        id=caller.request_id,
        model=wire.model or "",
        messages=messages,
        tools=box.tools,
        tool_choice=neutral_choice(wire.tool_choice, box),
        parallel_tools=wire.parallel_tool_calls is not False,
        sampling=neutral_sampling(wire),
        # The one token is not shown; what counts is the prompt, which the engine then knows.
        max_tokens=1 if wire.generate is False else token_limit(wire.max_output_tokens),
        stop=tuple(stop for stop in wire.stop or [] if stop),
        output=_output(wire),
        reasoning=neutral_reasoning(wire, wire.reasoning.effort if wire.reasoning else None),
        logprobs=wire.top_logprobs
        or (0 if wire.includes("message.output_text.logprobs") else None),
        template_args=template_args(wire),
        priority=priority(wire.service_tier, caller),
        source=source(wire, caller),
    )


def source(wire: HistoryRequest, caller: Caller) -> Source:
    """Whose request it is, and of which conversation."""
    conversation = wire.conversation.id if wire.conversation else None
    session = wire.prompt_cache_key or ""
    return Source(key=caller.key, conversation=conversation, session=session)


def _output(wire: ResponsesRequest) -> Output:
    format_ = wire.text.format if wire.text else None
    match format_:
        case None | TextFormat():
            return TextOutput()
        case JsonObjectFormat():
            return format_.output
        case JsonSchemaFormat():
            schema = msgspec.json.encode(format_.schema_).decode()
            return JsonSchemaOutput(schema, format_.name, format_.strict or False)
        case _:
            assert_never(format_)


def ignored_fields(wire: HistoryRequest) -> tuple[str, ...]:
    """The names of what is not honoured and changes nothing."""
    names = [*unknown_fields(wire), *not_read(wire.input or [])]
    if isinstance(wire, ResponsesRequest):
        text, reasoning, stream = wire.text, wire.reasoning, wire.stream_options
        names += dropped_tools(wire.tools or [])
        names += [name for name in UNHEEDED if getattr(wire, name) is not None]
        unheeded = {
            "text.verbosity": text and text.verbosity,
            "reasoning.context": reasoning and reasoning.context is not None,
            "reasoning.mode": reasoning and reasoning.mode is not None,
            "service_tier": wire.service_tier not in (None, *KNOWN),
            "stream_options.include_obfuscation": stream and stream.include_obfuscation,
            "stop": "" in (wire.stop or []),
        }
        names += [name for name, given in unheeded.items() if given]
    return tuple(dict.fromkeys(names))
