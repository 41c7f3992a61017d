"""The vocabulary of the other tests: named event scripts, one for each shape an answer can have."""

from collections.abc import Iterable, Iterator

from mlxd.errors import EngineCrashed
from mlxd.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    FinishReason,
    Progress,
    Started,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from mlxd.messages import GenerateRequest, OutputPart, Reasoning, Text, ToolCall

STARTED = Started("", 0)
USAGE = Usage(prompt=12, cached=8, completion=7)
CRASH = EngineCrashed("killed by signal 9")


def text(index: int, *pieces: str) -> Iterator[Event]:
    """A text block, a delta for each piece."""
    return _block(index, Text(""), Text("".join(pieces)), pieces)


def reasoning(index: int, *pieces: str) -> Iterator[Event]:
    """A block of thinking."""
    return _block(index, Reasoning(""), Reasoning("".join(pieces)), pieces)


def call(index: int, name: str, *pieces: str) -> Iterator[Event]:
    """A tool call whose arguments come in pieces; its id is `call_<index>`."""
    opening = ToolCall(f"call_{index}", name, "")
    return _block(index, opening, ToolCall(f"call_{index}", name, "".join(pieces)), pieces)


def finished(reason: FinishReason = "stop", usage: Usage = USAGE) -> Finished:
    return Finished(reason, usage=usage)


def _block(
    index: int, opening: OutputPart, whole: OutputPart, pieces: tuple[str, ...]
) -> Iterator[Event]:
    yield BlockStart(index, opening)
    for piece in pieces:
        yield BlockDelta(index, piece)
    yield BlockEnd(index, whole)


def _token(token: str, logprob: float, *others: tuple[str, float]) -> TokenLogprob:
    top = tuple(TopLogprob(each, value, each.encode()) for each, value in others)
    return TokenLogprob(token, logprob, token.encode(), top)


HELLO = (
    BlockStart(0, Text("")),
    BlockDelta(0, "Hel", (_token("Hel", -0.25, ("Hel", -0.25), ("Good", -1.5)),)),
    # Two tokens whose text was held back together, one of them impossible by its number.
    BlockDelta(0, "lo \u2713", (_token("lo", -0.5), _token(" \u2713", float("-inf")))),
    BlockEnd(0, Text("Hello \u2713")),
)

SCRIPTS: dict[str, tuple[Event, ...]] = {
    "text": (STARTED, *text(0, "Hello", " there", "."), finished()),
    "reasoning_then_text": (
        STARTED,
        *reasoning(0, "The user", " greets."),
        *text(1, "Hello."),
        finished(usage=Usage(prompt=12, completion=9, reasoning=4)),
    ),
    "tool_call": (
        STARTED,
        *call(0, "get_weather", '{"ci', 'ty":"Paris"}'),
        finished("tool_calls"),
    ),
    "two_tool_calls": (
        STARTED,
        *text(0, "Let me look."),
        *call(1, "get_weather", '{"city":"Paris"}'),
        *call(2, "get_time", "{", '"zone":"CET"}'),
        finished("tool_calls"),
    ),
    "reasoning_then_tool_call": (
        STARTED,
        *reasoning(0, "I need", " the weather."),
        *call(1, "get_weather", "{}"),
        finished("tool_calls"),
    ),
    "stop_sequence": (
        STARTED,
        *text(0, "One, two, "),
        Finished("stop_sequence", usage=USAGE, stop_sequence="three"),
    ),
    "length": (STARTED, *text(0, "One, two"), finished("length")),
    "repetition": (
        STARTED,
        *text(0, "One, one, ", "one, one"),
        Finished("length", usage=USAGE, repetition=True),
    ),
    "two_texts": (STARTED, *text(0, "Let me look."), *text(1, "It is", " Paris."), finished()),
    "broken_call": (
        STARTED,
        *call(0, "get_weather", '{"city": "call', ' it "Paris" then"}'),
        finished("tool_calls"),
    ),
    "multibyte": (
        STARTED,
        *text(0, "na\u00efve ", "\U0001f469\u200d", "\U0001f680", ' "\\\n\u2028'),
        finished(),
    ),
    "progress_then_text": (
        STARTED,
        Progress("queued", total=12),
        Progress("prefill", 6, 12),
        Progress("prefill", 12, 12),
        *text(0, "Ready."),
        finished(),
    ),
    "empty": (STARTED, finished(usage=Usage(prompt=12, completion=1))),
    "logprobs": (STARTED, *HELLO, finished()),
    "cancelled": (STARTED, *text(0, "One"), finished("cancelled")),
    "failure_before_any_block": (STARTED, Failed(CRASH.report())),
    "failure_inside_a_block": (STARTED, *text(0, "One, "), Failed(CRASH.report())),
}
FAILING = {name: script for name, script in SCRIPTS.items() if isinstance(script[-1], Failed)}
WHOLE = {
    name: script
    for name, script in SCRIPTS.items()
    # What becomes of a call that is no JSON is each dialect's own.
    if name not in FAILING and name != "broken_call"
}
"""The scripts that end well."""


class Playing:
    """Plays the script it was told to, so that tests can share a server."""

    def __init__(self) -> None:
        self.script: tuple[Event, ...] = ()

    def __call__(self, request: GenerateRequest) -> Iterable[Event]:
        return self.script
