"""OpenAI's Chat Completions: from the wire's request to neutral ones, and the table of errors."""

from msgspec.structs import replace
from pydantic import ValidationError

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
from mlxd.api.openai.chat.messages import neutral_messages
from mlxd.api.openai.chat.output_format import output, schema_place
from mlxd.api.openai.chat.renderer import ChatAnswerOptions, ChatRenderer
from mlxd.api.openai.chat.tools import ChatToolbox, legacy_toolbox, toolbox
from mlxd.api.openai.chat.wire import ChatRequest
from mlxd.api.openai.errors import error_reply, from_pydantic, wrong_value
from mlxd.api.openai.models import MODEL_ROUTES, ListsModels
from mlxd.api.openai.sampling import (
    neutral_reasoning,
    neutral_sampling,
    reasoning_places,
    template_args,
    token_limit,
)
from mlxd.api.openai.service_tier import KNOWN, given, priority
from mlxd.api.openai.wire import unknown_fields
from mlxd.api.wire.framing import SSE
from mlxd.api.wire.images import Unseen
from mlxd.config.settings import Settings
from mlxd.errors import MlxdError
from mlxd.messages import GenerateRequest, Output, Source


def build(settings: Settings) -> "OpenAIChat":
    """The dialect, which has no settings of its own."""
    return OpenAIChat()


class OpenAIChat(ListsModels, Dialect):
    """The dialect; has no state."""

    name = "openai_chat"
    title = "chat"
    base_path = "/v1"
    framing: Framing = SSE

    def __init__(self) -> None:
        generate = Route("/v1/chat/completions", Operation.GENERATE, self.parse)
        self.routes = (generate, *MODEL_ROUTES)

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        """See `api.dialect.Parse`."""
        try:
            wire = ChatRequest.model_validate(body)
        except ValidationError as error:
            raise from_pydantic(error) from None
        if wire.functions and not wire.tools:
            box = legacy_toolbox(wire.functions, wire.function_call)
        else:
            box = toolbox(wire.tools or [], wire.tool_choice)
        ignored = [
            *unknown_fields(wire),
            *box.dropped,
            *(["stop"] if "" in (wire.stop or []) else []),
            *(["service_tier"] if wire.service_tier not in (None, *KNOWN) else []),
        ]
        unseen = Unseen()
        form, wanted = output(wire)
        requests = _requests(wire, box, caller, unseen=unseen, wanted=wanted)
        ignored += unseen.places
        options = ChatAnswerOptions(
            id=f"chatcmpl-{caller.request_id.removeprefix('req_')}",
            created=caller.created,
            model=wire.model or "",
            choices=wire.n or 1,
            usage=bool(wire.stream_options and wire.stream_options.include_usage),
            logprobs=bool(wire.logprobs),
            service_tier=given(wire.service_tier, caller),
            custom_tools=box.custom,
            legacy_calls=box.legacy,
        )
        return ParsedCall(
            requests=requests,
            stream=bool(wire.stream),
            renderer=ChatRenderer(options),
            requested_model=wire.model or "",
            ignored=tuple(dict.fromkeys(ignored)),
            places={
                "response_format": form,
                "response_format.schema": schema_place(wire, form),
                **reasoning_places(wire, "reasoning_effort", wire.thinking),
                **({"tools": "functions"} if box.legacy else {}),
                **box.places,
            },
        )

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """See `Dialect.error`."""
        return error_reply(error, validation_status=caller.validation_status, prompt="messages")

    def trial(self, model: str) -> Trial:
        """See `Dialect.trial`."""
        messages = [{"role": "user", "content": "Hello!"}]
        body = {"model": model, "max_tokens": 64, "stream": True, "messages": messages}
        return Trial("/v1/chat/completions", body)


def _requests(
    wire: ChatRequest, box: ChatToolbox, caller: Caller, *, unseen: Unseen, wanted: Output
) -> tuple[GenerateRequest, ...]:
    """One request a choice; they differ in id and seed only."""
    if wire.top_logprobs and not wire.logprobs:
        raise wrong_value("top_logprobs", "only allowed when 'logprobs' is true.")
    sampling = neutral_sampling(wire)
    # What the caller calls the conversation, for those who watch the server.
    session = (wire.model_extra or {}).get("prompt_cache_key")
    first = GenerateRequest(
        id=caller.request_id,
        model=wire.model or "",
        messages=neutral_messages(wire.messages, unseen),
        tools=box.tools,
        tool_choice=box.choice,
        # The older answer has room for one call.
        parallel_tools=wire.parallel_tool_calls is not False and not box.legacy,
        sampling=sampling,
        max_tokens=token_limit(wire.max_completion_tokens or wire.max_tokens),
        stop=tuple(stop for stop in wire.stop or [] if stop),
        output=wanted,
        reasoning=neutral_reasoning(wire, wire.reasoning_effort, wire.thinking),
        logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
        template_args=template_args(wire),
        priority=priority(wire.service_tier, caller),
        source=Source(key=caller.key, session=session if isinstance(session, str) else ""),
    )
    if (choices := wire.n or 1) == 1:
        return (first,)
    requests = []
    for choice in range(choices):
        seed = sampling.seed
        if seed is not None:
            # Another seed for each choice, or all would be the same answer; within 64 bits.
            seed = (seed + choice + 2**63) % 2**64 - 2**63
        id_ = f"{caller.request_id}-{choice}"
        requests.append(replace(first, id=id_, sampling=replace(sampling, seed=seed)))
    return tuple(requests)
