"""Deployments: names of the caller's side, and the models behind them."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from mlxd.api.dialect import JsonObject
from mlxd.api.model_names import find_model, names_of
from mlxd.status import ModelInfo


def deployed(models: Sequence[ModelInfo], deployments: Mapping[str, str]) -> Sequence[ModelInfo]:
    """`models` under the names of their deployments; under their own where there are none."""
    if not deployments:
        return models
    behind = [(name, find_model(model, models)) for name, model in deployments.items()]
    return [replace(model, id=name, aliases=()) for name, model in behind if model is not None]


def deployment_list(
    models: Sequence[ModelInfo], deployments: Mapping[str, str], created: int
) -> JsonObject:
    """Every deployment with the model that answers to it; `created` in seconds since 1970."""
    names = [name for each in deployed(models, deployments) for name in names_of(each)]
    behind = [(name, find_model(deployments.get(name, name), models)) for name in names]
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
