"""What written scripts are made of: a fixed tokenizer, and whole texts as blocks of events.

The tokenizer makes counts that never change. A token is up to six word characters together with a
space before them, any other visible character, or a run of white space. In a prompt each message,
each tool and the opening of the answer cost their marks (two tokens, two and one) besides their
text, and an image costs `IMAGE_TOKENS`. An answer costs its text and one end token.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import assert_never

from msgspec.structs import replace

from mlxd.events import BlockDelta, BlockEnd, BlockStart, Event, part_text
from mlxd.messages import (
    GenerateRequest,
    Image,
    Message,
    OutputPart,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)

IMAGE_TOKENS = 256
SLICE = 16_384
"""Characters of a text that are cut into tokens at a time."""

_TOKEN = re.compile(r" ?\w{1,6}|[^\w\s]|\s+")


def tokens(text: str) -> list[str]:
    """The tokens of `text`; joined they are `text` again."""
    found: list[str] = []
    # A text of megabytes has few different ones: each is held once.
    known: dict[str, str] = {}
    position, size = 0, SLICE
    # In slices: a search in one go would keep all threads of the process from running.
    while position < len(text):
        some = _TOKEN.findall(text, position, position + size)
        if position + size < len(text):
            # It may go on behind the slice.
            some.pop()
        size = SLICE if some else 2 * size
        position += sum(map(len, some))
        found += [known.setdefault(each, each) for each in some]
    return found


def prompt_tokens(request: GenerateRequest) -> list[str]:
    """The tokens of everything a request gives the model to read, tools first."""
    prompt: list[str] = []
    for tool in request.tools:
        if tool.deferred:
            continue
        prompt += ["<tool>", *tokens(tool.name), *tokens(tool.description)]
        prompt += [*tokens(tool.parameters), "</tool>"]
    for message in request.messages:
        prompt.append(f"<{message.role}>")
        for part in message.parts:
            prompt += _part_tokens(part)
        prompt.append("</>")
    return [*prompt, "<assistant>"]


def prompt_characters(request: GenerateRequest) -> int:
    """About how many characters a request gives the model to read."""
    tools = sum(len(tool.description) + len(tool.parameters) for tool in request.tools)
    return tools + sum(_characters(part) for each in request.messages for part in each.parts)


def _characters(part: Part) -> int:
    match part:
        case ToolCall(arguments=arguments):
            return len(arguments)
        case ToolResult(parts=parts):
            return sum(map(_characters, parts))
        case Image():
            return 0
        case _:
            return len(part.text)


def output_tokens(part: OutputPart) -> int:
    """How many tokens a model would have needed for a part of its answer."""
    name = part.name if isinstance(part, ToolCall) else ""
    return len(tokens(name)) + len(tokens(part_text(part)))


def block(index: int, part: OutputPart) -> Iterator[Event]:
    """A whole part as the block number `index`, one delta a token."""
    match part:
        case ToolCall():
            opening: OutputPart = replace(part, arguments="")
        case _:
            opening = replace(part, text="")
    yield BlockStart(index, opening)
    for token in tokens(part_text(part)):
        yield BlockDelta(index, token)
    yield BlockEnd(index, part)


def call_id(request: GenerateRequest, index: int) -> str:
    """An id for a tool call, the same whenever the same request is answered."""
    return "call_" + hashlib.sha256(f"{request.id}/{index}".encode()).hexdigest()[:24]


def holds_result(message: Message) -> bool:
    """Whether a message brings a tool's result."""
    return any(isinstance(part, ToolResult) for part in message.parts)


def last_user_text(request: GenerateRequest) -> str:
    """What the user wrote last, empty if nothing."""
    for message in reversed(request.messages):
        if message.role == "user":
            return "".join(part.text for part in message.parts if isinstance(part, Text))
    return ""


def _part_tokens(part: Part) -> list[str]:
    match part:
        case Text(text) | Reasoning(text):
            return tokens(text)
        case Image():
            return ["<image>"] * IMAGE_TOKENS
        case ToolCall(name=name, arguments=arguments):
            return [*tokens(name), *tokens(arguments)]
        case ToolResult(parts=parts):
            return [token for inner in parts for token in _part_tokens(inner)]
        case _:
            assert_never(part)
