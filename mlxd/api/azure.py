"""Azure OpenAI: OpenAI's APIs at other paths, with deployments for models and codes of its own.

A body is read, and its answer written, by the OpenAI dialect that the path belongs to.
"""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from mlxd.api.azure_errors import in_azures_words
from mlxd.api.azure_filters import Filtered
from mlxd.api.dialect import Caller, ErrorReply, JsonObject, ParsedCall, Route
from mlxd.api.openai_chat import OpenAIChat
from mlxd.errors import MlxdError, ModelNotFound
from mlxd.messages import GenerateRequest

CLASSIC = "/openai/deployments/<path:deployment>"
"""Where the path names the model, whatever the body says."""
BASES = ("/openai/v1", "/openai")
"""Where the body names it."""


class Azure:
    """The dialect; `deployments` are names with the models behind them, None: models' own names.

    With `filter_results` the choices of chat answers say that a filter found nothing.
    """

    name = "azure"

    def __init__(
        self, deployments: Mapping[str, str] | None = None, *, filter_results: bool = False
    ) -> None:
        self._chat = OpenAIChat()
        self._deployments = deployments
        self._filter_results = filter_results
        self.routes = (
            Route("", "/openai", "root"),
            Route("POST", f"{CLASSIC}/chat/completions", "generate"),
            *(moved(route, base) for base in BASES for route in self._chat.routes),
            *(moved(route, base) for base in BASES for route in MODEL_ROUTES),
            Route("GET", "/openai/deployments", "deployments"),
        )

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        """See `Dialect.parse`."""
        if deployment := caller.path_args.get("deployment"):
            body = {**body, "model": deployment}
        return self._own(self._chat.parse(body, caller))

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        return in_azures_words(error, self._chat.error(error, caller))

    def _own(self, call: ParsedCall) -> ParsedCall:
        renderer = Filtered(call.renderer) if self._filter_results else call.renderer
        return replace(
            call,
            requests=tuple(self._sign(request) for request in call.requests),
            renderer=renderer,
            asked_model=self._model_behind(call.asked_model),
        )

    def _sign(self, request: GenerateRequest) -> GenerateRequest:
        source = msgspec.structs.replace(request.source, dialect=self.name)
        return msgspec.structs.replace(request, source=source)

    def _model_behind(self, asked: str) -> str:
        if not asked or self._deployments is None:
            return asked
        if asked not in self._deployments:
            raise ModelNotFound(model=asked[:MAX_ECHO], available=list(self._deployments))
        return self._deployments[asked]


MAX_ECHO = 256
"""Characters of an unknown name that the error repeats."""
MODEL_ROUTES = (
    Route("GET", "/v1/models", "models"),
    Route("GET", "/v1/models/<path:name>", "model"),
)


def moved(route: Route, base: str) -> Route:
    """A route of OpenAI's below `base`."""
    return replace(route, rule=base + route.rule.removeprefix("/v1"))
