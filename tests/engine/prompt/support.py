"""Prompt builders for the tests' templates, and short ways to write conversations."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from mlx_lm.tokenizer_utils import load

from mlxd.engine.prompt.builder import PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.messages import GenerateRequest, Message, Part, Role, Scalar, Text, ToolCall, ToolResult
from tests.templates import CONTROLS, TEMPLATES
from tests.tiny_model import CONTEXT_LENGTH, make_tiny_model


@cache
def tokenizer_for(template: str) -> Any:
    """The tiny model's tokenizer with one of `TEMPLATES`, or with the text of a template."""
    source = TEMPLATES.get(template, template)
    with tempfile.TemporaryDirectory() as folder:
        return load(make_tiny_model(Path(folder), template=source, extra_special=CONTROLS))


@cache
def builder(template: str) -> PromptBuilder:
    """A builder for the tiny model with that template."""
    return build_with(template)


def build_with(
    template: str, *, context_length: int = CONTEXT_LENGTH, **arguments: Scalar
) -> PromptBuilder:
    """A builder with a window or configured template arguments of its own."""
    spec = ModelSpec(id="tiny", source="tiny", template_args=arguments)
    return PromptBuilder(tokenizer_for(template), spec, context_length)


def read(template: str, tokens: list[int]) -> str:
    """Token ids as text, control tokens included."""
    return str(tokenizer_for(template).decode(tokens))


def rendered(template: str, *messages: Message, **more: Any) -> str:
    """The prompt for a conversation as text."""
    return read(template, builder(template).build(ask(*messages, **more)).tokens)


def ask(*messages: Message, **more: Any) -> GenerateRequest:
    return GenerateRequest("test", "tiny", messages, **more)


def say(role: Role, *parts: Part | str) -> Message:
    """A message; a string is a text part."""
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def call(
    name: str = "lookup", arguments: str = '{"key": "value"}', id_: str = "call_1"
) -> ToolCall:
    return ToolCall(id_, name, arguments)


def result(text: str = "found", id_: str = "call_1", *, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(id_, (Text(text),), is_error),))
