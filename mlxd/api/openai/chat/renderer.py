"""Chat Completions answers: events to chunks, or whole answers to one body.

Everything that all chunks of a stream share is encoded once; a chunk of text costs the encoding of
that text and one concatenation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec

from mlxd.api.dialect import Frame, JsonObject
from mlxd.api.openai.errors import error_body
from mlxd.api.openai.tools import custom_input
from mlxd.api.wire.joined_texts import joined, seam
from mlxd.api.wire.logprobs import logprob_list
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
    FinishReason,
    Progress,
    Started,
    TokenLogprob,
    Usage,
    total_usage,
)
from mlxd.messages import OutputPart, Reasoning, Text, ToolCall

DONE = Frame(b"[DONE]")
FINGERPRINT = "fp_mlxd"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class ChatAnswerOptions:
    """What the request said about its answer; `created` in seconds since 1970.

    `model` is the name that was asked for, empty for the default. Calls of `custom_tools` are of
    type `custom`; with `legacy_calls` there is at most one, as `function_call`.
    """

    id: str
    created: int
    model: str = ""
    choices: int = 1
    usage: bool = False
    logprobs: bool = False
    service_tier: str = "default"
    custom_tools: frozenset[str] = frozenset()
    legacy_calls: bool = False


class Choice:
    """How far one of the answers is."""

    def __init__(self, number: int) -> None:
        self.index = b'{"index":%d,"delta":' % number
        self.open: OutputPart | None = None
        self.calls = 0
        self.usage = Usage()
        self.text_end = ""
        """The last character of the text so far."""


class ChatRenderer:
    """See `Renderer`."""

    def __init__(self, options: ChatAnswerOptions) -> None:
        self._options = options
        self._choices = [Choice(number) for number in range(options.choices)]
        self._head = b""
        # Who asked for usage is promised the key in every chunk.
        self._tail = b'}],"usage":null}' if options.usage else b"}]}"

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """See `Renderer.frames`."""
        state = self._choices[choice]
        match event:
            case BlockDelta(text=text, logprobs=logprobs):
                return self._delta(state, text, logprobs)
            case BlockStart(part=part):
                state.open = part
                if not isinstance(part, ToolCall):
                    return ()
                state.calls += 1
                return () if self._is_custom(part) else (self._call_chunk(state, part),)
            case BlockEnd(part=part):
                state.open = None
                if isinstance(part, Text):
                    state.text_end = part.text[-1:] or state.text_end
                # The input is a string inside the arguments, so it is shown when they are whole.
                if isinstance(part, ToolCall) and self._is_custom(part):
                    return (self._call_chunk(state, part),)
                return ()
            case Started(model=model):
                envelope = self._envelope("chat.completion.chunk", model)
                self._head = _encode(envelope)[:-1] + b',"choices":['
                delta = b'{"role":"assistant","content":"","refusal":null}'
                return (self._chunk(state, delta),)
            case Progress():
                return ()
            case Finished(reason=reason, usage=usage):
                state.usage = usage
                finish = self._finish_reason(reason, state.calls)
                return (self._chunk(state, b"{}", finish=_encode(finish)),)
            case Failed(error=error):
                return (Frame(_encode(error_body(revive(error), prompt="messages"))), DONE)
            case _:
                assert_never(event)

    def idle(self) -> Iterable[Frame]:
        """See `Renderer.idle`."""
        return ()

    def end(self) -> Iterable[Frame]:
        """See `Renderer.end`."""
        if not self._options.usage:
            return (DONE,)
        # A chunk of its own, without choices: they may end at different times.
        usage = usage_body([choice.usage for choice in self._choices])
        return (Frame(self._head + b'],"usage":' + _encode(usage) + b"}"), DONE)

    def body(self, answers: Sequence[Answer]) -> bytes:
        """See `Renderer.body`."""
        return _encode(
            {
                **self._envelope("chat.completion", answers[0].started.model),
                "choices": [self._choice(*numbered) for numbered in enumerate(answers)],
                "usage": usage_body([answer.finished.usage for answer in answers]),
            }
        )

    def _envelope(self, kind: str, model: str) -> JsonObject:
        return {
            "id": self._options.id,
            "object": kind,
            "created": self._options.created,
            "model": self._options.model or model,
            "service_tier": self._options.service_tier,
            "system_fingerprint": FINGERPRINT,
        }

    def _chunk(
        self, choice: Choice, delta: bytes, *, finish: bytes = b"null", logprobs: bytes = b"null"
    ) -> Frame:
        return Frame(
            b"".join(
                (
                    *(self._head, choice.index, delta, b',"logprobs":', logprobs),
                    *(b',"finish_reason":', finish, self._tail),
                )
            )
        )

    def _delta(
        self, choice: Choice, text: str, logprobs: Sequence[TokenLogprob]
    ) -> Iterable[Frame]:
        if isinstance(choice.open, Text) and text:
            text, choice.text_end = seam(choice.text_end, text) + text, ""
        encoded = _encode(text)
        match choice.open:
            case Text():
                delta = b'{"content":' + encoded + b"}"
            case Reasoning():
                delta = b'{"reasoning_content":' + encoded + b',"reasoning":' + encoded + b"}"
            case ToolCall() as call:
                if self._is_custom(call):
                    return ()
                if self._options.legacy_calls:
                    delta = b'{"function_call":{"arguments":' + encoded + b"}}"
                else:
                    head = b'{"tool_calls":[{"index":%d,"function":{"arguments":'
                    delta = head % (choice.calls - 1) + encoded + b"}}]}"
            case None:
                return ()
        if self._options.logprobs and logprobs:
            return (self._chunk(choice, delta, logprobs=_encode(logprobs_body(logprobs))),)
        return (self._chunk(choice, delta),) if text else ()

    def _call_chunk(self, choice: Choice, call: ToolCall) -> Frame:
        shown = self._call(call)
        if self._options.legacy_calls:
            return self._chunk(choice, _encode({"function_call": shown["function"]}))
        return self._chunk(choice, _encode({"tool_calls": [{"index": choice.calls - 1, **shown}]}))

    def _choice(self, index: int, answer: Answer) -> JsonObject:
        calls = [self._call(call) for call in answer.tool_calls]
        content = joined(part.text for part in answer.parts if isinstance(part, Text))
        message: JsonObject = {
            "role": "assistant",
            # Null and not empty beside calls, as OpenAI has it.
            "content": None if calls and not content else content,
            "refusal": None,
            "annotations": [],
        }
        if answer.reasoning:
            # The name that most servers have for it, and vLLM's newer one.
            message |= {"reasoning_content": answer.reasoning, "reasoning": answer.reasoning}
        if calls and self._options.legacy_calls:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        logprobs = answer.logprobs if self._options.logprobs else ()
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs_body(logprobs) if logprobs else None,
            "finish_reason": self._finish_reason(answer.finished.reason, len(calls)),
        }

    def _call(self, call: ToolCall) -> JsonObject:
        if self._is_custom(call):
            custom = {"name": call.name, "input": custom_input(call.arguments)}
            return {"id": call.id, "type": "custom", "custom": custom}
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": call.id, "type": "function", "function": function}

    def _is_custom(self, call: ToolCall) -> bool:
        return call.name in self._options.custom_tools

    def _finish_reason(self, reason: FinishReason, calls: int) -> str:
        """`tool_calls` if and only if there are calls, unless the limit cut the last one short."""
        if reason == "length":
            return "length"
        if not calls or reason == "cancelled":
            return "stop"
        return "function_call" if self._options.legacy_calls else "tool_calls"


def usage_body(usages: Sequence[Usage]) -> JsonObject:
    """`usage` of an answer with one or several choices."""
    usage = total_usage(usages)
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "audio_tokens": 0,
            **uncached_tokens(usage),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs_body(logprobs: Sequence[TokenLogprob]) -> JsonObject:
    """`logprobs` of a choice or a chunk."""
    return {"content": logprob_list(logprobs), "refusal": None}
