"""Conversations and their items, over HTTP."""

import asyncio

import pytest

from tests.api.stateful import CONVERSATIONS, RESPONSES, Json, asked, got, serving
from tests.api.support import Front, error_of


async def test_a_conversation_grows_by_answers_that_are_not_stored() -> None:
    server = serving()
    name = (await asked(server, CONVERSATIONS))["id"]
    made = await asked(server, conversation=name, store=False)
    assert made["conversation"] == {"id": name}
    await got(server, f"{RESPONSES}/{made['id']}", 404)
    listed = await got(server, f"{CONVERSATIONS}/{name}/items")
    assert [item["role"] for item in listed["data"]] == ["assistant", "user"]
    await asked(server, f"{RESPONSES}/compact", model="demo", conversation=name)
    assert len((await got(server, f"{CONVERSATIONS}/{name}/items"))["data"]) == 2


async def test_two_answers_in_one_conversation_at_once_are_both_kept() -> None:
    server = serving()
    conversation = await asked(server, CONVERSATIONS, metadata={"topic": "x"})
    name = conversation["id"]
    await asyncio.gather(*(asked(server, input=text, conversation=name) for text in "AB"))
    listed = await got(server, f"{CONVERSATIONS}/{name}/items?order=asc")
    roles = [item["role"] for item in listed["data"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert {each.source.conversation for each in server.heard()} == {name}


async def test_a_conversation_is_made_changed_and_forgotten() -> None:
    server = serving()
    made = await asked(server, CONVERSATIONS, metadata={"a": "1"})
    path = f"{CONVERSATIONS}/{made['id']}"
    assert made == {"id": made["id"], "object": "conversation"} | {
        key: made[key] for key in ("created_at", "metadata")
    }
    changed = await asked(server, path, metadata={"b": "2"})
    assert (await got(server, path))["metadata"] == changed["metadata"] == {"b": "2"}
    gone = await (await server.client.delete(path)).get_json()
    assert gone == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    await got(server, path, 404)
    refused = await server.post(
        {"model": "demo", "input": "x", "conversation": made["id"]}, RESPONSES
    )
    assert refused.status_code == 404


async def test_an_empty_body_makes_a_conversation() -> None:
    response = await serving().send(b"", CONVERSATIONS)
    assert (await response.get_json())["metadata"] == {}


async def test_items_are_added_read_and_taken_out() -> None:
    server = serving()
    made = await asked(server, CONVERSATIONS)
    path = f"{CONVERSATIONS}/{made['id']}/items"
    added = await asked(server, path, items=[{"role": "user", "content": text} for text in "AB"])
    first, second = added["data"]
    assert (added["first_id"], added["last_id"]) == (first["id"], second["id"])
    assert await got(server, f"{path}/{first['id']}") == first
    left = await (await server.client.delete(f"{path}/{first['id']}")).get_json()
    assert left["object"] == "conversation"
    await got(server, f"{path}/{first['id']}", 404)
    assert [each["id"] for each in (await got(server, path))["data"]] == [second["id"]]


async def test_an_item_that_is_referred_to_becomes_part_of_a_conversation() -> None:
    server = serving()
    answer = (await asked(server))["output"][0]
    made = await asked(server, CONVERSATIONS, items=[{"id": answer["id"]}])
    listed = await got(server, f"{CONVERSATIONS}/{made['id']}/items")
    assert listed["data"] == [answer]
    refused = await server.post({"items": [{"id": "msg_none"}]}, CONVERSATIONS)
    assert refused.status_code == 404


async def test_an_item_that_comes_twice_is_listed_once_and_pages_end() -> None:
    server = serving()
    same = {"id": "msg_same", "role": "user", "content": "x"}
    made = await asked(server, CONVERSATIONS, items=[same, {**same, "id": "msg_other"}, same])
    path = f"{CONVERSATIONS}/{made['id']}/items"
    for order in ("asc", "desc"):
        assert sorted(await pages(server, path, 1, order, total=2)) == ["msg_other", "msg_same"]


async def test_fields_of_a_conversation_that_nobody_knows_are_named() -> None:
    response = await serving().post({"metadata": {}, "topic": "x"}, CONVERSATIONS)
    assert response.headers["x-mlxd-ignored"] == "topic"


async def pages(server: Front, path: str, limit: int, order: str, *, total: int) -> list[str]:
    """The ids of a whole list of `total`, read page by page; no page more than there are items."""
    found: list[str] = []
    after = ""
    while True:
        page = await got(server, f"{path}?limit={limit}&order={order}{after}")
        found += [item["id"] for item in page["data"]]
        assert page["has_more"] == (len(found) < total)
        if not page["has_more"]:
            return found
        assert len(page["data"]) == limit
        after = f"&after={page['last_id']}"


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_pages_put_together_are_the_list(limit: int) -> None:
    server = serving()
    made = await asked(server, CONVERSATIONS)
    path = f"{CONVERSATIONS}/{made['id']}/items"
    values = [{"role": "user", "content": str(number)} for number in range(5)]
    added = [item["id"] for item in (await asked(server, path, items=values))["data"]]
    assert await pages(server, path, limit, "asc", total=5) == added
    assert await pages(server, path, limit, "desc", total=5) == added[::-1]


WRONG: list[tuple[Json, str]] = [
    ({"metadata": "x"}, "metadata"),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ({"metadata": {"k" * 65: ""}}, "metadata"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"items": [{"role": "user", "content": "x"}] * 21}, "items"),
    ({"items": "x"}, "items"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG)
async def test_a_wrong_conversation_is_refused_by_name(fields: Json, param: str) -> None:
    refused = await serving().post(fields, CONVERSATIONS)
    assert refused.status_code == 400
    assert (await error_of(refused))["param"] == param
