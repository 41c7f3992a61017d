"""What a caller asks for, in no dialect: the neutral request.

`None` in a field of `Sampling` or `GenerateRequest` means "the configuration's or the model's
default". JSON that belongs to the caller (a tool's schema, a call's arguments) stays JSON *text*,
so that values are immutable, comparable and cost nothing to carry.
"""

from typing import Literal

import msgspec
from msgspec.structs import astuple

SWITCHES = ("enable_thinking", "thinking", "preserve_thinking", "clear_thinking")
"""Arguments of chat templates that are true or false: to a template any text would be true."""

Role = Literal["system", "user", "assistant", "tool"]
ReasoningMode = Literal["separate", "strip", "inline"]
StopRepetition = Literal["never", "tools", "always"]
Scalar = str | int | float | bool | None


def read_switch(value: object) -> bool | None:
    """What people and clients write for true and false; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Plain text."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning"):
    """The model's thinking; `signature` is opaque and travels back and forth with the caller."""

    text: str
    signature: str | None = None


class Image(msgspec.Struct, frozen=True, tag="image"):
    """An image's bytes with their media type (`image/png`).

    `place` is where it stands in the body that the caller sent (`messages.0.content.1`).
    """

    data: bytes
    media_type: str
    place: str = ""


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """A call the model made; `arguments` is JSON text as the model or caller wrote it."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What the caller's tool answered to the call `call_id`."""

    call_id: str
    parts: tuple[Text | Image, ...]
    is_error: bool = False


Part = Text | Reasoning | Image | ToolCall | ToolResult
OutputPart = Text | Reasoning | ToolCall


class Message(msgspec.Struct, frozen=True):
    """One turn; its parts are in the order they were written."""

    role: Role
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call; `parameters` is a JSON Schema as text.

    A `deferred` one is described somewhere in the messages, and not again in front of them.
    """

    name: str
    description: str = ""
    parameters: str = '{"type":"object","properties":{}}'
    strict: bool = False
    deferred: bool = False


class AutoTools(msgspec.Struct, frozen=True, tag="auto"):
    """The model decides."""


class NoTools(msgspec.Struct, frozen=True, tag="none"):
    """Tools may be described to the model; it must not call one."""


class RequiredTools(msgspec.Struct, frozen=True, tag="required"):
    """At least one call, of any offered tool."""


class NamedTool(msgspec.Struct, frozen=True, tag="named"):
    """A call of exactly this tool."""

    name: str


class AllowedTools(msgspec.Struct, frozen=True, tag="allowed"):
    """Only these of the offered tools; `required` asks for at least one call."""

    names: tuple[str, ...]
    required: bool = False


ToolChoice = AutoTools | NoTools | RequiredTools | NamedTool | AllowedTools


class TextOutput(msgspec.Struct, frozen=True, tag="text"):
    """Free text."""


class JsonOutput(msgspec.Struct, frozen=True, tag="json"):
    """Any JSON object."""


class JsonSchemaOutput(msgspec.Struct, frozen=True, tag="json_schema"):
    """JSON that satisfies `schema` (JSON Schema as text)."""

    schema: str
    name: str = "response"
    strict: bool = False


class RegexOutput(msgspec.Struct, frozen=True, tag="regex"):
    """Text that `pattern` matches from end to end."""

    pattern: str


class GrammarOutput(msgspec.Struct, frozen=True, tag="grammar"):
    """Text of the language that `lark` (Lark notation) describes."""

    lark: str


Output = TextOutput | JsonOutput | JsonSchemaOutput | RegexOutput | GrammarOutput


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is drawn.

    Penalties are OpenAI's (presence, frequency: -2 to 2) and the multiplicative repetition penalty
    (1 = none). `logit_bias` maps token ids to -100..100. With a `seed` the same request gives the
    same tokens whatever else runs.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None

    def merged(self, over: "Sampling") -> "Sampling":
        """These values, and those of `over` where they are None."""
        pairs = zip(astuple(self), astuple(over), strict=True)
        return Sampling(*(other if own is None else own for own, other in pairs))


class ReasoningOptions(msgspec.Struct, frozen=True):
    """What to do with thinking: show it, switch it, limit it (`budget` in tokens)."""

    mode: ReasoningMode | None = None
    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None


class Source(msgspec.Struct, frozen=True):
    """Where a request came from; `key` names the API key's owner and bounds prefix sharing.

    `client` is an address and `agent` the name of a program; `session` is what the program calls
    the conversation, if it says so.
    """

    dialect: str = ""
    key: str = ""
    conversation: str | None = None
    requested_model: str = ""
    stream: bool = False
    client: str = ""
    agent: str = ""
    session: str = ""


class GenerateRequest(msgspec.Struct, frozen=True):
    """One answer to generate. `logprobs` is the count of alternatives per token, None for off.

    Where one call asks for several answers, `-0`, `-1` and so on are added to its `id`.
    """

    id: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AutoTools()
    parallel_tools: bool = True
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    output: Output = TextOutput()
    reasoning: ReasoningOptions = ReasoningOptions()
    logprobs: int | None = None
    template_args: dict[str, Scalar] = {}
    priority: int = 0
    """Among the requests of one API key: those with more go first."""
    source: Source = Source()

    def belongs_to(self, request: str) -> bool:
        """Whether this is the request of that id, or one of its choices."""
        return self.id == request or self.id.startswith(f"{request}-")
