"""OpenAI's Responses: from the wire's request to a neutral one, and the table of errors."""

import secrets
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from pydantic import ValidationError

from mlxd.api.dialect import (
    AnsweredCall,
    Caller,
    ErrorReply,
    Frame,
    JsonObject,
    MemoryCall,
    Past,
    Route,
)
from mlxd.api.openai.errors import error_reply, from_pydantic, wrong_type
from mlxd.api.openai.responses.format.compaction import CompactRenderer, compaction
from mlxd.api.openai.responses.format.full_input import History, recalled, resolved
from mlxd.api.openai.responses.format.items import ITEMS, InputItem, as_items, kept, mentioned
from mlxd.api.openai.responses.format.messages import neutral_said
from mlxd.api.openai.responses.format.neutral_request import (
    check,
    check_metadata,
    generate_request,
    ignored_fields,
    require_input,
)
from mlxd.api.openai.responses.format.renderer import ResponsesRenderer, Wanted, last_frames
from mlxd.api.openai.responses.format.response_object import response_id, settled_fields
from mlxd.api.openai.responses.format.tools import toolbox
from mlxd.api.openai.responses.format.truncation import shortener
from mlxd.api.openai.responses.format.wire import (
    CompactRequest,
    HistoryRequest,
    ReasoningEvents,
    ResponsesRequest,
)
from mlxd.errors import MlxdError
from mlxd.history import Item

Wire = TypeVar("Wire", bound=HistoryRequest)


class OpenAIResponses:
    """The dialect; `reasoning_events` says how it shows thinking."""

    name = "openai_responses"
    routes = (
        Route("POST", "/v1/responses", "respond"),
        Route("GET", "/v1/responses", "socket"),
        Route("POST", "/v1/responses/input_tokens", "count"),
        Route("POST", "/v1/responses/compact", "compact"),
        Route("GET", "/v1/responses/<response>", "response"),
        Route("DELETE", "/v1/responses/<response>", "delete_response"),
        Route("POST", "/v1/responses/<response>/cancel", "cancel_response"),
        Route("GET", "/v1/responses/<response>/input_items", "input_items"),
        Route("POST", "/v1/conversations", "create_conversation"),
        Route("GET", "/v1/conversations/<conversation>", "conversation"),
        Route("POST", "/v1/conversations/<conversation>", "update_conversation"),
        Route("DELETE", "/v1/conversations/<conversation>", "delete_conversation"),
        Route("GET", "/v1/conversations/<conversation>/items", "items"),
        Route("POST", "/v1/conversations/<conversation>/items", "add_items"),
        Route("GET", "/v1/conversations/<conversation>/items/<item>", "item"),
        Route("DELETE", "/v1/conversations/<conversation>/items/<item>", "delete_item"),
    )

    def __init__(self, reasoning_events: ReasoningEvents = "auto") -> None:
        self._reasoning_events = reasoning_events

    def parse(self, body: JsonObject, caller: Caller) -> MemoryCall:
        """See `Dialect.parse`."""
        if caller.operation == "compact":
            return _compact(body, caller)
        return _respond(body, caller, self._reasoning_events)

    def references(self, values: object, field: str) -> tuple[str, ...]:
        """See `ItemDialect.references`."""
        return mentioned(_checked(values, field))

    def items(self, values: object, field: str, referenced: Mapping[str, Item]) -> tuple[Item, ...]:
        """See `ItemDialect.items`."""
        models = _checked(values, field)
        for index, model in enumerate(models):
            list(neutral_said(model, f"{field}.{index}"))
        # Items of a conversation are told apart by their ids, whatever they say.
        items = kept(values if isinstance(values, list) else [], secrets.token_hex(16))
        past = Past(referenced=referenced)
        return tuple(resolved(*each, past)[0] for each in zip(items, models, strict=True))

    def metadata(self, value: object) -> bytes:
        """See `ItemDialect.metadata`."""
        if value is None:
            return b"{}"
        if not isinstance(value, dict):
            raise wrong_type("metadata", "an object", value)
        check_metadata(value)
        return msgspec.json.encode(value)

    def ending(self, body: bytes, number: int) -> Iterable[Frame]:
        """See `ItemDialect.ending`."""
        return last_frames(body, number)

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        return error_reply(error, validation_status=caller.validation_status, prompt="input")


def _checked(values: object, field: str) -> list[InputItem]:
    try:
        return ITEMS.validate_python(values)
    except ValidationError as error:
        raise from_pydantic(error, field) from None


def _wire(model: type[Wire], body: JsonObject) -> Wire:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise from_pydantic(error) from None


def _respond(body: JsonObject, caller: Caller, events: ReasoningEvents) -> MemoryCall:
    wire = _wire(ResponsesRequest, body)
    check(wire)
    ignored = ignored_fields(wire)
    items = _items(wire, body, caller)

    def recall(past: Past) -> AnsweredCall:
        history = recalled(wire, items, past)
        box = toolbox([*(wire.tools or []), *history.tools])
        request = generate_request(wire, history.messages, box, caller)
        wanted = Wanted(
            response=settled_fields(wire, body, caller),
            token=caller.request_id.removeprefix("req_"),
            created=caller.created,
            model=wire.model or "",
            style=wire.reasoning_style(events),
            sealed=wire.includes("reasoning.encrypted_content"),
            logprobs=request.logprobs is not None,
            background=wire.background or False,
            silent=wire.generate is False,
            box=box,
        )
        call = AnsweredCall(
            requests=(request,),
            stream=wire.stream or False,
            renderer=ResponsesRenderer(wanted),
            asked_model=wire.model or "",
            ignored=ignored,
            counted=lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
            input=history.input,
        )
        return shortener(call) if wire.truncation == "auto" else call

    return MemoryCall(
        id=response_id(caller),
        asked_model=wire.model or "",
        stream=wire.stream or False,
        store=wire.store is not False and caller.operation == "respond",
        background=wire.background or False,
        recall=recall,
        previous=wire.previous_response_id or "",
        conversation=wire.conversation.id if wire.conversation else "",
        appends=caller.operation == "respond" and wire.generate is not False,
        references=mentioned(wire.input or []),
        input=items,
        ignored=ignored,
    )


def _compact(body: JsonObject, caller: Caller) -> MemoryCall:
    wire = _wire(CompactRequest, body)
    require_input(wire)
    ignored = ignored_fields(wire)
    items = _items(wire, body, caller)

    def recall(past: Past) -> AnsweredCall:
        history: History = recalled(wire, items, past)
        return AnsweredCall(
            requests=(compaction(wire, history, caller),),
            stream=False,
            renderer=CompactRenderer(caller, history.lasting),
            asked_model=wire.model,
            ignored=ignored,
            input=history.input,
        )

    return MemoryCall(
        id=response_id(caller),
        asked_model=wire.model,
        stream=False,
        store=False,
        background=False,
        recall=recall,
        previous=wire.previous_response_id or "",
        conversation=wire.conversation.id if wire.conversation else "",
        references=mentioned(wire.input or []),
        input=items,
        ignored=ignored,
    )


def _items(wire: HistoryRequest, body: JsonObject, caller: Caller) -> tuple[Item, ...]:
    """The input as it is kept.

    Ids that are made up here are the same when the same is sent again, but not for the same words
    at another place of one history.
    """
    if wire.input is None:
        return ()
    values = as_items(body["input"])
    salt = caller.request_id if wire.conversation else wire.previous_response_id or ""
    return kept(values if isinstance(values, list) else [], salt)
