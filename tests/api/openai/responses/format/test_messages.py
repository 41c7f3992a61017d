"""Histories that are too long for the window, and those that a summary stands for."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mlxd.api.openai.responses.format.calls import Past
from mlxd.api.openai.responses.format.messages import SUMMARY
from mlxd.api.openai.responses.format.response_object import counted
from mlxd.api.wire.oldest_part import shortened
from mlxd.messages import Message, Reasoning, Text, ToolCall, ToolResult
from tests.api.responses import RESPONSE, Json, answered, call, compact, result, said, user
from tests.api.support import NOW
from tests.scripts import STARTED, finished, reasoning, text

SYSTEM = Message("system", (Text("Be brief."),))
ASKED = Message("user", (Text("What now?"),))


def turn(number: int) -> tuple[Message, ...]:
    """A question that took a tool to answer."""
    name = f"call_{number}"
    return (
        Message("user", (Text("q" * 100),)),
        Message("assistant", (Reasoning("r" * 50), ToolCall(name, "f", "{}"))),
        Message("tool", (ToolResult(name, (Text("x" * 100),)),)),
        Message("assistant", (Text("a" * 100),)),
    )


def test_the_oldest_is_left_out_first() -> None:
    messages = (SYSTEM, *turn(0), *turn(1), ASKED)
    assert shortened(messages, 0.9) == (SYSTEM, *turn(0)[1:], *turn(1), ASKED)
    assert shortened(messages, 0.52) == (SYSTEM, *turn(1), ASKED)


def test_what_has_to_stay_stays() -> None:
    working = (ASKED, *turn(1)[1:3])
    assert shortened((SYSTEM, *turn(0), *working), 0.0) == (SYSTEM, *working)
    assert shortened((SYSTEM, *working), 0.0) is None
    assert shortened((ASKED,), 0.1) is None
    assert shortened((SYSTEM, *turn(0), ASKED), 1.0) is None


KINDS = st.lists(st.sampled_from(("system", "user", "call", "answer", "stray")), min_size=1)


@given(KINDS, st.floats(0, 1))
def test_no_result_is_left_without_its_call(kinds: list[str], share: float) -> None:
    messages: list[Message] = []
    for number, kind in enumerate(kinds):
        match kind:
            case "call":
                messages += turn(number)[1:3]
            case "answer":
                messages.append(turn(number)[3])
            case "stray":
                messages.append(Message("tool", (ToolResult("gone", ()),)))
            case _:
                messages.append(SYSTEM if kind == "system" else turn(number)[0])
    kept = shortened(messages, share)
    if kept is None:
        return
    assert len(kept) < len(messages)
    called = {p.id for m in kept for p in m.parts if isinstance(p, ToolCall)} | {"gone"}
    assert {p.call_id for m in kept for p in m.parts if isinstance(p, ToolResult)} <= called
    assert kept.count(SYSTEM) == messages.count(SYSTEM)
    assert kept[-1] == messages[-1]
    if "user" in kinds:
        assert turn(0)[0] in kept


def test_only_who_allows_it_gets_a_shorter_history() -> None:
    values: list[Json] = [user("q" * 1000), {"role": "assistant", "content": "a"}, user("Now?")]
    assert answered(input=values).shorter(1000, 500) is None
    answer = answered(input=values, truncation="auto")
    shorter = answer.shorter(1000, 500)
    assert shorter is not None
    assert shorter.renderer is answer.renderer
    assert shorter.input == answer.input
    assert [part for message in shorter.requests[0].messages for part in message.parts] == [
        Text("a"),
        Text("Now?"),
    ]
    last = shorter.shorter(900, 500)
    assert last is not None
    assert len(last.requests[0].messages) == 1
    assert last.shorter(800, 500) is None


def compacted(*values: Json, **fields: object) -> Json:
    renderer = compact(input=list(values), **fields).resolve(Past()).renderer
    script = (STARTED, *reasoning(0, "Hm."), *text(1, " They met.", " \n"), finished())
    for event in script:
        list(renderer.frames(0, event))
    body: Json = json.loads(
        json.dumps(renderer.snapshot(), default=lambda raw: json.loads(bytes(raw)))
    )
    return body


def test_a_compaction_is_a_summary_that_the_model_understands_later() -> None:
    body = compacted(user("Hi, I am Ann."), {"role": "assistant", "content": "Hello Ann."})
    assert (body["id"], body["object"], body["created_at"]) == (
        RESPONSE,
        "response.compaction",
        NOW,
    )
    assert body["usage"]["input_tokens"] == 12
    (item,) = body["output"]
    assert (item["type"], item["id"].partition("_")[0]) == ("compaction", "cmp")
    assert "They met" not in item["encrypted_content"]
    assert said(*body["output"], user("Who am I?")) == (
        Message("user", (Text(f"{SUMMARY}They met."),)),
        Message("user", (Text("Who am I?"),)),
    )


def test_the_systems_words_outlast_a_compaction() -> None:
    body = compacted(
        {"role": "developer", "content": "Be brief."}, user("Hi"), call("f"), result("1")
    )
    assert [item["type"] for item in body["output"]] == ["message", "compaction"]
    assert said(*body["output"])[0] == SYSTEM


def test_a_compaction_asks_the_model_after_the_whole_history() -> None:
    summary = compact(input=[user("Hi")], instructions="Be brief.", colour="blue")
    assert (summary.store, summary.stream) == (False, False)
    call = summary.resolve(Past())
    assert call.ignored == ("colour",)
    (request,) = call.requests
    system, said_first, asked = request.messages
    assert (system, said_first.parts) == (SYSTEM, (Text("Hi"),))
    assert asked.role == "user"
    assert request.tools == ()


def test_tokens_of_a_prompt_are_counted_with_everything_in_it() -> None:
    (request,) = answered(input=[user("Hi")], instructions="Be brief.").requests
    assert len(request.messages) == 2
    assert counted(7) == {"object": "response.input_tokens", "input_tokens": 7}
