"""Turns of a coding agent in Anthropic's format: each prompt begins with the whole one before."""

from typing import Any

import pytest

from mlxd.api.anthropic.dialect import Anthropic
from mlxd.api.dialect import Caller
from mlxd.api.wire.opaque_text import seal
from tests.engine.prompt.support import build_with, read
from tests.templates import IN_PLACE

pytestmark = pytest.mark.mlx

Json = dict[str, Any]

CACHED = {"cache_control": {"type": "ephemeral"}}
BILLING = "x-anthropic-billing-header: cc_version=2.1.330.{}; cc_entrypoint=sdk-cli; cch={};"
IDENTITY = "You are a coding agent, running within an SDK."
GUIDE = "# System\n - Text outside of tool use is shown to the user.\n" * 8
ENVIRONMENT = "# Environment\n - Working directory: /home/ann\n - Today is Monday.\n" * 8
QUESTION = ["<system-reminder>\nBe brief.\n</system-reminder>", "Rules: none.", "List the files."]
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}}


def text(words: str, **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


def tool(name: str, **more: Any) -> Json:
    return {"name": name, "description": f"Runs {name}.", "input_schema": SCHEMA, **more}


def request(messages: list[Json], turn: int, *, found: bool = False) -> Json:
    """A body as the agent sends it; what a turn changes besides the messages depends on `turn`."""
    fetch = [tool("Fetch", defer_loading=True)] if found else []
    return {
        "model": "tiny",
        "system": [
            text(BILLING.format(f"{turn:03x}", f"{turn * 7:05x}")),
            text(IDENTITY, **CACHED),
            text(GUIDE, **(CACHED if turn == 1 else {})),
        ],
        "messages": messages,
        "tools": [
            *(tool("Bash"), tool("DeferredToolPlaceholder", defer_loading=True), *fetch),
            *(tool("Read"), tool("ToolSearch")),
        ],
        "metadata": {"user_id": '{"session_id":"5c1d"}'},
        "max_tokens": 32_000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": True,
    }


def question(*, first: bool) -> list[Json]:
    """The user's words and what follows them: as blocks at first, as a string later."""
    marked = [*map(text, QUESTION[:-1]), text(QUESTION[-1], **(CACHED if first else {}))]
    environment: Any = [text(ENVIRONMENT)] if first else ENVIRONMENT
    return [{"role": "user", "content": marked}, {"role": "system", "content": environment}]


def call(number: int, name: str) -> Json:
    """What the agent sends back of an answer: thinking without its text, and a call."""
    thought = {"type": "thinking", "thinking": "", "signature": seal(f"I need {name}.")}
    use = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {"command": "ls"}}
    return {"role": "assistant", "content": [thought, use]}


def result(number: int, content: Any, *, last: bool) -> Json:
    mark = CACHED if last else {}
    block = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": content, **mark}
    return {"role": "user", "content": [block]}


REFERENCE = [{"type": "tool_reference", "tool_name": "Fetch"}]
TURNS = [
    request(question(first=True), 1),
    request([*question(first=False), call(1, "Bash"), result(1, "a.txt\nb.txt", last=True)], 2),
    request(
        [
            *question(first=False),
            *(call(1, "Bash"), result(1, [text("a.txt\nb.txt")], last=False)),
            *(call(2, "ToolSearch"), result(2, REFERENCE, last=True)),
        ],
        3,
        found=True,
    ),
    request(
        [
            *question(first=False),
            *(call(1, "Bash"), result(1, "a.txt\nb.txt", last=False)),
            *(call(2, "ToolSearch"), result(2, REFERENCE, last=False)),
            *(call(3, "Fetch"), result(3, "<html>", last=True)),
        ],
        4,
        found=True,
    ),
]


def prompts(template: str) -> list[list[int]]:
    builder = build_with(template, context_length=100_000)
    calls = [Anthropic().parse(body, Caller("req_1")) for body in TURNS]
    return [builder.build(parsed.requests[0]).tokens for parsed in calls]


@pytest.mark.parametrize("template", IN_PLACE)
def test_each_turn_shares_the_whole_prompt_of_the_turn_before(template: str) -> None:
    turns = prompts(template)
    for earlier, later in zip(turns, turns[1:], strict=False):
        assert read(template, later[: len(earlier)]) == read(template, earlier)
        assert later[: len(earlier)] == earlier
        assert len(later) > len(earlier)


def test_another_session_shares_everything_before_its_question() -> None:
    builder = build_with("tools", context_length=100_000)
    other = question(first=True)
    other[0]["content"][2]["text"] = "Something else."
    bodies = [request(question(first=True), 1), request(other, 99)]
    one, two = (
        read("tools", builder.build(Anthropic().parse(body, Caller("r")).requests[0]).tokens)
        for body in bodies
    )
    assert "billing" not in one
    assert one.partition("List the files.")[0] == two.partition("Something else.")[0]


def test_a_tool_that_was_found_is_read_where_it_was_found() -> None:
    builder = build_with("tools", context_length=100_000)
    parsed = [Anthropic().parse(body, Caller("r")).requests[0] for body in TURNS[1:3]]
    before, after = (read("tools", builder.build(each).tokens) for each in parsed)
    assert "Fetch" not in before
    assert "DeferredToolPlaceholder" not in after
    assert after.count("Runs Fetch.") == 1
    assert after.index("Runs Fetch.") > after.index("List the files.")
