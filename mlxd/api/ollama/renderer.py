"""Answers to Ollama's clients: events to lines of JSON, or one object.

Calls are shown whole, as their arguments are objects. What a model wrote for a call and is none is
shown as text: clients end a session at an error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

import msgspec

from mlxd.api.dialect import Frame, JsonObject
from mlxd.api.ollama.errors import error_body
from mlxd.api.wire.joined_texts import joined, seam
from mlxd.api.wire.logprobs import logprob_list
from mlxd.errors import revive
from mlxd.events import (
    Answer,
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    TokenLogprob,
)
from mlxd.messages import OutputPart, Reasoning, Text, ToolCall

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class LinesOptions:
    """What the request said about its answer; `created` in seconds since 1970.

    In a `chat` what is said stands in a message, else beside the other fields.
    """

    model: str
    created: int
    chat: bool = True
    logprobs: bool = False


class LinesRenderer:
    """See `Renderer`."""

    def __init__(self, options: LinesOptions) -> None:
        self._options = options
        self._head: JsonObject = {
            "model": options.model,
            "created_at": timestamp(options.created),
        }
        # Each line begins the same, and a line a token is worth encoding that once.
        self._begin = _encode(self._head)[:-1] + b","
        self._open: OutputPart | None = None
        self._calls = 0
        self._text_end = ""

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `Renderer.frames`."""
        match event:
            case BlockDelta(text=text, logprobs=logprobs):
                return self._delta(text, logprobs)
            case BlockStart(part=part):
                self._open = part
                return ()
            case BlockEnd(part=part):
                self._open = None
                if isinstance(part, Text):
                    self._text_end = part.text[-1:] or self._text_end
                return (self._call(part),) if isinstance(part, ToolCall) else ()
            case Started() | Progress():
                return ()
            case Finished():
                return (Frame(_encode({**self._head, **self._said(""), **ending(event)})),)
            case Failed(error=error):
                return (Frame(_encode(error_body(revive(error)))),)
            case _:
                assert_never(event)

    def idle(self) -> Iterable[Frame]:
        """See `Renderer.idle`: a line without text, as clients know no other that says nothing."""
        return (self._line(self._said("")),)

    def end(self) -> Iterable[Frame]:
        """See `Renderer.end`."""
        return ()

    def body(self, answers: Sequence[Answer]) -> bytes:
        """See `Renderer.body`."""
        (answer,) = answers
        calls: list[JsonObject] = []
        texts: list[str] = []
        for part in answer.parts:
            match part:
                case ToolCall() if (call := call_body(part, len(calls))) is not None:
                    calls.append(call)
                case ToolCall():
                    texts.append(as_text(part))
                case Text(text=text):
                    texts.append(text)
        said = self._said(joined(texts), answer.reasoning, calls)
        shown = answer.logprobs if self._options.logprobs else ()
        logprobs = {"logprobs": logprob_list(shown)} if shown else {}
        return _encode({**self._head, **said, **logprobs, **ending(answer.finished)})

    def _delta(self, text: str, logprobs: Sequence[TokenLogprob]) -> Iterable[Frame]:
        if isinstance(self._open, ToolCall):
            return ()
        if isinstance(self._open, Reasoning):
            return (self._line(self._said("", text)),) if text else ()
        shown = logprobs if self._options.logprobs else ()
        if not text and not shown:
            return ()
        if text:
            text, self._text_end = seam(self._text_end, text) + text, ""
        said = self._said(text)
        return (self._line({**said, "logprobs": logprob_list(shown)} if shown else said),)

    def _call(self, call: ToolCall) -> Frame:
        shown = call_body(call, self._calls)
        if shown is not None:
            self._calls += 1
            return self._line(self._said("", calls=[shown]))
        text = as_text(call)
        before, self._text_end = self._text_end, text[-1:]
        return self._line(self._said(seam(before, text) + text))

    def _said(self, text: str, thinking: str = "", calls: Sequence[JsonObject] = ()) -> JsonObject:
        # Some clients take a line for broken that has no text at all.
        said: JsonObject = {"role": "assistant"} if self._options.chat else {}
        said["content" if self._options.chat else "response"] = text
        if thinking:
            said["thinking"] = thinking
        if calls:
            said["tool_calls"] = calls
        return {"message": said} if self._options.chat else said

    def _line(self, fields: JsonObject) -> Frame:
        return Frame(self._begin + _encode({**fields, "done": False})[1:])


def timestamp(seconds: float) -> str:
    """A time since 1970 as RFC 3339 has it."""
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def ending(finished: Finished) -> JsonObject:
    """What the last line says of the whole answer; durations in nanoseconds, as far as known."""
    usage, timings = finished.usage, finished.timings
    seconds = {
        "total_duration": timings.queue + timings.prefill + timings.decode,
        # Whoever waits for a model to be loaded waits in the queue.
        "load_duration": timings.queue,
        "prompt_eval_duration": timings.prefill,
        "eval_duration": timings.decode,
    }
    counts = {"prompt_eval_count": usage.prompt, "eval_count": usage.completion}
    figures = counts | {name: int(value * 1e9) for name, value in seconds.items()}
    reason = "length" if finished.reason == "length" else "stop"
    said = {name: value for name, value in figures.items() if value}
    return {"done": True, "done_reason": reason, **said}


def call_body(call: ToolCall, index: int) -> JsonObject | None:
    """A call whose arguments are an object; None where they are none."""
    raw = call.arguments.strip() or "{}"
    try:
        msgspec.json.decode(raw, type=dict)
        # As they were written, but on one line: reading them would change numbers.
        arguments = msgspec.Raw(msgspec.json.format(raw, indent=-1).encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    return {
        "id": call.id,
        "function": {"index": index, "name": call.name, "arguments": arguments},
    }


def as_text(call: ToolCall) -> str:
    """A call that can't be made, for whoever reads it."""
    return f"{call.name} {call.arguments}"
