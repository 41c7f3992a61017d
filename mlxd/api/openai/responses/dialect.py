"""OpenAI's Responses: from the wire's request to a call, the endpoints, the errors."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from mlxd.api.dialect import Caller, Dialect, ErrorReply, Framing, JsonObject, Trial
from mlxd.api.endpoints import Services, SocketView, View
from mlxd.api.openai.errors import error_reply, from_pydantic
from mlxd.api.openai.models import MODEL_ROUTES, ListsModels
from mlxd.api.openai.responses.endpoints import responses_views
from mlxd.api.openai.responses.format.calls import Past, ResolvedCall, UnresolvedCall
from mlxd.api.openai.responses.format.compaction import (
    CompactionRenderer,
    CompactRenderer,
    compaction,
    summary_of,
)
from mlxd.api.openai.responses.format.full_input import full_input
from mlxd.api.openai.responses.format.items import (
    CompactionTriggerItem,
    mentioned_ids,
    stored_items,
    user_message,
)
from mlxd.api.openai.responses.format.neutral_request import (
    check,
    generate_request,
    ignored_fields,
    require_input,
)
from mlxd.api.openai.responses.format.renderer import ResponseAnswerOptions, ResponsesRenderer
from mlxd.api.openai.responses.format.response_object import response_id, settled_fields
from mlxd.api.openai.responses.format.tools import placed, toolbox
from mlxd.api.openai.responses.format.truncation import shortener
from mlxd.api.openai.responses.format.wire import (
    CompactRequest,
    HistoryRequest,
    ReasoningEvents,
    ResponsesRequest,
)
from mlxd.api.openai.sampling import reasoning_places
from mlxd.api.wire.framing import SSE
from mlxd.config.settings import Settings
from mlxd.errors import MlxdError
from mlxd.history import Item

Wire = TypeVar("Wire", bound=HistoryRequest)
PLACES = {
    "messages": "input",
    "response_format": "text.format",
    "response_format.schema": "text.format.schema",
}
"""Fields here that have another name in the engine."""


def build(settings: Settings) -> "OpenAIResponses":
    """The dialect as configured."""
    return OpenAIResponses(settings.responses.reasoning_events)


class OpenAIResponses(ListsModels, Dialect):
    """The dialect; `reasoning_events` says how it shows thinking."""

    name = "openai_responses"
    title = "responses"
    base_path = "/v1"
    framing: Framing = SSE
    routes = MODEL_ROUTES

    def __init__(self, reasoning_events: ReasoningEvents = "auto") -> None:
        self._reasoning_events = reasoning_events

    def configure(self, settings: Settings) -> None:
        """Show thinking from now on as these settings say."""
        self._reasoning_events = settings.responses.reasoning_events

    def views(self, services: Services) -> Sequence[View | SocketView]:
        """See `Endpoints.views`."""
        return responses_views(self, services)

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        return error_reply(error, validation_status=caller.validation_status, prompt="input")

    def trial(self, model: str) -> Trial:
        """See `Dialect.trial`."""
        body = {"model": model, "max_output_tokens": 64, "stream": True, "input": "Hello!"}
        return Trial("/v1/responses", body)

    def response_call(self, body: JsonObject, caller: Caller) -> UnresolvedCall:
        """A body of `POST /v1/responses`, understood; raises `InvalidField`."""
        wire = _checked(ResponsesRequest, body)
        check(wire)
        ignored = ignored_fields(wire)
        items = _items(wire, body, caller)

        def resolve(past: Past) -> ResolvedCall:
            history = full_input(wire, items, past)
            box = toolbox([*placed("tools", wire.tools or []), *history.tools])
            request = generate_request(wire, history.messages, box, caller)
            last = wire.input[-1] if wire.input else None
            compacts = isinstance(last, CompactionTriggerItem)
            request = summary_of(request) if compacts else request
            options = ResponseAnswerOptions(
                response=settled_fields(wire, body, caller),
                token=caller.request_id.removeprefix("req_"),
                created=caller.created,
                model=wire.model or "",
                style=wire.reasoning_style(self._reasoning_events),
                sealed=wire.includes("reasoning.encrypted_content"),
                logprobs=request.logprobs is not None,
                background=wire.background or False,
                silent=wire.generate is False,
                box=box,
            )
            call = ResolvedCall(
                requests=(request,),
                stream=wire.stream or False,
                renderer=(CompactionRenderer if compacts else ResponsesRenderer)(options),
                requested_model=wire.model or "",
                ignored=(*ignored, *history.unseen),
                places={**PLACES, **reasoning_places(wire, "reasoning.effort"), **box.places},
                input=history.input,
            )
            return shortener(call) if wire.truncation == "auto" else call

        return UnresolvedCall(
            id=response_id(caller),
            requested_model=wire.model or "",
            resolve=resolve,
            stream=wire.stream or False,
            store=wire.store is not False,
            background=wire.background or False,
            previous=wire.previous_response_id or "",
            conversation=wire.conversation.id if wire.conversation else "",
            appends=wire.generate is not False,
            references=mentioned_ids(wire.input or []),
            input=items,
        )

    def compact_call(self, body: JsonObject, caller: Caller) -> UnresolvedCall:
        """A body of `POST /v1/responses/compact`, understood; raises `InvalidField`."""
        wire = _checked(CompactRequest, body)
        require_input(wire)
        ignored = ignored_fields(wire)
        items = _items(wire, body, caller)

        def resolve(past: Past) -> ResolvedCall:
            history = full_input(wire, items, past)
            box = toolbox([*placed("tools", wire.tools or []), *history.tools])
            return ResolvedCall(
                requests=(compaction(wire, history, box, caller),),
                stream=False,
                renderer=CompactRenderer(caller, history.lasting),
                requested_model=wire.model,
                ignored=(*ignored, *history.unseen),
                places={**PLACES, **box.places},
                input=history.input,
            )

        return UnresolvedCall(
            id=response_id(caller),
            requested_model=wire.model,
            resolve=resolve,
            previous=wire.previous_response_id or "",
            conversation=wire.conversation.id if wire.conversation else "",
            references=mentioned_ids(wire.input or []),
            input=items,
        )


def _checked(model: type[Wire], body: JsonObject) -> Wire:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise from_pydantic(error) from None


def _items(wire: HistoryRequest, body: JsonObject, caller: Caller) -> tuple[Item, ...]:
    """The input as it is stored.

    Ids that are made up here are the same when the same is sent again, but not for the same words
    at another place of one history.
    """
    if wire.input is None:
        return ()
    given = body["input"]
    salt = caller.request_id if wire.conversation else wire.previous_response_id or ""
    return stored_items(user_message(given) if isinstance(given, str) else given, salt)
