"""What a store promises, in a file and in memory alike."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from mlxd.errors import (
    ConversationNotFound,
    ItemNotFound,
    NotStored,
    PreviousNotFound,
    ResponseNotFound,
)
from mlxd.store.conversations import ConversationStore
from mlxd.store.nodes import extend, items_between
from mlxd.store.schema import migrate
from tests.store.support import (
    KINDS,
    ME,
    OTHER,
    Kind,
    item,
    items,
    make,
    names,
    opened,
    response,
    turn,
)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ConversationStore]:
    kind: Kind = request.param
    async with opened(tmp_path, kind) as store:
        yield store


async def test_what_is_put_comes_back_unchanged(store: ConversationStore) -> None:
    put = turn("resp_1", background=True, frames=(b"one", b"two\0\xff"), root="resp_0")
    await store.put_response(put)
    assert await store.response(ME, "resp_1") == put


async def test_a_chain_is_the_history_of_its_last_response(store: ConversationStore) -> None:
    await store.put_response(turn("a"))
    await store.put_response(turn("b", previous="a"))
    assert names(await store.past(ME, previous="b")) == ["a_in", "a_out", "b_in", "b_out"]
    assert names(await store.context(ME, "b")) == ["a_in", "a_out", "b_in"]
    assert await store.past(ME) == ()


async def test_forks_share_their_beginning_and_nothing_else(store: ConversationStore) -> None:
    await store.put_response(turn("a"))
    await store.put_response(turn("b", previous="a"))
    await store.put_response(turn("c", previous="a"))
    assert names(await store.past(ME, previous="b"))[2:] == ["b_in", "b_out"]
    assert names(await store.past(ME, previous="c"))[2:] == ["c_in", "c_out"]


async def test_a_history_that_many_go_on_from_is_stored_once(store: ConversationStore) -> None:
    large = item("large", "x" * 500_000)
    await store.put_response(response("first", input=(large,)))
    before = store.status().bytes
    for number in range(20):
        await store.put_response(turn(f"fork_{number}", previous="first"))
    assert store.status().bytes - before < 100_000
    assert (await store.past(ME, previous="fork_7"))[0] == large


async def test_a_deleted_response_is_gone_and_its_descendants_keep_their_history(
    store: ConversationStore,
) -> None:
    await store.put_response(turn("a"))
    await store.put_response(turn("b", previous="a"))
    await store.delete_response(ME, "a")
    with pytest.raises(ResponseNotFound):
        await store.response(ME, "a")
    with pytest.raises(PreviousNotFound):
        await store.past(ME, previous="a")
    with pytest.raises(PreviousNotFound):
        await store.put_response(turn("c", previous="a"))
    assert names(await store.past(ME, previous="b")) == ["a_in", "a_out", "b_in", "b_out"]
    await store.delete_response(ME, "b")
    assert await store.find_items(ME, ["a_in", "a_out", "b_in", "b_out"]) == {}
    assert store.status().responses == 0


async def test_deleting_twice_is_told(store: ConversationStore) -> None:
    await store.put_response(turn("a"))
    await store.delete_response(ME, "a")
    with pytest.raises(ResponseNotFound):
        await store.delete_response(ME, "a")


async def test_a_response_that_was_deleted_while_it_ran_stays_deleted(
    store: ConversationStore,
) -> None:
    await store.put_response(response("a", "in_progress"))
    await store.delete_response(ME, "a")
    await store.put_response(turn("a"))
    with pytest.raises(ResponseNotFound):
        await store.response(ME, "a")


async def test_an_ended_response_stays_as_it_ended(store: ConversationStore) -> None:
    await store.put_response(response("a", "cancelled", output=items("kept")))
    await store.put_response(turn("a"))
    await store.put_response(response("a", "in_progress"))
    kept = await store.response(ME, "a")
    assert (kept.state, names(kept.output)) == ("cancelled", ["kept"])


async def test_frames_are_added_as_they_come(store: ConversationStore) -> None:
    await store.put_response(response("a", "queued", background=True))
    await store.put_response(response("a", "in_progress", background=True, frames=(b"1",)))
    await store.put_response(turn("a", background=True, frames=(b"1", b"2", b"3")))
    assert (await store.response(ME, "a")).frames == (b"1", b"2", b"3")


async def test_a_conversation_grows_with_its_responses_in_the_order_of_their_end(
    store: ConversationStore,
) -> None:
    made = await store.create_conversation(ME, metadata=b'{"a":"b"}', items=items("hello"))
    for name in "xy":
        asked = items(f"{name}_in")
        await store.put_response(
            response(name, "in_progress", input=asked, conversation=made.id, background=True)
        )
    assert names(await store.items(ME, made.id)) == ["hello"]
    await asyncio.gather(
        store.put_response(turn("y", conversation=made.id, background=True)),
        store.put_response(turn("x", conversation=made.id, background=True)),
    )
    expected = ["hello", "y_in", "y_out", "x_in", "x_out"]
    assert names(await store.items(ME, made.id)) == expected
    assert names(await store.past(ME, conversation=made.id)) == expected
    assert names(await store.context(ME, "x")) == ["hello", "x_in"]


async def test_a_response_that_leaves_its_conversation_out_at_its_end_adds_nothing_to_it(
    store: ConversationStore,
) -> None:
    made = await store.create_conversation(ME, metadata=b"{}", items=())
    await store.put_response(response("a", "queued", conversation=made.id))
    await store.put_response(response("a", "failed", input=items("lost")))
    assert await store.items(ME, made.id) == ()


async def test_conversations_are_read_changed_and_deleted(store: ConversationStore) -> None:
    made = await store.create_conversation(ME, metadata=b'{"a":"b"}', items=items("1"))
    assert await store.conversation(ME, made.id) == made
    changed = await store.update_conversation(ME, made.id, metadata=b'{"c":"d"}')
    assert changed.metadata == b'{"c":"d"}'
    assert await store.conversation(ME, made.id) == changed
    await store.add_items(ME, made.id, items("2", "3"))
    assert await store.delete_item(ME, made.id, "2") == changed
    assert names(await store.items(ME, made.id)) == ["1", "3"]
    with pytest.raises(ItemNotFound):
        await store.delete_item(ME, made.id, "2")
    await store.delete_conversation(ME, made.id)
    with pytest.raises(ConversationNotFound):
        await store.items(ME, made.id)
    assert await store.find_items(ME, ["1", "2", "3"]) == {}


async def test_responses_outlive_their_conversation(store: ConversationStore) -> None:
    made = await store.create_conversation(ME, metadata=b"{}", items=items("hello"))
    await store.put_response(turn("a", conversation=made.id))
    await store.delete_conversation(ME, made.id)
    assert names(await store.context(ME, "a")) == ["hello", "a_in"]
    with pytest.raises(ConversationNotFound):
        await store.put_response(turn("b", conversation=made.id))
    with pytest.raises(ResponseNotFound):
        await store.response(ME, "b")


async def test_ids_of_conversations_can_not_be_guessed(store: ConversationStore) -> None:
    made = {(await store.create_conversation(ME, metadata=b"{}", items=())).id for _ in range(50)}
    assert len(made) == 50
    assert all(len(each.removeprefix("conv_")) * 4 >= 128 for each in made)


async def test_items_are_found_by_their_ids(store: ConversationStore) -> None:
    await store.put_response(turn("a"))
    found = await store.find_items(ME, ["a_out", "nothing"])
    assert found == {"a_out": item("a_out")}


async def test_what_is_someone_elses_does_not_exist(store: ConversationStore) -> None:
    made = await store.create_conversation(ME, metadata=b"{}", items=items("secret"))
    await store.put_response(turn("a", conversation=made.id))
    empty = b"{}"
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: store.response(OTHER, "a"),
        lambda: store.context(OTHER, "a"),
        lambda: store.past(OTHER, previous="a"),
        lambda: store.past(OTHER, conversation=made.id),
        lambda: store.delete_response(OTHER, "a"),
        lambda: store.conversation(OTHER, made.id),
        lambda: store.items(OTHER, made.id),
        lambda: store.add_items(OTHER, made.id, items("mine")),
        lambda: store.delete_item(OTHER, made.id, "secret"),
        lambda: store.update_conversation(OTHER, made.id, metadata=empty),
        lambda: store.delete_conversation(OTHER, made.id),
        lambda: store.put_response(turn("b", previous="a", owner=OTHER)),
        lambda: store.put_response(turn("b", conversation=made.id, owner=OTHER)),
    ]
    for ask in asked:
        with pytest.raises(NotStored):
            await ask()
    await store.put_response(response("a", "failed", owner=OTHER))
    assert await store.find_items(OTHER, ["secret", "a_in"]) == {}
    assert names(await store.items(ME, made.id)) == ["secret", "a_in", "a_out"]
    assert (await store.response(ME, "a")).state == "completed"


async def test_two_owners_with_the_same_words_share_nothing(store: ConversationStore) -> None:
    await store.put_response(response("mine", input=items("same"), output=items("b")))
    await store.put_response(response("theirs", owner=OTHER, input=items("same")))
    await store.delete_response(OTHER, "theirs")
    assert await store.find_items(OTHER, ["same"]) == {}
    assert list(await store.find_items(ME, ["same"])) == ["same"]


async def test_the_status_counts_what_there_is(store: ConversationStore) -> None:
    await store.put_response(turn("a"))
    await store.create_conversation(ME, metadata=b"{}", items=())
    status = store.status()
    assert (status.responses, status.conversations, status.problem) == (1, 1, "")
    assert status.bytes > 0


async def test_a_file_is_as_it_was_when_it_is_opened_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        made = await store.create_conversation(ME, metadata=b"{}", items=items("1"))
        await store.put_response(turn("a", conversation=made.id))
        before = await store.response(ME, "a")
    async with opened(tmp_path) as store:
        assert await store.response(ME, "a") == before
        assert names(await store.items(ME, made.id)) == ["1", "a_in", "a_out"]


@pytest.mark.parametrize("state", ["queued", "in_progress"])
async def test_what_ran_when_the_server_ended_has_failed_with_a_reason(
    tmp_path: Path, state: str
) -> None:
    running = response("a", "queued" if state == "queued" else "in_progress", input=items("asked"))
    async with opened(tmp_path) as store:
        made = await store.create_conversation(ME, metadata=b"{}", items=())
        put = msgspec.structs.replace(running, conversation=made.id, frames=(b"1", b"2"))
        await store.put_response(put)
    async with opened(tmp_path) as store:
        failed = await store.response(ME, "a")
        assert (failed.state, failed.frames) == ("failed", (b"1", b"2"))
        told = msgspec.json.decode(failed.body)
        assert (told["id"], told["status"], told["error"]["code"]) == (
            "a",
            "failed",
            "server_error",
        )
        assert "restarted" in told["error"]["message"]
        assert names(await store.context(ME, "a")) == ["asked"]
        assert await store.items(ME, made.id) == ()


async def test_a_caller_that_leaves_does_not_stop_what_others_wait_for(
    store: ConversationStore,
) -> None:
    leaving = asyncio.create_task(store.put_response(turn("a")))
    staying = asyncio.create_task(store.put_response(turn("b")))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert (await store.response(ME, "b")).state == "completed"


async def test_closing_a_store_that_was_never_opened_is_no_error(tmp_path: Path) -> None:
    await make(tmp_path).close()


def test_a_history_is_read_in_its_order_and_sqlite_sorts_none_of_it() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db)
    history = items("a", "b", "c")
    db.execute("BEGIN")
    head = extend(db, ME, None, history)
    queries: list[str] = []
    db.set_trace_callback(queries.append)
    assert items_between(db, head) == history
    db.set_trace_callback(None)
    for query in queries:
        plan = db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        # Sorting bodies means writing them to a file, once they are many.
        assert not [step for *_, step in plan if "ORDER BY" in step]
    db.close()
