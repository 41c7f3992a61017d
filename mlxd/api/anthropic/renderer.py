"""Messages answers: events to named events of the wire, or a whole answer to one body."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from mlxd.api.anthropic.errors import broken_call_body, error_body
from mlxd.api.anthropic.messages import UNREADABLE
from mlxd.api.dialect import Frame, JsonObject
from mlxd.api.wire.opaque_text import seal
from mlxd.api.wire.uncached import uncached_tokens
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
    Usage,
)
from mlxd.messages import OutputPart, Reasoning, Text, ToolCall

PING = Frame(b'{"type":"ping"}', "ping")
STOP = Frame(b'{"type":"message_stop"}', "message_stop")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class MessageAnswerOptions:
    """What the request said about its answer.

    `model` is the name that was asked for, empty for the default. `thinking` says whether blocks of
    it are shown; with `omitted` they are, without their text.
    """

    request_id: str
    model: str = ""
    thinking: bool = False
    omitted: bool = False
    service_tier: str = "standard"


class MessagesRenderer:
    """See `Renderer`."""

    def __init__(self, options: MessageAnswerOptions) -> None:
        self._options = options
        self._index = -1
        """Of the block that is open, or was last."""
        self._head: bytes | None = None
        """What the open block's deltas begin with; None when they are not shown."""
        self._calls = 0
        self._unreadable: ToolCall | None = None
        """The last block, if it is a call whose arguments are no object."""
        self._broken_off = False

    def _usage(self, usage: Usage) -> JsonObject:
        return message_usage(usage) | {"service_tier": self._options.service_tier}

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `Renderer.frames`."""
        if (call := self._unreadable) is not None and not isinstance(event, Failed):
            self._unreadable = None
            if not (isinstance(event, Finished) and event.reason == "length"):
                return self._break_off(call)
            return (*self._close(call), *self.frames(choice, event))
        if self._broken_off:
            return ()
        match event:
            case BlockDelta(text=text):
                return self._delta(text) if text else ()
            case BlockStart(part=part):
                return self._open(part) if self._shows(part) else ()
            case BlockEnd(part=ToolCall() as part) if unreadable(part.arguments):
                # Clients complete broken JSON by themselves and run the tool with what comes of it,
                # so that its block ends only where the limit has cut it, which they know.
                self._unreadable = part
                return ()
            case BlockEnd(part=part):
                return self._close(part) if self._shows(part) else ()
            case Started(model=model, prompt_tokens=prompt):
                message = self._message(model) | {"usage": self._usage(Usage(prompt=prompt))}
                # Anthropic's server pings once at the beginning, too.
                return (_frame("message_start", message=message), PING)
            case Progress():
                return ()
            case Finished():
                usage = self._usage(event.usage)
                changed = {name: usage[name] for name in usage if name not in UNCHANGED}
                ending = self._ending(event, self._calls)
                return (_frame("message_delta", delta=ending, usage=changed),)
            case Failed(error=error):
                body = error_body(revive(error), request_id=self._options.request_id)
                return (Frame(_encode(body), "error"),)
            case _:
                assert_never(event)

    def idle(self) -> Iterable[Frame]:
        """See `Renderer.idle`."""
        return (PING,)

    def end(self) -> Iterable[Frame]:
        """See `Renderer.end`."""
        return () if self._broken_off else (STOP,)

    def _break_off(self, call: ToolCall) -> Iterable[Frame]:
        self._broken_off = True
        body = broken_call_body(call.name, request_id=self._options.request_id)
        return (Frame(_encode(body), "error"),)

    def body(self, answers: Sequence[Answer]) -> bytes:
        """See `Renderer.body`."""
        (answer,) = answers
        message = self._message(answer.started.model)
        content = [self._block(part) for part in answer.parts if self._shows(part)]
        end = self._ending(answer.finished, len(answer.tool_calls))
        usage = self._usage(answer.finished.usage)
        return _encode(message | {"content": content, **end, "usage": usage})

    def _message(self, model: str) -> JsonObject:
        return {
            "id": f"msg_{self._options.request_id.removeprefix('req_')}",
            "type": "message",
            "role": "assistant",
            "model": self._options.model or model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _shows(self, part: OutputPart) -> bool:
        return self._options.thinking or not isinstance(part, Reasoning)

    def _open(self, part: OutputPart) -> Iterable[Frame]:
        self._index += 1
        head = b'{"type":"content_block_delta","index":%d,"delta":{"type":' % self._index
        match part:
            case Text():
                block: JsonObject = {"type": "text", "text": ""}
                self._head = head + b'"text_delta","text":'
            case Reasoning():
                block = {"type": "thinking", "thinking": "", "signature": ""}
                shown = head + b'"thinking_delta","thinking":'
                # Without deltas the block itself stays, for the signature that comes at its end.
                self._head = None if self._options.omitted else shown
            case ToolCall():
                self._calls += 1
                block = _call(part, {})
                self._head = head + b'"input_json_delta","partial_json":'
            case _:
                assert_never(part)
        opened = _frame("content_block_start", index=self._index, content_block=block)
        # Anthropic begins the arguments with an empty piece.
        return (opened, *self._delta("")) if isinstance(part, ToolCall) else (opened,)

    def _delta(self, text: str) -> Iterable[Frame]:
        if self._head is None:
            return ()
        return (Frame(self._head + _encode(text) + b"}}", "content_block_delta"),)

    def _close(self, part: OutputPart) -> Iterable[Frame]:
        self._head = None
        closed = _frame("content_block_stop", index=self._index)
        if not isinstance(part, Reasoning):
            return (closed,)
        delta = {"type": "signature_delta", "signature": self._signature(part)}
        return (_frame("content_block_delta", index=self._index, delta=delta), closed)

    def _block(self, part: OutputPart) -> JsonObject:
        match part:
            case Text(text=text):
                return {"type": "text", "text": text}
            case Reasoning(text=text):
                shown = "" if self._options.omitted else text
                return {"type": "thinking", "thinking": shown, "signature": self._signature(part)}
            case ToolCall():
                return _call(part, call_input(part.arguments))
            case _:
                assert_never(part)

    def _signature(self, part: Reasoning) -> str:
        """Brings thinking that is not shown back with the next request."""
        return seal(part.text) if self._options.omitted else seal()

    def _ending(self, event: Finished, calls: int) -> JsonObject:
        """`tool_use` if and only if there are calls, unless the limit cut the last one short."""
        reason, sequence = "end_turn", None
        if event.reason == "length":
            reason = "model_context_window_exceeded" if event.window else "max_tokens"
        elif calls and event.reason != "cancelled":
            reason = "tool_use"
        elif event.reason == "stop_sequence":
            reason, sequence = "stop_sequence", event.stop_sequence
        return {"stop_reason": reason, "stop_sequence": sequence}


UNCHANGED = ("cache_creation", "service_tier")
"""What a stream says of usage at its beginning alone."""


def message_usage(usage: Usage) -> JsonObject:
    """`usage` of a message; together the three kinds of input are the whole prompt."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "service_tier": "standard",
        **uncached_tokens(usage),
    }


def call_input(arguments: str) -> Any:
    """The arguments as an object, exactly as they are written; what is none, inside of one."""
    if not arguments.strip():
        return {}
    if unreadable(arguments):
        return {UNREADABLE: arguments}
    # Not written anew: with other spaces the next turn's prompt would not begin as this one did.
    return msgspec.Raw(arguments.encode())


def unreadable(arguments: str) -> bool:
    """Whether arguments that were written are no object."""
    try:
        msgspec.json.decode(arguments or "{}", type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return bool(arguments.strip())
    return False


def _call(call: ToolCall, given: Any) -> JsonObject:
    id_ = f"toolu_{call.id.removeprefix('call_')}"
    return {"type": "tool_use", "id": id_, "name": call.name, "input": given}


def _frame(event: str, **fields: Any) -> Frame:
    return Frame(_encode({"type": event, **fields}), event)
