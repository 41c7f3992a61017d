"""An agent that compacts its history goes on from a prompt that begins as its earlier ones did."""

from typing import Any

from mlxd.messages import Message
from tests.api.responses import FUNCTION, user
from tests.api.stateful import RESPONSES, asked, serving
from tests.api.support import Front

Json = dict[str, Any]
RULES: Json = {"role": "developer", "content": "Answer in one line."}
SETUP: Json = {"instructions": "You help with code.", "tools": [FUNCTION]}
TALK = [user("Read a.txt"), {"role": "assistant", "content": "It is empty."}, user("Then b.txt")]


async def compacted(server: Front, history: list[Json]) -> list[Json]:
    """What is left of a history."""
    fields = {"model": "demo", "input": history, "instructions": SETUP["instructions"]}
    made = await asked(server, f"{RESPONSES}/compact", **fields)
    return list(made["output"])


def opening(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What stands in front of the talk."""
    return tuple(message for message in messages if message.role == "system")


async def test_the_turn_after_a_compaction_begins_as_the_one_before() -> None:
    server = serving()
    await asked(server, input=[RULES, *TALK], **SETUP)
    history = [*await compacted(server, [RULES, *TALK]), user("Go on.")]
    await asked(server, input=history, **SETUP)
    before, asking, after = server.heard()
    assert len(opening(before.messages)) == 2
    assert after.tools == before.tools
    for request in (asking, after):
        assert request.messages[:2] == before.messages[:2] == opening(before.messages)
    assert [message.role for message in after.messages[2:]] == ["user", "user"]


async def test_compacting_the_same_again_gives_the_same_and_costs_the_same_prompt() -> None:
    server = serving()
    outputs = [await compacted(server, [RULES, *TALK]) for _ in range(2)]
    # The items are the same to the byte but for the compaction's own id, which no model sees.
    assert [each.pop("id") for each in (outputs[0][-1], outputs[1][-1])]
    assert outputs[0] == outputs[1]
    first, second = server.heard()
    assert first.messages == second.messages


async def test_a_compaction_of_a_compaction_keeps_the_rules_once() -> None:
    server = serving()
    history = await compacted(server, [RULES, *TALK])
    for turn in range(3):
        history = await compacted(server, [*history, user(f"Turn {turn}")])
        assert [item["type"] for item in history] == ["message", "compaction"]
    openings = {opening(request.messages) for request in server.heard()}
    assert len(openings) == 1
