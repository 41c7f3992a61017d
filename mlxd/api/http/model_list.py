"""The bodies of `/v1/models`: one shape that OpenAI's and Anthropic's clients both read.

Anthropic's clients, where they can be told from others, get the fields of their own API alone.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from mlxd.api.dialect import JsonObject
from mlxd.api.http.model_names import find_model, listed_names, names_of
from mlxd.errors import ModelNotFound
from mlxd.status import ModelInfo

OPENAI_ONLY = ("object", "created", "owned_by", "max_model_len", "context_length")


def model_list(models: Sequence[ModelInfo], created: int, dialect: str = "") -> JsonObject:
    """Every model under each name it can be asked for by; `created` in seconds since 1970."""
    data = [_model(model, name, created) for model in models for name in names_of(model)]
    body = {
        "object": "list",
        "data": [_in_words_of(dialect, model) for model in data],
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": False,
    }
    return _in_words_of(dialect, body)


def one_model(
    name: str, models: Sequence[ModelInfo], created: int, dialect: str = ""
) -> JsonObject:
    """The model that was configured under this name or a pattern; raises `ModelNotFound`."""
    model = find_model(name, models)
    if model is None:
        raise ModelNotFound(model=name[:256], available=listed_names(models))
    return _in_words_of(dialect, _model(model, name, created))


def deployed(
    models: Sequence[ModelInfo], deployments: Mapping[str, str] | None
) -> Sequence[ModelInfo]:
    """`models` under the names of their deployments; under their own where there are none."""
    if not deployments:
        return models
    behind = [(name, find_model(model, models)) for name, model in deployments.items()]
    return [replace(model, id=name, aliases=()) for name, model in behind if model is not None]


def deployment_list(
    models: Sequence[ModelInfo], deployments: Mapping[str, str] | None, created: int
) -> JsonObject:
    """Every deployment with the model that answers to it; `created` in seconds since 1970."""
    names = [name for each in deployed(models, deployments) for name in names_of(each)]
    behind = [(name, find_model((deployments or {}).get(name, name), models)) for name in names]
    data = [
        {
            "id": name,
            "object": "deployment",
            "model": model.id,
            "status": "succeeded",
            "owner": "mlxd",
            "created_at": created,
            "updated_at": created,
            "scale_settings": {"scale_type": "standard"},
        }
        for name, model in behind
        if model is not None
    ]
    return {"object": "list", "data": data}


def _in_words_of(dialect: str, body: JsonObject) -> JsonObject:
    if dialect != "anthropic":
        return body
    return {key: value for key, value in body.items() if key not in OPENAI_ONLY}


def _model(model: ModelInfo, name: str, created: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "mlxd",
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
    if model.context_length:
        # Unknown until the model was loaded once; a wrong figure is worse than none.
        names = ("max_model_len", "context_length", "max_input_tokens")
        body |= dict.fromkeys(names, model.context_length)
    if model.max_tokens:
        body["max_tokens"] = min(model.max_tokens, model.context_length or model.max_tokens)
    return body
