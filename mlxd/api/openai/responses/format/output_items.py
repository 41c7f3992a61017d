"""The output items of a response while they are written: one class for each kind.

A step is the type of an event of the stream and its fields, without the sequence number. An item
has the same shape whenever it is asked for, so that the end of a stream repeats its items exactly.
There is a step for every token: what those of an item share is encoded once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from mlxd.api.dialect import JsonObject
from mlxd.api.openai.logprobs import logprob_list
from mlxd.api.openai.tools import custom_input
from mlxd.api.wire.opaque_text import seal
from mlxd.events import TokenLogprob
from mlxd.messages import ToolCall

Step = tuple[str, JsonObject]
Piece = tuple[str, bytes]
"""A step for more text; its fields are JSON without the braces."""
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Style = Literal["text", "summary", "none"]
"""How thinking is shown: as it is, as if it were its summary, or not at all."""

TEXT = "response.output_text.delta"
ARGUMENTS = "response.function_call_arguments.delta"
THINKING: Mapping[Style, str] = {
    "text": "response.reasoning_text.delta",
    "summary": "response.reasoning_summary_text.delta",
}

_encode = msgspec.json.Encoder().encode


class Block(Protocol):
    """One output item."""

    def opening(self) -> Iterator[Step]:
        """The steps before the first piece."""

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        """The step for more text, if it is told now."""

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        """The steps after the last piece."""

    def item(self, status: ItemStatus) -> JsonObject:
        """The whole item with the text so far."""


class _Block:
    """What the kinds have in common: where they stand, and what was written."""

    def __init__(self, id_: str, index: int, **place: int) -> None:
        self.id = id_
        self._place: JsonObject = {"item_id": id_, "output_index": index}
        self._index = index
        self._head = _encode({**self._place, **place})[1:-1] + b',"delta":'
        self._pieces: list[str] = []

    @property
    def _text(self) -> str:
        return "".join(self._pieces)

    def _added(self, item: JsonObject) -> Step:
        return ("response.output_item.added", {"output_index": self._index, "item": item})

    def _done(self, item: JsonObject) -> Step:
        return ("response.output_item.done", {"output_index": self._index, "item": item})

    def _step(self, kind: str, **fields: Any) -> Step:
        return (f"response.{kind}", {**self._place, **fields})


class MessageBlock(_Block):
    """Text; with `told`, its logprobs too."""

    def __init__(self, id_: str, index: int, *, told: bool) -> None:
        super().__init__(id_, index, content_index=0)
        self._told = told
        self._logprobs: list[JsonObject] = []

    def opening(self) -> Iterator[Step]:
        yield self._added(self._item("in_progress", []))
        yield self._step("content_part.added", content_index=0, part=_text_part("", []))

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        self._pieces.append(text)
        head = self._head + _encode(text)
        if self._told and logprobs:
            listed = logprob_list(logprobs)
            self._logprobs += listed
            return (TEXT, head + b',"logprobs":' + _encode(listed))
        return (TEXT, head + b',"logprobs":[]') if text else None

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        part = _text_part(self._text, self._logprobs)
        told = {"text": part["text"], "logprobs": self._logprobs}
        yield self._step("output_text.done", content_index=0, **told)
        yield self._step("content_part.done", content_index=0, part=part)
        yield self._done(self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        return self._item(status, [_text_part(self._text, self._logprobs)])

    def _item(self, status: ItemStatus, content: list[JsonObject]) -> JsonObject:
        head = {"id": self.id, "type": "message", "status": status, "role": "assistant"}
        return {**head, "content": content}


class ReasoningBlock(_Block):
    """Thinking; `sealed` says that it also goes out in a form that only comes back."""

    def __init__(self, id_: str, index: int, *, style: Style, sealed: bool) -> None:
        place = "summary_index" if style == "summary" else "content_index"
        super().__init__(id_, index, **{place: 0})
        self._style = style
        self._kind = THINKING.get(style)
        self._sealed = sealed

    def opening(self) -> Iterator[Step]:
        head = {"id": self.id, "type": "reasoning", "summary": [], "status": "in_progress"}
        yield self._added(head)
        if self._style == "text":
            part = _reasoning_part("")
            yield self._step("content_part.added", content_index=0, part=part)
        elif self._style == "summary":
            part = _summary_part("")
            yield self._step("reasoning_summary_part.added", summary_index=0, part=part)

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        self._pieces.append(text)
        return (self._kind, self._head + _encode(text)) if text and self._kind else None

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        text = self._text
        if self._style == "text":
            yield self._step("reasoning_text.done", content_index=0, text=text)
            part = _reasoning_part(text)
            yield self._step("content_part.done", content_index=0, part=part)
        elif self._style == "summary":
            yield self._step("reasoning_summary_text.done", summary_index=0, text=text)
            part = _summary_part(text)
            yield self._step("reasoning_summary_part.done", summary_index=0, part=part)
        yield self._done(self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        text = self._text
        item: JsonObject = {"id": self.id, "type": "reasoning", "status": status, "summary": []}
        if self._style == "text":
            item["content"] = [_reasoning_part(text)]
        elif self._style == "summary":
            item["summary"] = [_summary_part(text)]
        if self._sealed:
            item["encrypted_content"] = seal(text)
        return item


class CallBlock(_Block):
    """A call of a function; `names` are its name and its namespace."""

    def __init__(self, id_: str, index: int, *, call: ToolCall, names: JsonObject) -> None:
        super().__init__(id_, index)
        self._call = call
        self._names = names

    def opening(self) -> Iterator[Step]:
        yield self._added(self.item("in_progress"))

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        self._pieces.append(text)
        return (ARGUMENTS, self._head + _encode(text)) if text else None

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        told = {"name": self._names["name"], "arguments": self._text}
        yield self._step("function_call_arguments.done", **told)
        yield self._done(self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        head = {"id": self.id, "type": "function_call", "status": status}
        told = {"call_id": self._call.id, **self._names, "arguments": self._text}
        return {**head, **told}


class CustomCallBlock(_Block):
    """A call with free text, which is a string inside arguments and is told when it is whole."""

    def __init__(self, id_: str, index: int, *, call: ToolCall, names: JsonObject) -> None:
        super().__init__(id_, index)
        self._call = call
        self._names = names

    def opening(self) -> Iterator[Step]:
        yield self._added(self.item("in_progress"))

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> Piece | None:
        self._pieces.append(text)
        return None

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        given = custom_input(self._text)
        if given:
            yield self._step("custom_tool_call_input.delta", delta=given)
        yield self._step("custom_tool_call_input.done", input=given)
        yield self._done(self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        given = "" if status == "in_progress" else custom_input(self._text)
        head = {"id": self.id, "type": "custom_tool_call", "status": status}
        return {**head, "call_id": self._call.id, **self._names, "input": given}


def _text_part(text: str, logprobs: list[JsonObject]) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _reasoning_part(text: str) -> JsonObject:
    return {"type": "reasoning_text", "text": text}


def _summary_part(text: str) -> JsonObject:
    return {"type": "summary_text", "text": text}
