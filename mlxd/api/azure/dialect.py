"""Azure OpenAI: OpenAI's APIs at other paths, with deployments for models and codes of its own.

A body is read, and its answer written, by the OpenAI dialect that the path belongs to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from mlxd.api.azure.content_filter import Filtered
from mlxd.api.azure.deployments import deployed, deployment_list
from mlxd.api.azure.errors import in_azures_words
from mlxd.api.dialect import (
    Caller,
    Dialect,
    ErrorReply,
    Framing,
    JsonObject,
    Operation,
    ParsedCall,
    Route,
    Trial,
)
from mlxd.api.endpoints import ApiCall, Reply, Services, SocketView, View, json_reply
from mlxd.api.model_names import MAX_ECHO
from mlxd.api.openai.chat.dialect import OpenAIChat
from mlxd.api.openai.models import MODEL_ROUTES
from mlxd.api.openai.responses.dialect import OpenAIResponses
from mlxd.api.openai.responses.endpoints import responses_views
from mlxd.api.openai.responses.format.calls import UnresolvedCall
from mlxd.api.wire.framing import SSE
from mlxd.config.settings import Settings
from mlxd.errors import MlxdError, ModelNotFound
from mlxd.status import ModelInfo

CLASSIC = "/openai/deployments/<path:deployment>"
"""Where the path names the model, whatever the body says."""
BASES = ("/openai/v1", "/openai")
"""Where the body names it."""


def build(settings: Settings) -> "Azure":
    """The dialect as configured."""
    azure = settings.azure
    return Azure(
        azure.deployments,
        responses=OpenAIResponses(settings.responses.reasoning_events),
        filter_results=azure.content_filter_results,
    )


def moved(rule: str) -> tuple[str, ...]:
    """Where a path of OpenAI's is at Azure."""
    return tuple(base + rule.removeprefix("/v1") for base in BASES)


class Azure(Dialect):
    """The dialect; `deployments` are names and the models behind them; without any, models' own.

    Its paths of Responses are those of `responses`, moved. With `filter_results` the choices of
    chat answers say that a filter found nothing.
    """

    name = "azure"
    title = "azure"
    base_path = ""
    framing: Framing = SSE
    prefixes = ("/openai",)

    def __init__(
        self,
        deployments: Mapping[str, str] | None = None,
        *,
        responses: OpenAIResponses | None = None,
        filter_results: bool = False,
    ) -> None:
        self._chat = OpenAIChat()
        self._responses = responses or OpenAIResponses()
        self._deployments = deployments or {}
        self._filter_results = filter_results
        chat = (*moved("/v1/chat/completions"), f"{CLASSIC}/chat/completions")
        self.routes = (
            *(Route(rule, Operation.GENERATE, self.chat_call) for rule in chat),
            *(replace(route, rule=rule) for route in MODEL_ROUTES for rule in moved(route.rule)),
        )

    def configure(self, settings: Settings) -> None:
        """Serve these deployments from now on."""
        self._deployments = settings.azure.deployments or {}
        self._filter_results = settings.azure.content_filter_results
        self._responses.configure(settings)

    def views(self, services: Services) -> Sequence[View | SocketView]:
        """See `Endpoints.views`."""

        async def deployments(call: ApiCall) -> Reply:
            created = call.caller.created
            return json_reply(deployment_list(services.engine.models(), self._deployments, created))

        views = responses_views(self, services)
        # Azure has the deployment in the path of answers alone.
        respond = views[:1]
        assert all(view.rule == "/v1/responses" for view in respond), "the first view answers"
        return (
            *(replace(view, rule=rule) for view in views for rule in moved(view.rule)),
            *(replace(view, rule=f"{CLASSIC}/responses") for view in respond),
            View("GET", "/openai/deployments", deployments),
        )

    def chat_call(self, body: JsonObject, caller: Caller) -> ParsedCall:
        """See `api.dialect.Parse`."""
        call = self._chat.parse(_with_deployment(body, caller), caller)
        return replace(
            call,
            renderer=Filtered(call.renderer) if self._filter_results else call.renderer,
            requested_model=self._model_behind(call.requested_model),
        )

    def response_call(self, body: JsonObject, caller: Caller) -> UnresolvedCall:
        """See `OpenAIResponses.response_call`."""
        return self._deployed(self._responses.response_call(_with_deployment(body, caller), caller))

    def compact_call(self, body: JsonObject, caller: Caller) -> UnresolvedCall:
        """See `OpenAIResponses.compact_call`."""
        return self._deployed(self._responses.compact_call(body, caller))

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        # By the path: Chat Completions calls the prompt `messages`, and the rest calls it `input`.
        vendor = self._chat if "/chat/" in caller.rule else self._responses
        return in_azures_words(error, vendor.error(error, caller))

    def headers(self, caller: Caller) -> Mapping[str, str]:
        """See `Dialect.headers`."""
        return {"apim-request-id": caller.request_id}

    def trial(self, model: str) -> Trial | None:
        """See `Dialect.trial`."""
        names = [name for name, behind in self._deployments.items() if behind == model]
        deployment = (names or list(self._deployments) or [model])[0]
        trial = self._chat.trial(deployment)
        path = f"/openai/deployments/{quote(deployment)}/chat/completions"
        # The deployment is in the path.
        body = {name: value for name, value in trial.body.items() if name != "model"}
        return replace(trial, path=path, body=body)

    def model_list(self, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model_list`."""
        return self._chat.model_list(deployed(models, self._deployments), created)

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model`."""
        return self._chat.model(name, deployed(models, self._deployments), created)

    def _deployed(self, call: UnresolvedCall) -> UnresolvedCall:
        return replace(call, requested_model=self._model_behind(call.requested_model))

    def _model_behind(self, requested: str) -> str:
        if not requested or not self._deployments:
            return requested
        if requested not in self._deployments:
            available = list(self._deployments)
            raise ModelNotFound(model=requested[:MAX_ECHO], available=available)
        return self._deployments[requested]


def _with_deployment(body: JsonObject, caller: Caller) -> JsonObject:
    deployment = caller.path_args.get("deployment")
    return {**body, "model": deployment} if deployment else body
