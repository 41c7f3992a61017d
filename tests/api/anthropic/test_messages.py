"""The messages of Messages requests, in all the forms that they come in."""

import base64
from typing import Any

import pytest

from mlxd.api.wire.opaque_text import seal
from mlxd.messages import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from tests.api.messages import CACHED, PNG_SOURCE, assistant, heard, said, text, user
from tests.api.support import HELLO, PNG


def document(source: Any, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


FOUND = '<search_result source="https://example.com" title="Ex">\na\nb\n</search_result>'
PLAIN = {"type": "text", "media_type": "text/plain", "data": "The text."}
LEFT_OUT = Text("[image left out: this model reads text only]")
ENCODED = {
    "type": "base64",
    "media_type": "text/markdown; charset=utf-8",
    "data": base64.b64encode("# \u00dcber".encode()).decode(),
}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("Hi", (Text("Hi"),)),
        ([text("Hi")], (Text("Hi"),)),
        ([text("Hi", cache_control=CACHED, citations=None)], (Text("Hi"),)),
        ([text(""), text("One"), text("two")], (Text("One"), Text("two"))),
        (
            [{"type": "image", "source": PNG_SOURCE}],
            (Image(PNG, "image/png", "messages.0.content.0"),),
        ),
        (
            [{"type": "image", "source": {**PNG_SOURCE, "media_type": "image/jpeg"}}],
            (Image(PNG, "image/png", "messages.0.content.0"),),
        ),
        ([document(PLAIN)], (Text("<document>\nThe text.\n</document>"),)),
        (
            [document(ENCODED, title='"A" & B', context="From a friend.")],
            (
                Text(
                    '<document title="&quot;A&quot; &amp; B">\n<context>\nFrom a friend.\n'
                    "</context>\n# \u00dcber\n</document>"
                ),
            ),
        ),
        (
            [document({"type": "content", "content": "Said."})],
            (Text("<document>\nSaid.\n</document>"),),
        ),
        (
            [
                document(
                    {
                        "type": "content",
                        "content": [text("a"), {"type": "image", "source": PNG_SOURCE}, text("b")],
                    }
                )
            ],
            (
                Text("<document>\na\nb\n</document>"),
                Image(PNG, "image/png", "messages.0.content.0.source.content.1"),
            ),
        ),
        (
            [
                {
                    "type": "search_result",
                    "source": "https://example.com",
                    "title": "Ex",
                    "content": [text("a"), text("b")],
                    "citations": {"enabled": False},
                }
            ],
            (Text(FOUND),),
        ),
        ([{"type": "compaction", "content": "Before."}], (Text("Before."),)),
        ([{"type": "compaction", "content": None}, text("Go on.")], (Text("Go on."),)),
    ],
)
async def test_content_means_the_same_however_it_is_written(
    content: Any, parts: tuple[Part, ...]
) -> None:
    assert await said(user(content)) == (Message("user", parts),)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "thinking", "thinking": "Hm", "signature": "abc"}, (Reasoning("Hm"),)),
        ({"type": "thinking", "thinking": "Hm"}, (Reasoning("Hm"),)),
        ({"type": "thinking", "thinking": "", "signature": seal("\u00fc")}, (Reasoning("\u00fc"),)),
        ({"type": "thinking", "thinking": "", "signature": seal()}, ()),
        ({"type": "thinking", "thinking": "", "signature": "EqQBCkYIBxgCKkD/+w=="}, ()),
        ({"type": "thinking", "thinking": "", "signature": "no base64"}, ()),
        ({"type": "redacted_thinking", "data": "EqQBCkYIBxgCKkD/+w=="}, ()),
        ({"type": "redacted_thinking", "data": seal("Hm")}, (Reasoning("Hm"),)),
        (
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": [1], "a": None}},
            (ToolCall("toolu_1", "f", '{"b":[1],"a":null}'),),
        ),
        (
            {"type": "tool_use", "id": "x", "name": "f", "input": {}, "caller": {"type": "direct"}},
            (ToolCall("x", "f", "{}"),),
        ),
        (
            {"type": "tool_use", "id": "x", "name": "f", "input": {"INVALID_JSON": '{"a'}},
            (ToolCall("x", "f", '{"a'),),
        ),
        (
            {"type": "tool_use", "id": "x", "name": "f", "input": {"INVALID_JSON": 1}},
            (ToolCall("x", "f", '{"INVALID_JSON":1}'),),
        ),
    ],
)
async def test_what_the_model_said_comes_back_without_its_marks(
    block: dict[str, Any], parts: tuple[Part, ...]
) -> None:
    _, answer, _ = await said(*HELLO, assistant(block, text("So.")), user("Go on."))
    assert answer == Message("assistant", (*parts, Text("So.")))


@pytest.mark.parametrize(
    ("block", "result"),
    [
        ({"content": "42"}, ToolResult("x", (Text("42"),))),
        ({"content": [text("42", cache_control=CACHED)]}, ToolResult("x", (Text("42"),))),
        ({"content": "no", "is_error": True}, ToolResult("x", (Text("no"),), is_error=True)),
        ({"content": None, "is_error": None}, ToolResult("x", ())),
        ({}, ToolResult("x", ())),
        (
            {"content": [{"type": "image", "source": PNG_SOURCE}, document(PLAIN)]},
            ToolResult("x", (LEFT_OUT, Text("<document>\nThe text.\n</document>"))),
        ),
    ],
)
async def test_results_of_tools_are_strings_or_blocks(
    block: dict[str, Any], result: ToolResult
) -> None:
    call = {"type": "tool_use", "id": "x", "name": "f", "input": {}}
    messages = await said(
        *HELLO, assistant(call), user({"type": "tool_result", "tool_use_id": "x", **block})
    )
    assert messages[2:] == (Message("tool", (result,)),)


async def test_results_come_before_what_the_user_says_with_them() -> None:
    calls = [{"type": "tool_use", "id": each, "name": "f", "input": {}} for each in "xy"]
    results = [{"type": "tool_result", "tool_use_id": each, "content": each} for each in "xy"]
    messages = await said(
        *HELLO, assistant(*calls), user(results[0], text("And?"), results[1]), user("Well?")
    )
    assert messages[2:] == (
        Message("tool", (ToolResult("x", (Text("x"),)), ToolResult("y", (Text("y"),)))),
        Message("user", (Text("And?"), Text("Well?"))),
    )


async def test_neighbours_of_one_role_are_one_message_and_empty_ones_none() -> None:
    messages = await said(
        user("One"),
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None},
        user(text("two"), text("")),
        assistant({"type": "redacted_thinking", "data": "x"}),
        assistant(text("three")),
        assistant(text("four")),
    )
    assert messages == (
        Message("user", (Text("One"), Text("two"))),
        Message("assistant", (Text("three"), Text("four"))),
    )


async def test_an_answer_that_was_begun_is_the_last_message() -> None:
    messages = await said(*HELLO, assistant(text("The answer is (")))
    assert messages[-1] == Message("assistant", (Text("The answer is ("),))


async def test_system_text_in_the_middle_stays_where_it_is() -> None:
    messages = await said(
        *HELLO, {"role": "system", "content": [text("Today is Monday.")]}, user("So?"), system="Hi"
    )
    assert [message.role for message in messages] == ["system", "user", "system", "user"]
    assert messages[2].parts == (Text("Today is Monday."),)


BILLING = "x-anthropic-billing-header: cc_version=2.1.330.83a; cc_entrypoint=sdk-cli;"


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        (None, ()),
        ("", ()),
        ("Be brief.", (Text("Be brief."),)),
        ([text("Be brief.", cache_control=CACHED)], (Text("Be brief."),)),
        ([text(BILLING), text("You are."), text("")], (Text("You are."),)),
        (f"{BILLING}\n\nYou are.", (Text("You are."),)),
        ([text(BILLING)], ()),
        ([text(f"Say {BILLING}")], (Text(f"Say {BILLING}"),)),
    ],
)
async def test_the_system_prompt_is_read_without_what_is_for_billing(
    system: Any, parts: tuple[Part, ...]
) -> None:
    messages = (await heard(system=system)).messages
    assert messages == (*([Message("system", parts)] if parts else []), *messages[-1:])
