"""Anthropic's Messages: from the wire's request to a neutral one, and the table of errors."""

import re
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from mlxd.api.anthropic.errors import (
    NO_THREADS,
    error_reply,
    from_pydantic,
    unsupported,
    wrong_value,
)
from mlxd.api.anthropic.messages import Translator, system_message
from mlxd.api.anthropic.renderer import MessageAnswerOptions, MessagesRenderer
from mlxd.api.anthropic.tools import MessagesToolbox, toolbox
from mlxd.api.anthropic.wire import (
    AdaptiveThinking,
    EnabledThinking,
    MessagesRequest,
)
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
from mlxd.api.wire.base import unknown_fields
from mlxd.api.wire.errors import schema_places
from mlxd.api.wire.framing import SSE
from mlxd.api.wire.model_list import model_list, one_model
from mlxd.api.wire.sampling import read_sampling
from mlxd.config.settings import Settings
from mlxd.errors import MlxdError
from mlxd.messages import (
    GenerateRequest,
    JsonSchemaOutput,
    Output,
    ReasoningOptions,
    Source,
    TextOutput,
)
from mlxd.status import ModelInfo

CLIENT = "anthropic-version"
"""The header by which Anthropic's clients are known on paths that all vendors' share."""
FOREIGN_FIELDS = ("object", "created", "owned_by", "max_model_len", "context_length")
MAX_TOKENS = 2**31 - 1
"""A larger `max_tokens` or budget means the same: the window ends the answer long before."""

_SESSION = re.compile(r"session(?:_id)?[^0-9a-z]{1,8}([0-9a-f][0-9a-f-]{15,63})")


def build(settings: Settings) -> "Anthropic":
    """The dialect, which has no settings of its own."""
    return Anthropic()


class Anthropic(Dialect):
    """The dialect; has no state."""

    name = "anthropic"
    title = "messages"
    base_path = ""
    framing: Framing = SSE
    session_headers = ("x-claude-code-session-id",)

    def __init__(self) -> None:
        self.routes = (
            Route("/v1/messages", Operation.GENERATE, self.parse),
            Route("/v1/messages/count_tokens", Operation.COUNT, self.parse),
            Route("/v1/models", Operation.MODELS, header=CLIENT),
            Route("/v1/models/<path:name>", Operation.MODEL, header=CLIENT),
        )

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        """See `api.dialect.Parse`."""
        # Before all else: the later requests of a thread hold only what is new.
        if body.get("thread") is not None:
            why = "conversations are not kept here; send all messages."
            raise unsupported("thread", why, NO_THREADS)
        try:
            wire = MessagesRequest.model_validate(body)
        except ValidationError as error:
            raise from_pydantic(error) from None
        box = toolbox(wire.tools or [], wire.tool_choice)
        translator = Translator(box.known(), dict(box.schemas))
        request = _request(wire, box, translator, caller)
        ignored = [*unknown_fields(wire), *box.dropped, *translator.dropped]
        ignored += translator.unseen.places
        known = (None, "auto", "standard_only")
        ignored += [] if wire.service_tier in known else ["service_tier"]
        ignored += ["metadata"] if wire.metadata is not None else []
        ignored += ["stop_sequences"] if "" in (wire.stop_sequences or []) else []
        options = MessageAnswerOptions(
            request_id=caller.request_id,
            model=wire.model or "",
            thinking=isinstance(wire.thinking, EnabledThinking | AdaptiveThinking),
            omitted=getattr(wire.thinking, "display", None) == "omitted",
            service_tier="priority" if request.priority > 0 else "standard",
        )
        return ParsedCall(
            requests=(request,),
            stream=bool(wire.stream),
            renderer=MessagesRenderer(options),
            requested_model=wire.model or "",
            ignored=tuple(dict.fromkeys(ignored)),
            counted=lambda tokens: {"input_tokens": tokens},
            places={
                "response_format": _format_place(wire),
                "response_format.schema": f"{_format_place(wire)}.schema",
                # Nobody has to ask for thinking to be off here.
                "reasoning.enabled": "thinking" if wire.thinking else "",
                "reasoning.budget": "thinking.budget_tokens",
                "reasoning.effort": "output_config.effort",
                **schema_places(request.tools, translator.schemas),
            },
        )

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        return error_reply(
            error, request_id=caller.request_id, validation_status=caller.validation_status
        )

    def trial(self, model: str) -> Trial:
        """See `Dialect.trial`."""
        messages = [{"role": "user", "content": "Hello!"}]
        body = {"model": model, "max_tokens": 64, "stream": True, "messages": messages}
        return Trial("/v1/messages", body)

    def model_list(self, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model_list`."""
        body = model_list(models, created)
        return _own_fields({**body, "data": [_own_fields(each) for each in body["data"]]})

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """See `Dialect.model`."""
        return _own_fields(one_model(name, models, created))


def _own_fields(body: JsonObject) -> JsonObject:
    """Without the fields that other vendors' clients read: some of ours check for unknown ones."""
    return {key: value for key, value in body.items() if key not in FOREIGN_FIELDS}


def _request(
    wire: MessagesRequest, box: MessagesToolbox, translator: Translator, caller: Caller
) -> GenerateRequest:
    messages = tuple(translator.messages(wire.messages))
    if not messages:
        raise wrong_value("messages", "At least one message must have content that is read here.")
    offered = {tool.name for tool in box.offered}
    # Described where a message brings them in: in the list they would change the beginning of
    # every later prompt, and its KV cache would be worth nothing.
    loaded = [tool for name, tool in translator.loaded.items() if name not in offered]
    deferred = tuple(replace(tool, deferred=True) for tool in loaded)
    return GenerateRequest(
        id=caller.request_id,
        model=wire.model or "",
        messages=(*system_message(wire.system or []), *messages),
        tools=box.offered + deferred,
        tool_choice=box.choice,
        parallel_tools=box.parallel,
        sampling=read_sampling(wire),
        max_tokens=min(wire.max_tokens, MAX_TOKENS) if wire.max_tokens else None,
        stop=tuple(stop for stop in wire.stop_sequences or [] if stop),
        output=_output(wire),
        reasoning=_reasoning(wire),
        # "auto" is the best that the key has here; who says nothing wants nothing special.
        priority=min(int(wire.service_tier == "auto"), caller.best_priority),
        source=Source(key=caller.key, session=_session(wire)),
    )


def _session(wire: MessagesRequest) -> str:
    """The session that Claude Code names in the metadata, for those who watch the server."""
    user = wire.metadata.user_id if wire.metadata else None
    found = _SESSION.search(user or "")
    return found[1] if found else ""


def _format_place(wire: MessagesRequest) -> str:
    newer = wire.output_config and wire.output_config.format
    return "output_format" if wire.output_format and not newer else "output_config.format"


def _output(wire: MessagesRequest) -> Output:
    format_ = (wire.output_config and wire.output_config.format) or wire.output_format
    if format_ is None:
        return TextOutput()
    schema = msgspec.json.encode(format_.schema_).decode()
    return JsonSchemaOutput(schema, strict=True)


def _reasoning(wire: MessagesRequest) -> ReasoningOptions:
    """Thinking is off unless it is asked for; `adaptive` leaves it to the model."""
    effort = wire.output_config.effort if wire.output_config else None
    match wire.thinking:
        case EnabledThinking(budget_tokens=budget):
            limit = min(budget, MAX_TOKENS) if budget else None
            return ReasoningOptions(enabled=True, effort=effort, budget=limit)
        case AdaptiveThinking():
            return ReasoningOptions(effort=effort)
        case _:
            return ReasoningOptions(enabled=False, effort=effort)
