"""The output items of a response while they are written: one class for each kind.

A step is the type of an event of the stream and its fields, without the sequence number. An item
has the same shape whenever it is asked for, so that the end of a stream repeats its items exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from mlxd.api.dialect import JsonObject
from mlxd.api.openai.tools import custom_input
from mlxd.api.wire.logprobs import logprob_list
from mlxd.api.wire.opaque_text import seal
from mlxd.events import TokenLogprob
from mlxd.messages import ToolCall

Step = tuple[str, JsonObject]
DeltaStep = tuple[str, bytes]
"""A step for more text; its fields are JSON without the braces."""
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Style = Literal["text", "summary", "none"]
"""How thinking is shown: as it is, as if it were its summary, or not at all."""

_encode = msgspec.json.Encoder().encode


class OutputItem(ABC):
    """One output item: its place in the output, and what was written so far."""

    delta_type = ""
    """The type of the event for more text; empty where text is not shown as it comes."""

    def __init__(self, id_: str, index: int, **part_index: int) -> None:
        self.id = id_
        self._place: JsonObject = {"item_id": id_, "output_index": index}
        # There is a delta for every token: what those of an item share is encoded once.
        self._head = _encode({**self._place, **part_index})[1:-1] + b',"delta":'
        self._texts: list[str] = []

    def opening(self) -> Iterator[Step]:
        """The steps before the first text."""
        yield self._whole("added", self.item("in_progress"))

    def delta(self, text: str, logprobs: Sequence[TokenLogprob]) -> DeltaStep | None:
        """The step for more text, if it is shown now."""
        self._texts.append(text)
        return (self.delta_type, self._head + _encode(text)) if text and self.delta_type else None

    @abstractmethod
    def closing(self, status: ItemStatus) -> Iterator[Step]:
        """The steps after the last text."""

    @abstractmethod
    def item(self, status: ItemStatus) -> JsonObject:
        """The whole item with the text so far."""

    @property
    def _text(self) -> str:
        return "".join(self._texts)

    def _whole(self, change: str, item: JsonObject) -> Step:
        fields = {"output_index": self._place["output_index"], "item": item}
        return (f"response.output_item.{change}", fields)

    def _step(self, kind: str, **fields: Any) -> Step:
        return (f"response.{kind}", {**self._place, **fields})


class OutputMessage(OutputItem):
    """Text, with its logprobs if they are wanted."""

    delta_type = "response.output_text.delta"

    def __init__(self, id_: str, index: int, *, with_logprobs: bool) -> None:
        super().__init__(id_, index, content_index=0)
        self._with_logprobs = with_logprobs
        self._logprobs: list[JsonObject] = []

    def opening(self) -> Iterator[Step]:
        yield self._whole("added", {**self.item("in_progress"), "content": []})
        yield self._step("content_part.added", content_index=0, part=self._part())

    def delta(self, text: str, logprobs: Sequence[TokenLogprob]) -> DeltaStep | None:
        self._texts.append(text)
        listed = logprob_list(logprobs) if self._with_logprobs else []
        self._logprobs += listed
        if not (text or listed):
            return None
        fields = self._head + _encode(text) + b',"logprobs":' + _encode(listed)
        return (self.delta_type, fields)

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        shown = {"text": self._text, "logprobs": self._logprobs}
        yield self._step("output_text.done", content_index=0, **shown)
        yield self._step("content_part.done", content_index=0, part=self._part())
        yield self._whole("done", self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        head = {"id": self.id, "type": "message", "status": status, "role": "assistant"}
        return {**head, "content": [self._part()]}

    def _part(self) -> JsonObject:
        head = {"type": "output_text", "text": self._text, "annotations": []}
        return {**head, "logprobs": self._logprobs}


class ReasoningNames(NamedTuple):
    """The names under which thinking is shown: of its field, its part, and its events."""

    field: str
    part: str
    part_event: str
    text_event: str


REASONING_NAMES: Mapping[Style, ReasoningNames] = {
    "text": ReasoningNames("content", "reasoning_text", "content_part", "reasoning_text"),
    "summary": ReasoningNames(
        *("summary", "summary_text", "reasoning_summary_part", "reasoning_summary_text")
    ),
}


class OutputReasoning(OutputItem):
    """Thinking; `sealed` says that it also goes out in a form that only comes back."""

    def __init__(self, id_: str, index: int, *, style: Style, sealed: bool) -> None:
        self._names = names = REASONING_NAMES.get(style)
        self._index = {f"{names.field}_index": 0} if names else {}
        super().__init__(id_, index, **self._index)
        self.delta_type = f"response.{names.text_event}.delta" if names else ""
        self._sealed = sealed

    def opening(self) -> Iterator[Step]:
        head = {"id": self.id, "type": "reasoning", "summary": [], "status": "in_progress"}
        yield self._whole("added", head)
        if names := self._names:
            part = {"type": names.part, "text": ""}
            yield self._step(f"{names.part_event}.added", **self._index, part=part)

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        if names := self._names:
            text = self._text
            yield self._step(f"{names.text_event}.done", **self._index, text=text)
            part = {"type": names.part, "text": text}
            yield self._step(f"{names.part_event}.done", **self._index, part=part)
        yield self._whole("done", self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        item: JsonObject = {"id": self.id, "type": "reasoning", "status": status, "summary": []}
        if names := self._names:
            item[names.field] = [{"type": names.part, "text": self._text}]
        if self._sealed:
            item["encrypted_content"] = seal(self._text)
        return item


class OutputCompaction(OutputItem):
    """A summary that stands in the place of a history, shown when it is whole."""

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        yield self._whole("done", self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        return compaction_item(self.id, self._text)


def compaction_item(id_: str, summary: str) -> JsonObject:
    """A compaction; sealed, as clients pass it on without looking and no store is needed."""
    return {"id": id_, "type": "compaction", "encrypted_content": seal(summary.strip())}


class OutputCall(OutputItem):
    """A call of a function; `names` are its name and its namespace."""

    delta_type = "response.function_call_arguments.delta"

    def __init__(self, id_: str, index: int, *, call: ToolCall, names: JsonObject) -> None:
        super().__init__(id_, index)
        self._call = {"call_id": call.id, **names}

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        shown = {"name": self._call["name"], "arguments": self._text}
        yield self._step("function_call_arguments.done", **shown)
        yield self._whole("done", self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        head = {"id": self.id, "type": "function_call", "status": status}
        return {**head, **self._call, "arguments": self._text}


class OutputCustomCall(OutputCall):
    """A call with free text, which is a string inside arguments and is shown when it is whole."""

    delta_type = ""

    def closing(self, status: ItemStatus) -> Iterator[Step]:
        given = custom_input(self._text)
        if given:
            yield self._step("custom_tool_call_input.delta", delta=given)
        yield self._step("custom_tool_call_input.done", input=given)
        yield self._whole("done", self.item(status))

    def item(self, status: ItemStatus) -> JsonObject:
        given = "" if status == "in_progress" else custom_input(self._text)
        head = {"id": self.id, "type": "custom_tool_call", "status": status}
        return {**head, **self._call, "input": given}
