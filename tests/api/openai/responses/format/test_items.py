"""Items of the Responses API: what the model reads of them, and how they are kept."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.conversation_bodies import new_items
from mlxd.api.openai.responses.format.messages import SUMMARY
from mlxd.api.openai.tools import custom_arguments
from mlxd.api.wire.opaque_text import seal
from mlxd.errors import ItemNotFound
from mlxd.events import BlockDelta, BlockEnd, BlockStart, Event, part_text
from mlxd.messages import (
    Image,
    Message,
    OutputPart,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from tests.api.responses import (
    CUSTOM,
    SPACE,
    Json,
    answered,
    bodies,
    call,
    items,
    output_of,
    parsed,
    result,
    said,
    user,
)
from tests.api.support import PNG, PNG_URL
from tests.scripts import STARTED, finished

HELLO = Message("user", (Text("Hello"),))
NAMED = Message("assistant", (ToolCall("call_0", "files__open", "{}"),))
PICTURE = {"type": "input_image", "image_url": PNG_URL, "detail": "high"}
LEFT_OUT = Text("[image left out: this model reads text only]")
OWN, FOREIGN = seal("Hm."), base64.b64encode(b"something of others").decode()


def message(role: Role, *parts: Part) -> Message:
    return Message(role, parts)


SAID: list[tuple[list[Json], tuple[Message, ...]]] = [
    ([user("Hello")], (HELLO,)),
    ([{"type": "message", **user("Hello"), "id": "msg_1", "status": None}], (HELLO,)),
    ([{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}], (HELLO,)),
    ([{"role": "user", "content": [{"type": "text", "text": "Hello"}]}], (HELLO,)),
    ([user("")], (message("user"),)),
    ([{"role": "user", "content": None}], (message("user"),)),
    (
        [{"role": "developer", "content": "A"}, user("Hello"), {"role": "system", "content": "B"}],
        (message("system", Text("A")), HELLO, message("system", Text("B"))),
    ),
    (
        [{"role": "developer", "content": "A"}, {"role": "developer", "content": "B"}],
        (message("system", Text("A")), message("system", Text("B"))),
    ),
    (
        [
            user("Hello"),
            {
                "type": "message",
                "role": "assistant",
                "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": None},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
        ],
        (HELLO, message("assistant", Text("Hi"), Text("No."))),
    ),
    ([user("Hello"), {"role": "assistant", "content": ""}], (HELLO,)),
    (
        [{"role": "user", "content": [{"type": "input_text", "text": "Look"}, PICTURE]}],
        (message("user", Text("Look"), Image(PNG, "image/png", "input.0.content.1")),),
    ),
    (
        [
            {
                "role": "user",
                "content": [{"type": "input_file", "filename": "a.txt", "file_data": "SGk="}],
            }
        ],
        (message("user", Text('<file name="a.txt">\nHi\n</file>')),),
    ),
    (
        [call("f", 1), call("g", 2), result("A", 1), result([PICTURE], 2)],
        (
            message("assistant", ToolCall("call_1", "f", "{}"), ToolCall("call_2", "g", "{}")),
            message("tool", ToolResult("call_1", (Text("A"),))),
            message("tool", ToolResult("call_2", (LEFT_OUT,))),
        ),
    ),
    (
        [
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
            {"role": "assistant", "content": "Let me see."},
            call("f", status="completed"),
        ],
        (message("assistant", Text("Let me see."), ToolCall("call_0", "f", "{}")),),
    ),
    ([call("f", arguments={"a": 1})], (message("assistant", ToolCall("call_0", "f", '{"a":1}')),)),
    ([call("f", arguments=None)], (message("assistant", ToolCall("call_0", "f", "")),)),
    ([call("f", arguments="{bro")], (message("assistant", ToolCall("call_0", "f", "{bro")),)),
    ([call("open", namespace="files")], (NAMED,)),
    ([result(None)], (message("tool", ToolResult("call_0", ())),)),
    (
        [
            {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "1"},
            {"type": "custom_tool_call_output", "call_id": "c", "output": "2"},
        ],
        (
            message("assistant", ToolCall("c", "run", '{"input":"1"}')),
            message("tool", ToolResult("c", (Text("2"),))),
        ),
    ),
    (
        [
            {
                "type": "local_shell_call",
                "id": "ls_1",
                "call_id": "c",
                "action": {"type": "exec", "command": ["ls"]},
            },
            {"type": "local_shell_call_output", "id": "c", "output": "a.txt"},
        ],
        (
            message("assistant", ToolCall("c", "local_shell", '{"type":"exec","command":["ls"]}')),
            message("tool", ToolResult("c", (Text("a.txt"),))),
        ),
    ),
    (
        [
            {"type": "shell_call", "call_id": "c", "action": {}},
            {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "a"}]},
        ],
        (
            message("assistant", ToolCall("c", "shell", "{}")),
            message("tool", ToolResult("c", (Text('[{"stdout":"a"}]'),))),
        ),
    ),
    (
        [user("Hello"), {"type": "compaction", "encrypted_content": seal("They met.")}],
        (HELLO, message("user", Text(SUMMARY + "They met."))),
    ),
    ([user("Hello"), {"type": "compaction", "encrypted_content": FOREIGN}], (HELLO,)),
    ([user("Hello"), {"type": "web_search_call", "id": "ws_1", "status": "x"}], (HELLO,)),
    ([user("Hello"), {"type": "of_next_year", "content": 5}], (HELLO,)),
]


@pytest.mark.parametrize(("values", "expected"), SAID, ids=range(len(SAID)))
def test_items_say_the_same_in_no_dialect(
    values: list[Json], expected: tuple[Message, ...]
) -> None:
    assert said(*values) == expected


@pytest.mark.parametrize(("values", "expected"), SAID, ids=range(len(SAID)))
def test_items_that_were_kept_say_what_they_said_at_first(
    values: list[Json], expected: tuple[Message, ...]
) -> None:
    seen = Image(PNG, "image/png", "input.0.content.1")
    passed = tuple(
        replace(each, parts=tuple(LEFT_OUT if part == seen else part for part in each.parts))
        for each in expected
    )
    assert said(user("Hello"), past=items(*values)) == (*passed, HELLO)


@pytest.mark.parametrize(
    ("fields", "thought"),
    [
        ({"content": [{"type": "reasoning_text", "text": "Hm."}]}, "Hm."),
        ({"content": None, "encrypted_content": OWN}, "Hm."),
        ({"summary": [{"type": "summary_text", "text": "Hm."}]}, "Hm."),
        ({"summary": [{"type": "summary_text", "text": "S"}], "encrypted_content": OWN}, "Hm."),
        ({"summary": [{"type": "summary_text", "text": "S"}], "encrypted_content": FOREIGN}, "S"),
        ({"encrypted_content": FOREIGN}, None),
        ({"encrypted_content": "not even Base64!"}, None),
        ({}, None),
    ],
)
def test_thinking_is_read_from_wherever_it_is(fields: Json, thought: str | None) -> None:
    found = said(user("Hello"), {"type": "reasoning", "summary": [], **fields}, call("f"))
    parts = (Reasoning(thought),) if thought else ()
    assert found[1] == message("assistant", *parts, ToolCall("call_0", "f", "{}"))


def test_instructions_go_in_front_and_are_not_inherited() -> None:
    past = items({"role": "developer", "content": "Old."}, user("Hello"))
    found = said(user("Hello"), past=past, instructions="New.")
    assert found == (
        message("system", Text("New.")),
        message("system", Text("Old.")),
        HELLO,
        HELLO,
    )


def test_what_is_left_out_is_named() -> None:
    ignored = answered(
        input=[
            user("Hello"),
            {"type": "web_search_call", "id": "ws_1"},
            {"type": "compaction", "encrypted_content": FOREIGN},
            {**user("Hello"), "colour": "blue"},
        ]
    ).ignored
    assert set(ignored) == {"input.web_search_call", "input.compaction", "input.colour"}


def test_an_item_that_is_mentioned_stands_where_it_is_mentioned() -> None:
    (known,) = items({**user("Hello"), "id": "msg_known"})
    call = parsed(input=[user("A"), {"id": "msg_known"}, user("B")])
    assert call.references == ("msg_known",)
    answer = call.resolve(Past(referenced={"msg_known": known}))
    assert answer.requests[0].messages == (
        message("user", Text("A")),
        HELLO,
        message("user", Text("B")),
    )
    assert [body.get("content") for body in bodies(answer.input)][1] == [
        {"type": "input_text", "text": "Hello"}
    ]
    with pytest.raises(ItemNotFound, match="msg_known"):
        call.resolve(Past())


def test_items_are_kept_in_the_shape_in_which_they_are_given_back() -> None:
    kept = items(user("Hello"), {"role": "assistant", "content": "Hi"}, call("f"), result(None))
    shapes: list[Json] = [{**body, "id": "x"} for body in bodies(kept)]
    done = {"id": "x", "status": "completed"}
    text = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    asked = [{"type": "input_text", "text": "Hello"}]
    assert shapes == [
        {**done, "type": "message", "role": "user", "content": asked},
        {**done, "type": "message", "role": "assistant", "content": [text]},
        {**done, **call("f")},
        {**done, **result("")},
    ]


def test_an_id_of_the_callers_is_kept() -> None:
    kept = items({**user("Hello"), "id": "msg_mine"}, {**user("Hello"), "id": "x" * 300})
    assert kept[0].id == "msg_mine"
    assert kept[1].id != "x" * 300
    assert [body["id"] for body in bodies(kept)] == [item.id for item in kept]


def test_the_same_input_sent_again_is_the_same_items() -> None:
    values = [user("Hello"), call("f"), result("1"), user("Hello")]
    first, again = parsed(input=values).input, parsed(input=[*values, user("More")]).input
    assert again[:4] == first
    assert len({item.id for item in first}) == 4
    assert [item.id.partition("_")[0] for item in first] == ["msg", "fc", "fco", "msg"]


def test_the_same_words_later_in_a_conversation_are_another_item() -> None:
    ids = {
        parsed(**fields).input[0].id
        for fields in (
            {},
            {"previous_response_id": "resp_1"},
            {"previous_response_id": "resp_2"},
            {"conversation": "conv_1"},
        )
    }
    assert len(ids) == 4
    first, second = (new_items([user("Hello")], {})[0].id for _ in range(2))
    assert first != second


WORDS = st.text(min_size=1, max_size=20)
ARGUMENTS = st.dictionaries(WORDS, WORDS, max_size=2).map(json.dumps)
PARTS: st.SearchStrategy[OutputPart] = st.one_of(
    WORDS.map(Text),
    WORDS.map(Reasoning),
    st.builds(ToolCall, WORDS, st.sampled_from(("get_weather", "files__open")), ARGUMENTS),
    st.builds(ToolCall, WORDS, st.sampled_from(("run", "files__sed")), WORDS.map(custom_arguments)),
)
WISHES: list[Json] = [
    {},
    {"reasoning": {"summary": "auto"}},
    {"reasoning": {"effort": "none"}, "include": ["reasoning.encrypted_content"]},
]


def script(parts: list[OutputPart]) -> list[Event]:
    events: list[Event] = [STARTED]
    for index, part in enumerate(parts):
        opened: Any = type(part)
        empty = opened(part.id, part.name, "") if isinstance(part, ToolCall) else opened("")
        text = part_text(part)
        events += [BlockStart(index, empty), BlockDelta(index, text), BlockEnd(index, part)]
    return [*events, finished()]


@given(st.lists(PARTS, min_size=1, max_size=5), st.sampled_from(WISHES), st.booleans())
def test_an_answer_sent_back_is_the_turn_that_the_model_wrote(
    parts: list[OutputPart], wish: Json, bare: bool
) -> None:
    output = output_of(script(parts), tools=[CUSTOM, SPACE], **wish)
    if bare:
        dropped = ("id", "status", "logprobs", "annotations")
        output = [{key: item[key] for key in item if key not in dropped} for item in output]
    assert said(user("Hello"), *output, user("Hello")) == (
        HELLO,
        Message("assistant", tuple(parts)),
        HELLO,
    )


@given(st.lists(PARTS, min_size=1, max_size=3), st.sampled_from(WISHES))
def test_a_stored_turn_and_one_sent_along_are_the_same_prompt(
    parts: list[OutputPart], wish: Json
) -> None:
    output = output_of(script(parts), tools=[CUSTOM, SPACE], **wish)
    told = [user("Hello"), *output]
    again = said(user("More"), past=items(*told))
    assert again == said(*told, user("More"))
    assert again[:1] == said(*told[:1])
