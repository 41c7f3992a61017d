"""Conversations whose answers are remembered, and the turns that go on from them."""

import json
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mlxd.engine.notations.spelling import spelt
from mlxd.engine.notations.table import notation_named
from mlxd.engine.prompt.answers import Answers, RememberedAnswer, scope_of
from mlxd.engine.prompt.builder import Prompt, PromptBuilder
from mlxd.engine.prompt.markup_detection import ModelFormat, read_format
from mlxd.engine.protocol import ModelSpec
from mlxd.messages import (
    GenerateRequest,
    Message,
    OutputPart,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from tests.engine.prompt.support import ask, say, tokenizer_for

ROOM = 100_000
SPEC = ModelSpec(id="tiny", source="tiny")
LAMP = Tool(
    "lamp",
    "Switches a lamp.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "room": {"type": "string"},
                "level": {"type": "number"},
                "plan": {"type": "object"},
            },
        }
    ),
)
BELL = Tool("bell", "", json.dumps({"type": "object", "properties": {"tone": {"type": "integer"}}}))
CALL = ToolCall(
    "call_1", "lamp", '{"room": "the attic", "level": 7, "plan": {"steps": [1, "dim"]}}'
)
RING = ToolCall("call_2", "bell", '{"tone": 440}')
THOUGHT = Reasoning("Hello is of the world.")
WORDS = Text("Paris is the world of France.")
SHAPES: dict[str, tuple[OutputPart, ...]] = {
    "text": (WORDS,),
    "call": (CALL,),
    "two calls": (CALL, RING),
    "text and call": (WORDS, CALL),
    "thinking and call": (THOUGHT, CALL),
    "thinking and text": (THOUGHT, WORDS),
}
SPELLINGS = ("compact", "pretty", "another order", "other tokens")
QUESTION = (say("system", "Be brief."), say("user", "Hello, what is the world of Paris?"))


@cache
def format_of(template: str) -> ModelFormat:
    return read_format(tokenizer_for(template), SPEC)


@dataclass
class History:
    """One template's prompts, with what was said and without."""

    template: str
    answers: Answers = field(default_factory=Answers)

    def __post_init__(self) -> None:
        self.tokenizer = tokenizer_for(self.template)
        self.end = int(self.tokenizer.eos_token_id)
        known = format_of(self.template)
        self.markup = known.markup
        self._memoryless = PromptBuilder(self.tokenizer, SPEC, ROOM, known=known)
        self._builder = PromptBuilder(
            *(self.tokenizer, SPEC, ROOM), known=known, answers=self.answers, ends=[self.end]
        )

    def build(self, request: GenerateRequest) -> Prompt:
        """The prompt; it is counted alike."""
        prompt = self._builder.build(request)
        assert self._builder.count(request) == len(prompt.tokens)
        return prompt

    def forgetful(self, request: GenerateRequest) -> list[int]:
        """The prompt of a server that remembers nothing."""
        return self._memoryless.build(request).tokens

    def said(
        self, prompt: Prompt, tokens: Sequence[int], *, key: str = "", ended: bool = True
    ) -> list[int]:
        """An answer of these tokens to a prompt; returns all of it."""
        whole = [*tokens, self.end] if ended else list(tokens)
        kept = array("I", [*prompt.tokens, *whole])
        answer = RememberedAnswer(prompt.before, kept, len(prompt.tokens), prompt.boundaries)
        self.answers.add(scope_of("tiny", key), answer)
        return whole

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens)))

    def tokens_of(
        self, parts: Sequence[OutputPart], spelling: str = "compact", *, opened: bool = False
    ) -> list[int]:
        """An answer as the model might write it."""
        text = ""
        opening, closing = next(iter(self.markup.reasoning), ("", ""))
        for part in parts:
            if isinstance(part, Reasoning):
                text += ("" if opened else opening + "\n") + part.text + f"\n{closing}\n\n"
                opened = False
            elif opened:
                text, opened = text + f"\n{closing}\n\n", False
            text += part.text if isinstance(part, Text) else ""
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if calls:
            text += "\n" if text and text[-1] != "\n" else ""
            text += self._spelt(calls, spelling)
        return self._encoded(text, other=spelling == "other tokens")

    def _spelt(self, calls: Sequence[ToolCall], spelling: str) -> str:
        given = [(call.name, json.loads(call.arguments)) for call in calls]
        if spelling == "another order":
            given = [(name, dict(reversed(values.items()))) for name, values in given]
        text = spelt(notation_named(self.markup.tool_format), given)
        if spelling == "pretty":
            for _, values in given:
                for value in (values, *values.values()):
                    if isinstance(value, dict):
                        compact = json.dumps(value, ensure_ascii=False)
                        text = text.replace(compact, json.dumps(value, indent=1))
        return text

    def _encoded(self, text: str, *, other: bool) -> list[int]:
        encode = self.tokenizer.encode
        tokens: list[int] = encode(text, add_special_tokens=False)
        if not other:
            return tokens
        # Cut apart, words are not the tokens that the tokenizer would choose.
        split: list[int] = []
        for token in tokens:
            word = self.text([token])
            plain = word.strip() in ("the", "is", "of", "France", "Paris", "Hello", "world")
            split += [encode(char)[0] for char in word] if plain else [token]
        return split


def first_turn(*messages: Message, **more: Any) -> GenerateRequest:
    return ask(*(messages or QUESTION), **{"tools": (LAMP, BELL), **more})


def next_turn(
    request: GenerateRequest, parts: Sequence[OutputPart], *, words: str = "And now?", **more: Any
) -> GenerateRequest:
    """The request behind `parts`, with the results of its calls, else with the user's words."""
    calls = [part for part in parts if isinstance(part, ToolCall)]
    results = [
        Message("tool", (ToolResult(call.id, (Text(f"{call.name} is done"),)),)) for call in calls
    ]
    behind = results or [say("user", words)]
    messages = (*request.messages, Message("assistant", tuple(parts)), *behind)
    return ask(*messages, **{"tools": request.tools, **more})


def edited(parts: Sequence[OutputPart], rng: random.Random) -> tuple[OutputPart, ...]:
    """One part changed so that it says something else."""
    parts = list(parts)
    at = rng.randrange(len(parts))
    part = parts[at]
    match rng.choice(("change", "drop", "again", "swap")):
        case "drop":
            del parts[at]
        case "again":
            parts.insert(at, part)
        case "swap" if len(parts) > 1 and parts[0] != parts[-1]:
            parts[0], parts[-1] = parts[-1], parts[0]
        case _:
            parts[at] = _changed(part, rng)
    return tuple(parts)


def _changed(part: OutputPart, rng: random.Random) -> OutputPart:
    if isinstance(part, Text):
        return Text(_typo(part.text, rng))
    if isinstance(part, Reasoning):
        return Reasoning(_typo(part.text, rng))
    values = json.loads(part.arguments)
    name = rng.choice(list(values))
    match values[name]:
        case int(number):
            values[name] = rng.choice((float(number), number + 1, str(number), True))
        case str(text):
            values[name] = _typo(text, rng)
        case dict():
            values[name] = rng.choice(({"steps": [1.0, "dim"]}, {"steps": ["dim", 1]}, {}, None))
    return ToolCall(part.id, part.name, json.dumps(values))


def _typo(text: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(text) - 1)
    return text[:at] + rng.choice(("x", "é", "  ", "\n\n")) + text[at:]
