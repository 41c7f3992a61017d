"""Compaction: a history becomes a summary that the model writes and later reads in its place."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from mlxd.api.dialect import Caller, Frame, JsonObject
from mlxd.api.openai.responses.format.calls import FinalState
from mlxd.api.openai.responses.format.full_input import FullInput
from mlxd.api.openai.responses.format.neutral_request import source
from mlxd.api.openai.responses.format.output_items import (
    OutputCompaction,
    OutputItem,
    compaction_item,
)
from mlxd.api.openai.responses.format.renderer import ResponsesRenderer
from mlxd.api.openai.responses.format.response_object import error_event, response_id, usage_body
from mlxd.api.openai.responses.format.tools import ResponsesToolbox
from mlxd.api.openai.responses.format.wire import CompactRequest
from mlxd.errors import revive
from mlxd.events import BlockDelta, BlockEnd, BlockStart, Event, Failed, Finished, Usage
from mlxd.history import Item, ResponseState
from mlxd.messages import (
    AllowedTools,
    GenerateRequest,
    Message,
    NoTools,
    OutputPart,
    Text,
    TextOutput,
)

ASK = (
    "Write a summary of this conversation that will stand in its place. It is read by whoever goes "
    "on with it and knows nothing else. Keep what was asked for and what was decided and why, "
    "names, numbers, paths and code that matter, what was tried and how it went, the present "
    "state, and what is still to be done. Write the summary alone, without a preface."
)

_encode = msgspec.json.Encoder().encode


def compaction(
    wire: CompactRequest, history: FullInput, box: ResponsesToolbox, caller: Caller
) -> GenerateRequest:
    """The request for a summary of `history`, which is the whole conversation."""
    return summary_of(
        GenerateRequest(
            id=caller.request_id,
            model=wire.model,
            messages=history.messages,
            tools=box.tools,
            source=source(wire, caller),
        )
    )


def summary_of(request: GenerateRequest) -> GenerateRequest:
    """Instead of an answer to `request` a summary of its messages, drawn in the same way.

    Its tools stay what they are to the model, so that the prompt begins as in the turns before.
    """
    allowed = request.tool_choice.names if isinstance(request.tool_choice, AllowedTools) else None
    return replace(
        request,
        messages=(*request.messages, Message("user", (Text(ASK),))),
        tools=tuple(each for each in request.tools if allowed is None or each.name in allowed),
        tool_choice=NoTools(),
        stop=(),
        output=TextOutput(),
        logprobs=None,
    )


class CompactionRenderer(ResponsesRenderer):
    """The answer to a trigger: a response whose only output is the compaction."""

    _reads = False

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `StreamRenderer.frames`."""
        match event:
            case BlockStart(part=part):
                self._reads = isinstance(part, Text)
                # All text is one summary, also where thinking stands between.
                if not self._reads or self._open is not None:
                    return ()
            case BlockDelta() if not self._reads:
                return ()
            case _:
                pass
        return super().frames(choice, event)

    def _new_item(self, part: OutputPart) -> OutputItem | None:
        return None if self._options.silent else OutputCompaction(self._id("cmp"), 0)


class CompactRenderer:
    """See `ObjectRenderer`; a compaction is never streamed.

    `lasting` are items that stay in front of the summary as they are.
    """

    def __init__(self, caller: Caller, lasting: Sequence[Item]) -> None:
        self._id = response_id(caller)
        self._token = caller.request_id.removeprefix("req_")
        self._created = caller.created
        self._lasting = [msgspec.Raw(item.body) for item in lasting]
        self._texts: list[str] = []
        self._usage = Usage()

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `StreamRenderer.frames`."""
        match event:
            case BlockEnd(part=Text(text=text)):
                self._texts.append(text)
            case Finished(usage=usage):
                self._usage = usage
            case Failed(error=error):
                fields = {"type": "error", "sequence_number": 0, **error_event(revive(error))}
                return (Frame(_encode(fields), "error"),)
            case _:
                pass
        return ()

    def idle(self) -> Iterable[Frame]:
        """See `StreamRenderer.idle`."""
        return ()

    def end(self) -> Iterable[Frame]:
        """See `StreamRenderer.end`."""
        return ()

    def cancel(self, usage: Usage) -> Iterable[Frame]:
        """See `ObjectRenderer.cancel`."""
        return ()

    def snapshot(self) -> JsonObject:
        """See `ObjectRenderer.snapshot`."""
        return self._object("\n".join(self._texts), self._usage)

    def final(self, event: Finished | Failed) -> FinalState:
        """See `ObjectRenderer.final`."""
        state: ResponseState = "failed" if isinstance(event, Failed) else "completed"
        return FinalState(state, self._object("\n".join(self._texts), event.usage))

    def _object(self, summary: str, usage: Usage) -> JsonObject:
        return {
            "id": self._id,
            "object": "response.compaction",
            "created_at": self._created,
            "output": [*self._lasting, compaction_item(f"cmp_{self._token}", summary)],
            "usage": usage_body(usage),
        }
