"""A conversation as the app has it, and as a file: chat messages in JSON, or Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from mlxd.tui.chat.answer import AnswerPart

MAX_FILE = 64 * 1024 * 1024
"""Bytes; a larger file is not loaded."""

_MARK = "<!-- mlxd:"
_MARKED = re.compile(r"(?m)^<!-- mlxd:(system|user|reasoning|assistant|call)(?: (.*))? -->$")
_QUOTED = re.compile(r"(?m)^(\\*)<!-- mlxd:")
_HEADINGS = {"system": "## System", "user": "## You", "assistant": "## Answer"}


class TranscriptError(Exception):
    """A file is no transcript; its text says why."""


@dataclass(frozen=True)
class QuestionAndAnswer:
    """A question and what was answered."""

    question: str
    answer: tuple[AnswerPart, ...] = ()

    @property
    def text(self) -> str:
        """The text of the answer, without reasoning and calls."""
        return "".join(part.text for part in self.answer if part.kind == "text")


@dataclass(frozen=True)
class Transcript:
    """A whole conversation."""

    turns: tuple[QuestionAndAnswer, ...] = ()
    system: str = ""
    model: str = ""


def parts_of(parts: Iterable[AnswerPart]) -> tuple[AnswerPart, ...]:
    """What a transcript has of an answer's parts: no empty ones, and no times."""
    return tuple(
        AnswerPart(part.kind, part.text, part.name, part.call_id)
        for part in parts
        if part.text or part.kind == "call"
    )


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _ToolCall(msgspec.Struct, kw_only=True):
    id: str = ""
    type: str = "function"
    function: _Function = msgspec.field(default_factory=_Function)


class _ContentPart(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | list[_ContentPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _File(msgspec.Struct, kw_only=True):
    model: str = ""
    messages: list[_Message]


def to_json(transcript: Transcript) -> str:
    """The transcript as chat messages, which other tools read too."""
    messages = [_Message("system", transcript.system)] if transcript.system else []
    for turn in transcript.turns:
        messages.append(_Message("user", turn.question))
        if turn.answer:
            messages.append(_answered(turn))
    data = msgspec.json.encode(_File(model=transcript.model, messages=messages))
    return msgspec.json.format(data, indent=2).decode() + "\n"


def _answered(turn: QuestionAndAnswer) -> _Message:
    calls = [
        _ToolCall(id=part.call_id, function=_Function(part.name, part.text))
        for part in turn.answer
        if part.kind == "call"
    ]
    thought = "".join(part.text for part in turn.answer if part.kind == "reasoning")
    return _Message("assistant", turn.text, thought or None, calls or None)


def from_json(text: str) -> Transcript:
    """The transcript of a JSON file: ours, or a list of chat messages. Raises `TranscriptError`."""
    try:
        bare = text.lstrip().startswith("[")
        file = (
            _File(messages=msgspec.json.decode(text, type=list[_Message]))
            if bare
            else msgspec.json.decode(text, type=_File)
        )
    except (msgspec.MsgspecError, RecursionError) as error:
        raise TranscriptError(f"it is no chat: {error}") from None
    parts = [(message.role, part) for message in file.messages for part in _parts(message)]
    return _transcript_of(parts, file.model)


def _parts(message: _Message) -> Iterator[AnswerPart]:
    if message.role == "assistant" and message.reasoning_content:
        yield AnswerPart("reasoning", message.reasoning_content)
    match message.content:
        case str() as text:
            yield AnswerPart("text", text)
        case list() as pieces:
            yield AnswerPart("text", "".join(piece.text for piece in pieces))
    for call in message.tool_calls or []:
        yield AnswerPart("call", call.function.arguments, call.function.name, call.id)


def _transcript_of(parts: Sequence[tuple[str, AnswerPart]], model: str) -> Transcript:
    """The questions and answers that parts with their roles make; those of tools are left out."""
    system: list[str] = []
    turns: list[QuestionAndAnswer] = []
    for role, part in parts:
        match role:
            case "system" | "developer":
                system.append(part.text)
            case "user":
                turns.append(QuestionAndAnswer(part.text))
            case "assistant":
                if not turns:
                    turns.append(QuestionAndAnswer(""))
                answer = (*turns[-1].answer, *((part,) if part.text or part.name else ()))
                turns[-1] = QuestionAndAnswer(turns[-1].question, answer)
    if not turns:
        raise TranscriptError("there is no message in it")
    return Transcript(tuple(turns), "\n\n".join(system), model)


def to_markdown(transcript: Transcript) -> str:
    """The transcript to read, with marks in comments by which it can be loaded again."""
    written = [f"# Chat{f' with {transcript.model}' if transcript.model else ''}\n"]
    if transcript.system:
        written.append(_section("system", transcript.system))
    for turn in transcript.turns:
        written.append(_section("user", turn.question))
        written += [_answer_section(part) for part in turn.answer]
    return "\n".join(written)


def _answer_section(part: AnswerPart) -> str:
    match part.kind:
        case "reasoning":
            return _section("reasoning", part.text)
        case "text":
            return _section("assistant", part.text)
        case "call":
            named = (
                msgspec.json.encode([part.name, part.call_id]).decode().replace("--", "-\\u002d")
            )
            return _section("call", part.text, f" {named}")


def _section(mark: str, text: str, more: str = "") -> str:
    heading = _HEADINGS.get(mark)
    # Lines that look like a mark get a backslash in front.
    quoted = _QUOTED.sub(rf"\1\\{_MARK}", text)
    lines = [f"{_MARK}{mark}{more} -->", *([heading] if heading else []), quoted]
    return "\n".join(lines) + "\n"


def from_markdown(text: str) -> Transcript:
    """The transcript of a Markdown file that `to_markdown` wrote. Raises `TranscriptError`."""
    found = list(_MARKED.finditer(text))
    if not found:
        raise TranscriptError("it is no chat that mlxd saved")
    ends = [*(mark.start() - 1 for mark in found[1:]), len(text)]
    parts = [_read(mark, text[mark.end() + 1 : end]) for mark, end in zip(found, ends, strict=True)]
    title = re.match(r"# Chat with (.*)", text)
    return _transcript_of(parts, title[1].strip() if title else "")


def _read(mark: re.Match[str], body: str) -> tuple[str, AnswerPart]:
    heading = _HEADINGS.get(mark[1])
    body = body.removesuffix("\n")
    if heading is not None:
        body = body.removeprefix(f"{heading}\n")
    body = re.sub(r"(?m)^\\(\\*<!-- mlxd:)", r"\1", body)
    match mark[1]:
        case "reasoning":
            return "assistant", AnswerPart("reasoning", body)
        case "call":
            return "assistant", _call(mark[2] or "", body)
        case role:
            return role, AnswerPart("text", body)


def _call(named: str, body: str) -> AnswerPart:
    try:
        name, call_id = msgspec.json.decode(named, type=tuple[str, str])
    except msgspec.MsgspecError as error:
        raise TranscriptError(f"a tool call in it is damaged: {error}") from None
    return AnswerPart("call", body, name, call_id)
