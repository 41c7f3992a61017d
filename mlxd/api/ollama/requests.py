"""Bodies that ask for an answer: what they want in no dialect, and how it is shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from pydantic import ValidationError

from mlxd.api.dialect import Caller, JsonObject, ParsedCall
from mlxd.api.ollama.errors import from_pydantic, missing, unsupported, wrong
from mlxd.api.ollama.messages import neutral_images, neutral_messages
from mlxd.api.ollama.renderer import LinesOptions, LinesRenderer
from mlxd.api.ollama.wire import Answered, ChatBody, GenerateBody, NamedModel, OfferedTool, Options
from mlxd.api.wire.base import Wire, unknown_fields
from mlxd.api.wire.errors import schema_places
from mlxd.api.wire.images import Unseen
from mlxd.api.wire.sampling import read_sampling
from mlxd.messages import (
    GenerateRequest,
    Message,
    ReasoningOptions,
    Sampling,
    Source,
    Text,
    Tool,
)

MAX_TOKENS = 2**31 - 1
"""A larger `num_predict`, or none at all, means the same: the window ends the answer before."""
MAX_SEED = 2**63 - 1

Body = TypeVar("Body", bound=Wire)


@dataclass(frozen=True)
class ModelCall:
    """A body that says what to do, and of which model: what is left of one without a question.

    `answer` is None where the model is only to be loaded, or with `unload` to leave memory; with
    an answer, it leaves memory behind that. `truncate` lets the oldest messages be left out.
    """

    model: str
    stream: bool
    chat: bool
    answer: ParsedCall | None = None
    unload: bool = False
    truncate: bool = False
    ignored: tuple[str, ...] = ()


def validated(kind: type[Body], body: JsonObject) -> Body:
    """`body` as `kind` of it; raises `InvalidField`."""
    if kind is not NamedModel and not body.get("model"):
        raise missing("model")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise from_pydantic(error) from None


def chat_call(body: JsonObject, caller: Caller) -> ModelCall:
    """A body of `/api/chat`; raises `InvalidField`."""
    wire = validated(ChatBody, body)
    if not wire.messages:
        return _model_call(wire, chat=True)
    unseen = Unseen()
    messages = neutral_messages(wire.messages, unseen)
    return _asking(wire, messages, caller, unseen=unseen, offered=wire.tools or ())


def generate_call(body: JsonObject, caller: Caller) -> ModelCall:
    """A body of `/api/generate`; raises `InvalidField`."""
    wire = validated(GenerateBody, body)
    if wire.raw and (wire.template or wire.system or wire.context):
        why = "raw mode does not support template, system, or context"
        raise unsupported("raw", why)
    if wire.template:
        raise unsupported("template", "template: the model's own chat template is used here")
    if wire.raw:
        raise unsupported("raw", "raw: prompts without the model's chat template are not read here")
    if wire.suffix:
        raise unsupported("suffix", f'"{wire.model}" does not support insert')
    if not wire.prompt and not wire.images:
        return _model_call(wire, chat=False)
    system = (Message("system", (Text(wire.system),)),) if wire.system else ()
    prompt = (Text(wire.prompt),) if wire.prompt else ()
    user = Message("user", (*prompt, *neutral_images(wire.images or [], "", None)))
    return _asking(wire, (*system, user), caller, unseen=Unseen())


def _model_call(wire: Answered, *, chat: bool) -> ModelCall:
    return ModelCall(
        model=wire.model,
        stream=wire.stream is not False,
        chat=chat,
        unload=wire.keep_alive == 0,
        ignored=tuple(_ignored(wire)),
    )


def _asking(
    wire: ChatBody | GenerateBody,
    messages: tuple[Message, ...],
    caller: Caller,
    *,
    unseen: Unseen,
    offered: Sequence[OfferedTool] = (),
) -> ModelCall:
    tools = tuple(_tools(offered))
    request = _request(wire, messages, tools, caller)
    other = [f"tools.{each.type}" for each in offered if each.type != "function"]
    ignored = tuple(dict.fromkeys([*_ignored(wire), *other, *unseen.places]))
    options = LinesOptions(
        model=wire.model,
        created=caller.created,
        chat=isinstance(wire, ChatBody),
        logprobs=bool(wire.logprobs),
    )
    schemas = {
        each.function.name: f"tools.{number}.function.parameters"
        for number, each in enumerate(offered)
        if each.function is not None
    }
    no_thinking = unsupported("think", f'"{wire.model}" does not support thinking')
    parsed = ParsedCall(
        requests=(request,),
        stream=wire.stream is not False,
        renderer=LinesRenderer(options),
        requested_model=wire.model,
        ignored=ignored,
        places={
            **{"response_format": "format", "response_format.schema": "format"},
            **{"reasoning.enabled": "think", "reasoning.effort": "think"},
            **schema_places(tools, schemas),
        },
        needed={"reasoning.enabled": no_thinking} if wire.think else {},
    )
    return ModelCall(
        model=wire.model,
        stream=parsed.stream,
        chat=options.chat,
        answer=parsed,
        unload=wire.keep_alive == 0,
        truncate=bool(wire.truncate),
        ignored=ignored,
    )


def _request(
    wire: Answered, messages: tuple[Message, ...], tools: tuple[Tool, ...], caller: Caller
) -> GenerateRequest:
    options = wire.options or Options()
    limit = options.num_predict
    if limit is not None:
        # Zero and all below say that there is none.
        limit = min(limit, MAX_TOKENS) if limit > 0 else MAX_TOKENS
    return GenerateRequest(
        id=caller.request_id,
        model=wire.model,
        messages=messages,
        tools=tools,
        sampling=_sampling(options),
        max_tokens=limit,
        stop=tuple(stop for stop in options.stop or [] if stop),
        output=wire.output,
        reasoning=_reasoning(wire.think),
        logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
        source=Source(key=caller.key),
    )


def _sampling(options: Options) -> Sampling:
    seed = options.seed
    if seed is not None and abs(seed) > MAX_SEED:
        raise wrong("options.seed", f"expected a number of 64 bits, got {str(seed)[:24]}")
    # No tokens at all are looked back at: nothing is a repetition then.
    penalty = 1.0 if options.repeat_last_n == 0 else options.repeat_penalty
    return read_sampling(
        options,
        repetition_penalty=penalty,
        # Below zero each answer is drawn anew, as without one.
        seed=None if seed is None or seed < 0 else seed,
    )


def _reasoning(think: bool | str | None) -> ReasoningOptions:
    """Left out, it is the model's own way, or what the configuration says."""
    if isinstance(think, str):
        return ReasoningOptions(enabled=True, effort=think)
    return ReasoningOptions(enabled=think)


def _tools(offered: Sequence[OfferedTool]) -> Iterator[Tool]:
    for number, each in enumerate(offered):
        if each.type != "function":
            continue
        function = each.function
        if function is None:
            raise missing(f"tools.{number}.function")
        schema = function.parameters
        parameters = msgspec.json.encode(schema).decode() if schema else Tool("").parameters
        yield Tool(function.name, function.description or "", parameters)


def _ignored(wire: Answered) -> Iterator[str]:
    """What changes nothing here, by name."""
    yield from unknown_fields(wire)
    options = wire.options
    if options is not None and (options.repeat_last_n or 0) > 0:
        # The whole text counts here, and not its end alone.
        yield "options.repeat_last_n"
    if options is not None and "" in (options.stop or []):
        yield "options.stop"
    if wire.keep_alive is not None and wire.keep_alive > 0:
        # A model stays in memory until another one needs it.
        yield "keep_alive"
    if wire.shift:
        yield "shift"
    if wire.top_logprobs and not wire.logprobs:
        yield "top_logprobs"
    if isinstance(wire, GenerateBody) and wire.context:
        yield "context"
