"""Azure OpenAI: OpenAI's APIs at other paths, with deployments for models and codes of its own.

A body is read, and its answer written, by the OpenAI dialect that the path belongs to.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from mlxd.api.azure.content_filter import Filtered
from mlxd.api.azure.errors import in_azures_words
from mlxd.api.dialect import (
    AnsweredCall,
    Caller,
    ErrorReply,
    Frame,
    JsonObject,
    MemoryCall,
    ParsedCall,
    Past,
    Route,
)
from mlxd.api.openai.chat.dialect import OpenAIChat
from mlxd.api.openai.responses.dialect import OpenAIResponses
from mlxd.errors import MlxdError, ModelNotFound
from mlxd.history import Item
from mlxd.messages import GenerateRequest

CLASSIC = "/openai/deployments/<path:deployment>"
"""Where the path names the model, whatever the body says."""
BASES = ("/openai/v1", "/openai")
"""Where the body names it."""
MODEL_ROUTES = (
    Route("GET", "/v1/models", "models"),
    Route("GET", "/v1/models/<path:name>", "model"),
)
MAX_ECHO = 256
"""Characters of an unknown name that the error repeats."""


def moved(route: Route, base: str) -> Route:
    """A route of OpenAI's below `base`."""
    return replace(route, rule=base + route.rule.removeprefix("/v1"))


class Azure:
    """The dialect; `deployments` are names and the models behind them; without any, models' own.

    Its paths of Responses are those of `responses`, moved. With `filter_results` the choices of
    chat answers say that a filter found nothing.
    """

    name = "azure"

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
        remembering = (
            *(moved(route, base) for base in BASES for route in self._responses.routes),
            Route("POST", f"{CLASSIC}/responses", "respond"),
        )
        self._of_responses = frozenset(route.rule for route in remembering)
        self.routes = (
            Route("", "/openai", "root"),
            *(moved(route, base) for base in BASES for route in self._chat.routes),
            Route("POST", f"{CLASSIC}/chat/completions", "generate"),
            *remembering,
            *(moved(route, base) for base in BASES for route in MODEL_ROUTES),
            Route("GET", "/openai/deployments", "deployments"),
        )

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall | MemoryCall:
        """See `Dialect.parse`."""
        if deployment := caller.path_args.get("deployment"):
            body = {**body, "model": deployment}
        if self._is_chat(caller):
            return self._chat_call(self._chat.parse(body, caller))
        return self._memory_call(self._responses.parse(body, caller))

    def references(self, values: object, field: str) -> tuple[str, ...]:
        """See `ItemDialect.references`."""
        return self._responses.references(values, field)

    def items(self, values: object, field: str, referenced: Mapping[str, Item]) -> tuple[Item, ...]:
        """See `ItemDialect.items`."""
        return self._responses.items(values, field, referenced)

    def metadata(self, value: object) -> bytes:
        """See `ItemDialect.metadata`."""
        return self._responses.metadata(value)

    def ending(self, body: bytes, number: int) -> Iterable[Frame]:
        """See `ItemDialect.ending`."""
        return self._responses.ending(body, number)

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        vendor = self._chat if self._is_chat(caller) else self._responses
        return in_azures_words(error, vendor.error(error, caller))

    def _is_chat(self, caller: Caller) -> bool:
        return caller.operation == "generate" and caller.rule not in self._of_responses

    def _chat_call(self, call: ParsedCall) -> ParsedCall:
        return replace(
            call,
            requests=self._signed(call.requests),
            renderer=Filtered(call.renderer) if self._filter_results else call.renderer,
            asked_model=self._model_behind(call.asked_model),
        )

    def _memory_call(self, call: MemoryCall) -> MemoryCall:
        model = self._model_behind(call.asked_model)

        def recall(past: Past) -> AnsweredCall:
            return self._answered_call(call.recall(past), model)

        return replace(call, recall=recall, asked_model=model)

    def _answered_call(self, call: AnsweredCall, model: str) -> AnsweredCall:
        def shorter(tokens: int, window: int) -> AnsweredCall | None:
            left = call.shorter(tokens, window)
            return left and self._answered_call(left, model)

        requests = self._signed(call.requests)
        return replace(call, requests=requests, asked_model=model, shorter=shorter)

    def _signed(self, requests: tuple[GenerateRequest, ...]) -> tuple[GenerateRequest, ...]:
        return tuple(
            msgspec.structs.replace(
                request, source=msgspec.structs.replace(request.source, dialect=self.name)
            )
            for request in requests
        )

    def _model_behind(self, asked: str) -> str:
        if not asked or not self._deployments:
            return asked
        if asked not in self._deployments:
            raise ModelNotFound(model=asked[:MAX_ECHO], available=list(self._deployments))
        return self._deployments[asked]
