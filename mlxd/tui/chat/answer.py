"""An answer while it comes: the events of the Responses API, folded into parts and figures."""

from dataclasses import dataclass, field
from typing import Literal

import msgspec

PartKind = Literal["reasoning", "text", "call"]
AnswerState = Literal["waiting", "running", "completed", "incomplete", "failed", "stopped"]
ENDED: tuple[AnswerState, ...] = ("completed", "incomplete", "failed", "stopped")

KINDS: dict[str, PartKind] = {
    "message": "text",
    "reasoning": "reasoning",
    "function_call": "call",
    "custom_tool_call": "call",
}
_DELTAS: dict[str, PartKind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "call",
    "response.custom_tool_call_input.delta": "call",
}
_ENDS: dict[str, AnswerState] = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "stopped",
}

SHORTEST = 0.05
"""Seconds over which a speed means something."""


class WirePart(msgspec.Struct, frozen=True):
    """A part of an item's content; those without text are of no use here."""

    text: str | None = None
    refusal: str | None = None


class WireItem(msgspec.Struct, frozen=True):
    """An item of an answer or of a conversation."""

    type: str = "message"
    id: str | None = None
    role: str | None = None
    content: str | list[WirePart] | None = None
    summary: list[WirePart] | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[WirePart] | None = None


class WireError(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | int | None = None


class WireReason(msgspec.Struct, frozen=True):
    reason: str | None = None


class WireUsage(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0


class WireResponse(msgspec.Struct, frozen=True):
    """What matters here of a Response object."""

    id: str = ""
    status: str | None = None
    model: str | None = None
    output: list[WireItem] | None = None
    error: WireError | None = None
    incomplete_details: WireReason | None = None
    usage: WireUsage | None = None


class WireEvent(msgspec.Struct, frozen=True):
    """Any event of the stream, as far as it matters here."""

    type: str = ""
    output_index: int = -1
    delta: str | None = None
    item: WireItem | None = None
    response: WireResponse | None = None
    message: str | None = None
    code: str | int | None = None
    error: WireError | None = None


@dataclass
class AnswerPart:
    """A run of reasoning or text, or one tool call with its arguments as text.

    `started` and `ended` are in seconds of the clock that the answer is fed with.
    """

    kind: PartKind
    text: str = ""
    name: str = ""
    call_id: str = ""
    index: int = -1
    started: float = 0.0
    ended: float | None = None


@dataclass
class StreamedAnswer:
    """One answer: what came so far, and how it stands.

    `problem` says what went wrong in the server's words, `code` is the server's name for it.
    `model` is the name as the answer has it, `served_by` the name of the model that it stands for.
    Times are in seconds: `sent_at` on the clock, the others since then.
    """

    sent_at: float = 0.0
    state: AnswerState = "waiting"
    parts: list[AnswerPart] = field(default_factory=list)
    model: str = ""
    served_by: str = ""
    problem: str = ""
    code: str = ""
    reason: str = ""
    first: float | None = None
    last: float = 0.0
    deltas: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def answering(self) -> str:
        """The model that answers, as far as that is known."""
        return self.served_by or self.model

    @property
    def text(self) -> str:
        """The text of the answer, without reasoning and calls."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    @property
    def calls(self) -> list[AnswerPart]:
        """The tool calls it makes."""
        return [part for part in self.parts if part.kind == "call"]

    @property
    def has_content(self) -> bool:
        """Whether anything came that a conversation can go on from."""
        return any(part.text or part.kind == "call" for part in self.parts)

    @property
    def rate(self) -> float:
        """Tokens a second since the first one, 0 while that is too short a time to tell.

        Before the end the server does not say how many tokens there are; each delta is one or
        more.
        """
        if self.first is None or self.last - self.first < SHORTEST:
            return 0.0
        return max(0, (self.tokens or self.deltas) - 1) / (self.last - self.first)

    def take(self, event: WireEvent, now: float) -> None:
        """Go on by one event that arrived `now`."""
        if event.type in _DELTAS:
            self._grow(_DELTAS[event.type], event, now)
        elif event.type in ("response.output_item.added", "response.output_item.done"):
            self._item(event, now)
        elif event.type == "error":
            self._error(event.error or WireError(event.message or "", event.code))
        elif event.response is not None:
            self._response(event.type, event.response, now)

    def stop(self, now: float, problem: str = "", code: str = "") -> None:
        """End it from this side: with a problem it has failed, else someone stopped it."""
        self.state = "failed" if problem else "stopped"
        self.problem, self.code = problem, code
        self._close(now)

    def _grow(self, kind: PartKind, event: WireEvent, now: float) -> None:
        part = self._part(kind, event.output_index, now)
        part.text += event.delta or ""
        self.state = "running"
        self.deltas += 1
        self.last = now - self.sent_at
        if self.first is None:
            self.first = self.last

    def _item(self, event: WireEvent, now: float) -> None:
        item = event.item
        kind = KINDS.get(item.type) if item else None
        if item is None or kind is None:
            return
        part = self._part(kind, event.output_index, now)
        part.name = item.name or part.name
        part.call_id = item.call_id or part.call_id
        if event.type == "response.output_item.done":
            part.text = part.text or text_of(item)
            part.ended = now

    def _part(self, kind: PartKind, index: int, now: float) -> AnswerPart:
        """The part of an output item, a new one if there is none yet."""
        for part in reversed(self.parts):
            if part.index == index and part.kind == kind:
                return part
        self._close(now)
        self.parts.append(AnswerPart(kind, index=index, started=now))
        return self.parts[-1]

    def _close(self, now: float) -> None:
        for part in self.parts:
            part.ended = now if part.ended is None else part.ended

    def _error(self, error: WireError) -> None:
        self.state = "failed"
        self.problem, self.code = error.message or "The answer failed.", str(error.code or "")

    def _response(self, kind: str, response: WireResponse, now: float) -> None:
        self.model = response.model or self.model
        if kind not in _ENDS:
            return
        self.state = _ENDS[kind]
        if response.error is not None:
            self._error(response.error)
        if response.incomplete_details is not None:
            self.reason = response.incomplete_details.reason or ""
        if response.usage is not None:
            self.prompt_tokens = response.usage.input_tokens
            self.tokens = response.usage.output_tokens
        if not self.parts:
            for index, item in enumerate(response.output or []):
                self._item(WireEvent("response.output_item.done", index, item=item), now)
        self._close(now)


def text_of(item: WireItem) -> str:
    """All the text of an item: its content, else its summary, arguments, input or output."""
    for content in (item.content, item.summary, item.arguments, item.input, item.output):
        if isinstance(content, str):
            return content
        if content:
            return "".join(piece.text or piece.refusal or "" for piece in content)
    return ""
