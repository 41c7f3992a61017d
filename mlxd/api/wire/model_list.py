"""The bodies of lists of models: one shape that the clients of all vendors read."""

from collections.abc import Sequence
from datetime import UTC, datetime

from mlxd.api.dialect import JsonObject
from mlxd.api.model_names import MAX_ECHO, find_model, listed_names, names_of
from mlxd.errors import ModelNotFound
from mlxd.status import ModelInfo


def model_list(models: Sequence[ModelInfo], created: int) -> JsonObject:
    """Every model under each name it can be asked for by; `created` in seconds since 1970."""
    data = [_model(model, name, created) for model in models for name in names_of(model)]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": False,
    }


def one_model(name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
    """The model that was configured under this name or a pattern; raises `ModelNotFound`."""
    model = find_model(name, models)
    if model is None:
        raise ModelNotFound(model=name[:MAX_ECHO], available=listed_names(models))
    return _model(model, name, created)


def _model(model: ModelInfo, name: str, created: int) -> JsonObject:
    body: JsonObject = {
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
