"""Bodies and events held against the types of the vendors' own clients."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter

SERVERS_AGREE = "other servers of this API send it, and clients read it there"
ONE_LIST = "one list of models serves the clients of both vendors"
SCHEMA_HAS_IT = "OpenAI's published schema has it, its client's types have not"
OURS: dict[tuple[str, str], str] = {
    ("ChatCompletionMessage", "reasoning"): SERVERS_AGREE,
    ("ChatCompletionMessage", "reasoning_content"): SERVERS_AGREE,
    ("ChoiceDelta", "reasoning"): SERVERS_AGREE,
    ("ChoiceDelta", "reasoning_content"): SERVERS_AGREE,
    ("Model", "context_length"): SERVERS_AGREE,
    ("Model", "max_model_len"): SERVERS_AGREE,
    ("ModelInfo", "context_length"): SERVERS_AGREE,
    ("ModelInfo", "max_model_len"): SERVERS_AGREE,
    **{("Model", name): ONE_LIST for name in ("type", "display_name", "created_at", "lifecycle")},
    **{("Model", name): ONE_LIST for name in ("max_input_tokens", "max_tokens")},
    **{("ModelInfo", name): ONE_LIST for name in ("object", "created", "owned_by")},
    ("Response", "store"): "Open Responses requires it",
    ("Response", "presence_penalty"): "Open Responses requires it",
    ("Response", "frequency_penalty"): "Open Responses requires it",
    ("ResponseFunctionCallArgumentsDoneEvent", "name"): SCHEMA_HAS_IT,
    ("ResponseCustomToolCall", "status"): SCHEMA_HAS_IT,
    ("Logprob", "bytes"): SCHEMA_HAS_IT,
    ("LogprobTopLogprob", "bytes"): SCHEMA_HAS_IT,
    ("ResponseErrorEvent", "error"): "OpenAI's client raises what it finds there",
}
"""Fields that the clients' types have not, by the type they are in and with the reason."""


def check_shape(shape: Any, value: object) -> None:
    """Raises unless `value` is what `shape` describes.

    Nothing is converted, nothing that the type requires is missing, and at no depth there is a
    field that the type has not: the clients' models let that pass.
    """
    unknown = sorted(unknown_fields(shape, value) - OURS.keys())
    assert not unknown, unknown


def unknown_fields(shape: Any, value: object) -> set[tuple[str, str]]:
    """The fields in `value` that `shape` has not, with the names of the types they are in."""
    # Only JSON is read strictly without asking for instances of the models.
    return set(_extra(_adapter(shape).validate_json(json.dumps(value), strict=True)))


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _extra(value: object) -> Iterator[tuple[str, str]]:
    match value:
        case BaseModel():
            yield from ((type(value).__name__, name) for name in value.model_extra or ())
            for name in type(value).model_fields:
                yield from _extra(getattr(value, name))
        case list():
            for each in value:
                yield from _extra(each)
        case dict():
            for each in value.values():
                yield from _extra(each)
