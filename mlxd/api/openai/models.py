"""The list of models, which all of OpenAI's APIs share."""

from collections.abc import Sequence

from mlxd.api.dialect import JsonObject, Operation, Route
from mlxd.api.wire.model_list import model_list, one_model
from mlxd.status import ModelInfo

MODEL_ROUTES = (
    Route("/v1/models", Operation.MODELS),
    Route("/v1/models/<path:name>", Operation.MODEL),
)


class ListsModels:
    """The part of a dialect that lists models as OpenAI does."""

    def model_list(self, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model_list`."""
        return model_list(models, created)

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model`."""
        return one_model(name, models, created)
