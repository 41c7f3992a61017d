"""A request's messages taken apart into turns, with everything a caller wrote escaped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from mlxd.engine.interface import COMMON_TAGS
from mlxd.engine.prompt.escaping import Escaper
from mlxd.errors import InvalidField
from mlxd.messages import Image, Message, Reasoning, Role, Text, Tool, ToolCall, ToolResult

MAX_DEPTH = 64
"""Nesting of JSON in a tool's schema or a call's arguments."""


@dataclass(frozen=True)
class ChatCall:
    """A tool call of the history; `arguments` is a JSON object if the caller's text was one."""

    id: str
    name: str
    arguments: dict[str, Any] | str


@dataclass(frozen=True)
class ChatTurn:
    """One turn in the template's terms; `call_id` and `name` belong to the tool role.

    `thought` says that the caller closed the thinking of an answer, whether it holds any or not.
    """

    role: Role
    text: str = ""
    reasoning: str = ""
    calls: tuple[ChatCall, ...] = ()
    call_id: str = ""
    name: str = ""
    thought: bool = False

    @property
    def empty(self) -> bool:
        return not (self.text or self.reasoning or self.calls)


@dataclass(frozen=True)
class MessageReader:
    """Takes messages apart; everything a caller wrote goes through `escaper`.

    `reasoning` holds the model's tags of thinking, which callers may send back inside of the text.
    """

    escaper: Escaper
    model: str
    reasoning: tuple[tuple[str, str], ...] = ()

    def turns(self, messages: Sequence[Message]) -> list[list[ChatTurn]]:
        """Every message as one turn, and one more for each tool result it holds."""
        return [self._turns(number, message) for number, message in enumerate(messages)]

    def tools(self, tools: Sequence[Tool]) -> list[dict[str, Any]]:
        """Tools as chat templates expect them; raises `InvalidField` for a broken schema."""
        return [self._tool(number, tool) for number, tool in enumerate(tools)]

    def _turns(self, number: int, message: Message) -> list[ChatTurn]:
        where = f"messages.{number}.content"
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        rest = [part for part in message.parts if not isinstance(part, ToolResult)]
        turns = [self._result(where, result) for result in results]
        if rest or not results:
            turns.append(self._turn(where, message.role, rest))
        return turns

    def _turn(
        self, where: str, role: Role, parts: Sequence[Text | Reasoning | Image | ToolCall]
    ) -> ChatTurn:
        texts: list[str] = []
        reasoning: list[str] = []
        calls: list[ChatCall] = []
        for part in parts:
            match part:
                case Text(text=text):
                    texts.append(text)
                case Reasoning(text=text):
                    reasoning.append(text)
                case ToolCall():
                    id_, name = self.escaper.text(part.id), self.escaper.text(part.name)
                    calls.append(ChatCall(id_, name, self._arguments(part)))
                case Image():
                    raise self._no_images(part, where)
                case _:
                    assert_never(part)
        text, thought, closed = "\n".join(texts), "\n".join(reasoning), False
        if role == "assistant" and not reasoning:
            text, thought, closed = split_reasoning(text, self.reasoning)
        text, thought = self.escaper.text(text), self.escaper.text(thought)
        return ChatTurn(role, text, thought, tuple(calls), thought=closed)

    def _arguments(self, call: ToolCall) -> dict[str, Any] | str:
        """An object if it is one; models write, and callers send back, what is not JSON too."""
        arguments = parse_object(call.arguments)
        try:
            value = self.escaper.value(arguments)
        except InvalidField:
            value = None
        return value if isinstance(value, dict) else self.escaper.text(call.arguments)

    def _result(self, where: str, result: ToolResult) -> ChatTurn:
        texts = []
        for part in result.parts:
            if isinstance(part, Image):
                raise self._no_images(part, where)
            texts.append(self.escaper.text(part.text))
        text = "\n".join(texts)
        if result.is_error and not text.lower().startswith("error"):
            text = f"Error: {text}"
        return ChatTurn("tool", text, call_id=self.escaper.text(result.call_id))

    def _tool(self, number: int, tool: Tool) -> dict[str, Any]:
        parameters = parse_object(tool.parameters)
        if parameters is None:
            where = f"tools.{number}.function.parameters"
            raise InvalidField(where, "value", "A tool's parameters must be a JSON Schema object.")
        function = {"name": self.escaper.text(tool.name)}
        if tool.description:
            function["description"] = self.escaper.text(tool.description)
        return {
            "type": "function",
            "function": {**function, "parameters": self.escaper.value(parameters)},
        }

    def _no_images(self, image: Image, where: str) -> InvalidField:
        why = f"The model '{self.model}' takes text only; it sees no images."
        return InvalidField(image.place or where, "unsupported", why)


def split_reasoning(text: str, tags: Sequence[tuple[str, str]]) -> tuple[str, str, bool]:
    """(text, thinking, whether it was closed) of what a caller sends back in tags of thinking.

    Programs write the tags that most models have: a model with others takes them as its own.
    """
    trimmed = text.lstrip()
    common = (COMMON_TAGS,) if tags and COMMON_TAGS[1] in trimmed else ()
    for opening, closing in (*tags, *common):
        if trimmed.startswith(opening):
            thought, closed, answer = trimmed.removeprefix(opening).partition(closing)
            thought = thought.strip("\n") if closed else thought.lstrip("\n")
            return answer.lstrip("\n"), thought, bool(closed)
    return text, "", False


def one_spelling(arguments: str) -> str:
    """A call's arguments in one spelling, in which 1 is not 1.0, true or "1"; empty if not JSON."""
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return ""


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that `text` is, None if it is none; no text is no arguments."""
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _is_shallow(value) else None


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for nest in level
            if isinstance(nest, dict | list)
            for item in (nest.values() if isinstance(nest, dict) else nest)
        ]
    return not any(isinstance(item, dict | list) for item in level)
