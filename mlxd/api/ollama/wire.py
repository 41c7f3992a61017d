"""The bodies of Ollama's API as they arrive, checked field by field."""

import re
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, Field

from mlxd.api.wire.base import AN_OBJECT, FAIL_FAST, ToolName, Wire, expected
from mlxd.messages import JsonOutput, JsonSchemaOutput, Output, TextOutput

MAX_STOPS = 32
"""Editors send fourteen, and each costs next to nothing."""
MAX_STOP_LENGTH = 256
"""Characters."""
LEVELS = ("low", "medium", "high", "max")

A_DURATION = "a number of seconds or a duration such as '5m'"
MAX_DURATION = 64
"""Characters of a duration."""
FOR_EVER = 10**9
"""A longer time in seconds means the same."""

_PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def _whole(value: object) -> object:
    """Numbers come from clients whose language knows only one kind of them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _stops(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _role(value: object) -> object:
    if not isinstance(value, str):
        raise expected("a string")
    role = value.lower()
    return "system" if role == "developer" else role


def _arguments(value: object) -> object:
    """Arguments of a past call as text, which some clients send them as."""
    if value is None:
        return "{}"
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str):
        return value
    raise expected("an object")


def _seconds(value: object) -> object:
    """Seconds, or what Go takes for a duration: of that only whether it is above zero or below."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(-1, min(value, FOR_EVER)))
    # Before it is read: searching a text without end takes quadratic time.
    if not isinstance(value, str) or len(value) > MAX_DURATION:
        raise expected(A_DURATION)
    if not value:
        return None
    sign, rest = (-1.0, value[1:]) if value[0] == "-" else (1.0, value.removeprefix("+"))
    if rest == "0":
        return 0.0
    pieces = _PIECE.findall(rest)
    if not pieces or "".join(number + unit for number, unit in pieces) != rest:
        raise expected(A_DURATION)
    return sign * sum(float(number) for number, _ in pieces)


def _output(value: object) -> object:
    if value in (None, ""):
        return TextOutput()
    if value == "json":
        return JsonOutput()
    if isinstance(value, dict):
        return JsonSchemaOutput(msgspec.json.encode(value).decode())
    raise expected('"json" or a JSON schema object')


def _think(value: object) -> object:
    if isinstance(value, bool) or value in LEVELS:
        return value
    raise expected('true, false, "low", "medium", "high" or "max"')


WholeNumber = Annotated[int, BeforeValidator(_whole)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Stops = Annotated[
    list[Annotated[str, Field(max_length=MAX_STOP_LENGTH)]],
    Field(max_length=MAX_STOPS),
    BeforeValidator(_stops),
]
KeepAlive = Annotated[float | None, BeforeValidator(_seconds)]
Think = Annotated[bool | str, BeforeValidator(_think)]
Format = Annotated[Any, BeforeValidator(_output)]
"""Becomes an `Output`."""
Images = Annotated[list[str], FAIL_FAST]


class Options(Wire):
    """How tokens are drawn; what is not declared is Ollama's way to run a model, and ignored."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: WholeNumber | None = None
    min_p: Share | None = None
    seed: WholeNumber | None = None
    num_predict: WholeNumber | None = None
    stop: Stops | None = None
    repeat_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    repeat_last_n: WholeNumber | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None


class CalledFunction(Wire):
    name: str
    arguments: Annotated[str, BeforeValidator(_arguments)] = "{}"
    index: Any = None


class PastCall(Wire):
    function: CalledFunction
    id: str | None = None
    type: Any = None


class ChatMessage(Wire):
    """A turn; a tool's result says whose it is by an id, by the tool's name, or not at all."""

    role: Annotated[Literal["system", "user", "assistant", "tool"], BeforeValidator(_role)]
    content: str | None = None
    thinking: str | None = None
    images: Images | None = None
    tool_calls: Annotated[list[PastCall], FAIL_FAST] | None = None
    tool_name: str | None = None
    name: str | None = None
    tool_call_id: str | None = None


class Function(Wire):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OfferedTool(Wire):
    """A function, or something of a kind that nobody here can run; that has no `function`."""

    type: str = "function"
    function: Function | None = None


class Answered(Wire):
    """What both ways to ask have in common; null is the same as absent."""

    model: str
    stream: bool | None = None
    format: Format = TextOutput()
    think: Think | None = None
    options: Annotated[Options, AN_OBJECT] | None = None
    keep_alive: KeepAlive = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def output(self) -> Output:
        """What the answer shall look like."""
        output: Output = self.format
        return output


class ChatBody(Answered):
    messages: Annotated[list[ChatMessage], FAIL_FAST] | None = None
    tools: Annotated[list[OfferedTool], FAIL_FAST] | None = None


class GenerateBody(Answered):
    prompt: str | None = None
    system: str | None = None
    template: str | None = None
    context: Any = None
    raw: bool | None = None
    suffix: str | None = None
    images: Images | None = None


class NamedModel(Wire):
    """A body that is about a model; older clients call it `name`."""

    model: str | None = None
    name: str | None = None
    stream: bool | None = None
