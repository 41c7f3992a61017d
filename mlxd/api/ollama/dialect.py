"""Ollama's API: the wire format of programs that have its server hard-wired."""

from collections.abc import Mapping, Sequence

from mlxd.api.dialect import (
    Caller,
    Dialect,
    ErrorReply,
    Framing,
    JsonObject,
    Route,
    Trial,
)
from mlxd.api.endpoints import Services, View
from mlxd.api.model_names import MAX_ECHO, find_model, listed_names
from mlxd.api.ollama.endpoints import PULL, views
from mlxd.api.ollama.errors import error_reply
from mlxd.api.ollama.models import Listed, shown, tags
from mlxd.api.wire.framing import NDJSON
from mlxd.config.settings import Settings
from mlxd.errors import MlxdError, ModelNotFound
from mlxd.status import ModelInfo

USUAL_VERSION = "0.35.1"


def build(settings: Settings) -> "Ollama":
    """The dialect as configured."""
    windows = {name: model.context_length or 0 for name, model in settings.models.items()}
    port = settings.ollama.port
    return Ollama(settings.ollama.version, windows=windows, ports=(port,) if port else ())


class Ollama(Dialect):
    """The dialect; `windows` are those of models that are configured smaller than they could be."""

    name = "ollama"
    title = "ollama"
    base_path = ""
    framing: Framing = NDJSON
    prefixes = ("/api",)
    greeting = "Ollama is running"
    routes: Sequence[Route] = ()

    def __init__(
        self,
        version: str = USUAL_VERSION,
        *,
        windows: Mapping[str, int] | None = None,
        ports: Sequence[int] = (),
    ) -> None:
        self._version = version
        self._windows = windows or {}
        self.ports = ports

    def views(self, services: Services) -> Sequence[View]:
        """See `Endpoints.views`."""
        return views(services, version=self._version, windows=self._windows)

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        status, pulled = caller.validation_status, caller.rule == PULL
        return error_reply(error, validation_status=status, pulled=pulled)

    def trial(self, model: str) -> Trial:
        """See `Dialect.trial`."""
        messages = [{"role": "user", "content": "Hello!"}]
        return Trial(
            "/api/chat", {"model": model, "options": {"num_predict": 64}, "messages": messages}
        )

    def model_list(self, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model_list`."""
        return tags([Listed(each) for each in models], created)

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model`."""
        model = find_model(name, models)
        if model is None:
            raise ModelNotFound(name[:MAX_ECHO], listed_names(models))
        return shown(Listed(model), name, created)
