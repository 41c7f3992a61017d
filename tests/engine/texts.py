"""Texts as a model's engine would deliver them, read into events by a `BlockBuilder`."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mlxd.engine.interface import Markup
from mlxd.engine.parsing.blocks import BlockBuilder
from mlxd.events import (
    Answer,
    Event,
    FinishReason,
    Started,
    Timings,
    TokenLogprob,
    Usage,
    check_order,
    collect,
)
from mlxd.messages import (
    AutoTools,
    GenerateRequest,
    Message,
    Reasoning,
    ReasoningMode,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)

THINK = (("<think>", "</think>"),)

WEATHER = Tool(
    name="get_weather",
    parameters=json.dumps(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "wind": {"type": "number"},
                "brief": {"type": "boolean"},
                "area": {"type": "object"},
                "hours": {"type": "array"},
                "unit": {"type": ["string", "null"]},
            },
        }
    ),
)
TIME = Tool(name="get_time")
TOOLS = (WEATHER, TIME)
AUTO = AutoTools()


def request(
    tools: Sequence[Tool] = TOOLS,
    *,
    tool_choice: ToolChoice = AUTO,
    parallel_tools: bool = True,
    history: Sequence[ToolCall] = (),
) -> GenerateRequest:
    """A request that offers `tools`, in a conversation that has had the calls of `history`."""
    return GenerateRequest(
        id="r",
        model="m",
        messages=(Message("assistant", tuple(history)),),
        tools=tuple(tools),
        tool_choice=tool_choice,
        parallel_tools=parallel_tools,
    )


class Given(NamedTuple):
    """How a text is read."""

    tool_format: str | None = None
    reasoning: tuple[tuple[str, str], ...] = THINK
    structural: tuple[str, ...] = ()
    opens_reasoning: bool = False
    mode: ReasoningMode = "separate"
    reason: FinishReason = "stop"
    asked: GenerateRequest = request()

    def builder(self) -> BlockBuilder:
        return BlockBuilder(
            Markup(self.reasoning, self.tool_format, self.structural),
            self.asked,
            opens_reasoning=self.opens_reasoning,
            mode=self.mode,
        )


def stream(pieces: Iterable[str], given: Given) -> list[Event]:
    """The events of a text that arrives in `pieces`, one token each, checked for their order."""
    builder = given.builder()
    events: list[Event] = [Started("m", 1)]
    for piece in pieces:
        events += builder.text(piece, tokens=1)
    usage = Usage(completion=1_000_000)
    events += builder.finish(given.reason, stop_sequence=None, usage=usage, timings=Timings())
    return list(check_order(events))


def read(text: str, given: Given) -> Answer:
    """The answer of a text that arrives at once."""
    return collect(stream([text], given))


def words(answer: Answer) -> list[tuple[str, ...]]:
    """An answer's parts as plain tuples; the ids of calls are left out."""
    found: list[tuple[str, ...]] = []
    for part in answer.parts:
        match part:
            case Text(text):
                found.append(("text", text))
            case Reasoning(text):
                found.append(("reasoning", text))
            case ToolCall(name=name, arguments=arguments):
                found.append(("call", name, arguments))
    return found


def outcome(answer: Answer) -> tuple[object, ...]:
    """All of an answer that must not depend on how its text was cut."""
    return words(answer), answer.finished.reason, answer.finished.notes


def cuts(text: str) -> Iterable[list[str]]:
    """`text` cut in two at every position, and into single characters."""
    yield list(text)
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]


def token(text: str, logprob: float = -0.5) -> TokenLogprob:
    """A token's logprob entry."""
    return TokenLogprob(text, logprob, text.encode())


def call(arguments: str, name: str = "get_weather") -> str:
    """A call as Qwen writes it in JSON."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
