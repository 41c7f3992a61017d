"""Scripts in JSON files: a list of answers, each a list of events.

An event is written as `mlxd.events` tags it (`{"type": "block_start", …}`) or short, as a whole
block or end:

    {"text": "Hello."}   {"reasoning": "Let me see."}
    {"tool_call": {"name": "read", "arguments": {"path": "README.md"}}}
    {"pause": 0.5}       {"finish": "length"}
    {"fail": {"kind": "OutOfMemory", "facts": {"reason": "the KV cache is full"}}}
    {"refuse": {"kind": "QueueFull", "facts": {"limit": 64}}}

`refuse` comes first and alone: the request fails before the first byte. An answer may say when it
fits: `{"when": {"tools": true, "after_tool_result": false, "contains": "weather"}, "events": […]}`.
The answers that fit a request are played in turn; the last one repeats.
"""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mlxd.engine.scripted.answers import block, call_id, holds_result, last_user_text
from mlxd.engine.scripted.playback import Filler, Pause, Play, ScriptItem
from mlxd.errors import ConfigError, ErrorReport, InternalError, MlxdError, revive, subclasses
from mlxd.events import (
    BlockStart,
    Event,
    Failed,
    Finished,
    FinishReason,
    OrderError,
    Started,
    Usage,
)
from mlxd.messages import GenerateRequest, NoTools, Reasoning, Text, ToolCall


class _Short(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A short form; it is known by its only required key."""


class SayText(_Short, frozen=True):
    text: str


class SayReasoning(_Short, frozen=True):
    reasoning: str


class Called(_Short, frozen=True):
    name: str
    arguments: dict[str, Any] | str = {}
    id: str = ""


class CallTool(_Short, frozen=True):
    tool_call: Called


class Wait(_Short, frozen=True):
    pause: Annotated[float, msgspec.Meta(ge=0)]


class End(_Short, frozen=True):
    reason: FinishReason
    stop_sequence: str | None = None
    usage: Usage = Usage()


class Finish(_Short, frozen=True):
    finish: FinishReason | End


class Fail(_Short, frozen=True):
    fail: ErrorReport


class Refuse(_Short, frozen=True):
    refuse: ErrorReport


Short = SayText | SayReasoning | CallTool | Wait | Finish | Fail | Refuse
Item = Event | Short

_SHORT: dict[str, type[Short]] = {
    "text": SayText,
    "reasoning": SayReasoning,
    "tool_call": CallTool,
    "pause": Wait,
    "finish": Finish,
    "fail": Fail,
    "refuse": Refuse,
}


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request must be like; None means either.

    `tools`: it offers tools that may be called. `after_tool_result`: its last message holds a
    tool's result. `contains`: the last user message holds this text.
    """

    tools: bool | None = None
    after_tool_result: bool | None = None
    contains: str | None = None

    def fits(self, request: GenerateRequest) -> bool:
        offered = bool(request.tools) and not isinstance(request.tool_choice, NoTools)
        returned = bool(request.messages) and holds_result(request.messages[-1])
        return (
            self.tools in (None, offered)
            and self.after_tool_result in (None, returned)
            and (self.contains is None or self.contains in last_user_text(request))
        )


class ScriptedAnswer(msgspec.Struct, frozen=True):
    """One answer of a file, and the requests it is for."""

    items: tuple[Item, ...]
    when: When = When()

    def play(self, request: GenerateRequest) -> Iterator[ScriptItem]:
        """The answer to `request`: short forms in full, blocks numbered."""
        if not (self.items and isinstance(self.items[0], Started | Refuse)):
            yield Started("", 0)
        index = 0
        for item in self.items:
            for event in _in_full(item, index, request):
                index += isinstance(event, BlockStart)
                yield event


class Script:
    """The answers of a file; remembers which of them were played."""

    def __init__(self, answers: tuple[ScriptedAnswer, ...]) -> None:
        self._answers = answers
        self._fresh = list(answers)

    def __call__(self, request: GenerateRequest) -> Iterator[ScriptItem]:
        """The answer whose turn it is; raises `InternalError` when none fits the request."""
        return self._choose(request).play(request)

    def _choose(self, request: GenerateRequest) -> ScriptedAnswer:
        for answer in self._fresh:
            if answer.when.fits(request):
                self._fresh.remove(answer)
                return answer
        for answer in reversed(self._answers):
            if answer.when.fits(request):
                return answer
        raise InternalError(reason="no answer of the script fits this request")


def load_script(path: Path) -> Play:
    """The script in a file; raises `ConfigError` that says where the file is wrong."""
    return Script(_File(str(path)).answers(_read(path)))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), "", f"it can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "", f"byte {error.start} is not UTF-8.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ConfigError(str(path), where, f"it is not JSON: {error.msg}.") from error
    except RecursionError as error:
        raise ConfigError(str(path), "", "it is nested too deeply.") from error


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer with its condition."""

    events: list[Any]
    when: When = When()


class _File:
    """Reads the parsed JSON of a script; every complaint names the key."""

    def __init__(self, name: str) -> None:
        self._name = name

    def answers(self, raw: Any) -> tuple[ScriptedAnswer, ...]:
        if not isinstance(raw, list) or not raw:
            raise self._wrong("", "a script is a list of at least one answer.")
        return tuple(self._answer(f"{number}", answer) for number, answer in enumerate(raw))

    def _answer(self, key: str, raw: Any) -> ScriptedAnswer:
        if isinstance(raw, dict):
            written = self._convert(key, raw, _Written)
            key += ".events"
        else:
            written = _Written(self._convert(key, raw, list[Any]))
        items = tuple(
            self._item(f"{key}.{number}", item) for number, item in enumerate(written.events)
        )
        self._check(key, items)
        return ScriptedAnswer(items, written.when)

    def _item(self, key: str, raw: Any) -> Item:
        event = self._convert(key, raw, dict[str, Any])
        if "type" in event:
            tagged: Event = self._convert(key, event, Event)
            return tagged
        for name, form in _SHORT.items():
            if name in event:
                short: Short = self._convert(key, event, form)
                return short
        raise self._wrong(key, f"an event has `type` or one of: {', '.join(_SHORT)}.")

    def _check(self, key: str, items: tuple[Item, ...]) -> None:
        """What only shows when the answer is played."""
        for number, item in enumerate(items):
            match item:
                case Fail(error) | Refuse(error) | Failed(error):
                    self._check_error(f"{key}.{number}", error)
        if any(isinstance(item, Refuse) for item in items):
            if len(items) > 1:
                raise self._wrong(key, "`refuse` stands alone in its answer.")
            return
        stream = Filler("", Usage()).fill(ScriptedAnswer(items).play(_ANY_REQUEST))
        try:
            deque(stream, maxlen=0)
        except OrderError as error:
            raise self._wrong(key, f"{error}.") from error

    def _check_error(self, key: str, error: ErrorReport) -> None:
        kinds = [cls.__name__ for cls in subclasses(MlxdError)]
        if error.kind not in kinds:
            raise self._wrong(key, f"`kind` is one of: {', '.join(kinds)}.")
        try:
            revive(error)
        except TypeError as misfit:
            raise self._wrong(key, f"`facts` do not fit: {misfit}.") from misfit

    def _convert(self, key: str, raw: Any, form: Any) -> Any:
        try:
            return msgspec.convert(raw, type=form)
        except msgspec.ValidationError as error:
            raise self._wrong(key, f"{error}.") from error

    def _wrong(self, key: str, reason: str) -> ConfigError:
        return ConfigError(self._name, key, reason)


_ANY_REQUEST = GenerateRequest(id="", model="", messages=())


def _in_full(item: Item, index: int, request: GenerateRequest) -> Iterator[ScriptItem]:
    match item:
        case SayText(text):
            yield from block(index, Text(text))
        case SayReasoning(text):
            yield from block(index, Reasoning(text))
        case CallTool(call):
            yield from block(index, _tool_call(call, index, request))
        case Wait(seconds):
            yield Pause(seconds)
        case Finish(end):
            end = end if isinstance(end, End) else End(end)
            yield Finished(end.reason, end.usage, stop_sequence=end.stop_sequence)
        case Fail(error):
            yield Failed(error)
        case Refuse(error):
            raise revive(error)
        case _:
            yield item


def _tool_call(call: Called, index: int, request: GenerateRequest) -> ToolCall:
    arguments = call.arguments
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(call.id or call_id(request, index), call.name, arguments)
