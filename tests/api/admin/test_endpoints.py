"""The admin endpoints: what they tell, what they do, and what becomes of a cancelled request."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace
from quart import Response

from mlxd.api.admin.event_feed import MAX_READERS
from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.app import create_app
from mlxd.config.settings import AdminSettings, ServerSettings, Settings
from mlxd.engine.scripted.engine import Gate, ScriptedEngine, ScriptItem
from mlxd.errors import ModelUnusable
from mlxd.status import Status
from tests.api.support import DEMO, HELLO, LIMIT, MESSAGES, OTHER, bytes_of, chunks_of, sse_frames
from tests.api.watching import TOKEN, Watched, json_of, watched
from tests.scripts import SCRIPTS, STARTED, finished, text

ANTHROPIC: dict[str, Any] = {"model": "demo", "max_tokens": 9, "messages": HELLO}

SCRAPED = "a-token-that-stays-the-same"


def held() -> tuple[Watched, asyncio.Event]:
    """A server whose answers wait in the middle."""
    gate = asyncio.Event()
    script: tuple[ScriptItem, ...] = (STARTED, *text(0, "One, "), Gate(gate), *text(1, "two."))
    return watched(*script, finished()), gate


async def begun(server: Watched, running: int = 1) -> Status:
    """The status once so many requests decode."""
    async with asyncio.timeout(LIMIT), server.watching() as watch:
        while True:
            status = await watch.next_status()
            if sum(part.phase == "decode" for part in status.running) == running:
                return status


async def cancel(server: Watched) -> Response:
    """Cancel the one request that runs."""
    (part,) = (await begun(server)).running
    return await server.admin(f"/admin/requests/{part.id}/cancel", "POST")


async def test_a_new_server_has_nothing_to_tell_but_itself() -> None:
    status = await watched(models=(DEMO, OTHER)).status()
    assert (status.server.state, status.server.health) == ("serving", "ok")
    assert status.server.memory > 1_000_000
    assert [model.id for model in status.engine.models] == ["demo", "other"]
    assert (status.running, status.waiting, status.conversations) == ((), (), ())
    assert set(status.rates) == {"1s", "10s", "60s"}
    assert status.totals.requests == 0


async def test_a_running_request_is_described_with_its_client() -> None:
    server, gate = held()
    headers = {"user_agent": "claude-cli/2.1 (external)", "x_session_id": "the session"}
    body = {"model": "gpt-4o", "messages": HELLO, "stream": True, "max_tokens": 99}
    asking = asyncio.create_task(server.post(body, **headers))
    (part,) = (await begun(server)).running
    assert (part.dialect, part.model, part.requested_model) == ("openai_chat", "demo", "gpt-4o")
    assert (part.agent, part.stream, part.max_tokens) == ("claude-cli", True, 99)
    assert (part.phase, part.figures.completion_tokens > 0, part.first_token > 0) == (
        "decode",
        True,
        True,
    )
    (talk,) = (await server.status()).conversations
    assert (talk.id, talk.kind, talk.running) == (part.conversation, "session", 1)
    gate.set()
    assert (await asking).headers["x-request-id"] == part.id
    status = await server.status()
    assert (status.running, status.totals.finished) == ((), 1)
    assert status.conversations[0].running == 0
    assert status.rates["60s"].requests_per_minute > 0


async def test_what_waits_for_a_slot_is_told_apart_from_what_runs() -> None:
    gate = asyncio.Event()
    server = watched(STARTED, Gate(gate), *text(0, "done"), finished(), max_batch=1)
    asking = [asyncio.create_task(server.ask()) for _ in range(3)]
    await server.engine.reaches(lambda engine: engine.running == 3)
    status = await server.status()
    assert (len(status.running), len(status.waiting)) == (1, 2)
    assert all(part.queued > 0 and part.first_token == 0 for part in status.waiting)
    health = await json_of(await server.get("/health"))
    assert health["requests"] == {"running": 1, "waiting": 2}
    gate.set()
    for response in await asyncio.gather(*asking):
        assert response.status_code == 200


async def test_a_cancelled_stream_ends_with_an_error_of_its_dialect_and_frees_its_slot() -> None:
    server, _ = held()
    asking = asyncio.create_task(server.ask(stream=True))
    cancelled = await cancel(server)
    assert (await json_of(cancelled))["cancelled"] is True
    assert chunks_of(await bytes_of(await asking))[-1]["error"]["code"] == "request_cancelled"
    assert server.engine.running == 0
    status = await server.status()
    assert (status.totals.cancelled, status.totals.errors) == (1, 0)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", {"messages": HELLO}), (MESSAGES, ANTHROPIC)]
)
async def test_a_cancelled_whole_answer_is_a_status_that_clients_do_not_try_again(
    path: str, body: dict[str, Any]
) -> None:
    server, _ = held()
    asking = asyncio.create_task(server.post(body, path))
    await cancel(server)
    response = await asking
    assert (response.status_code, response.headers["x-should-retry"]) == (499, "false")
    assert "cancelled by an administrator" in await response.get_data(as_text=True)


async def test_a_cancelled_messages_stream_ends_with_an_error_event() -> None:
    server, _ = held()
    asking = asyncio.create_task(server.post({**ANTHROPIC, "stream": True}, MESSAGES))
    await cancel(server)
    frames = sse_frames(await bytes_of(await asking))
    assert frames[-1].event == "error"


async def test_all_choices_of_a_call_are_cancelled_by_its_id() -> None:
    server, _ = held()
    asking = asyncio.create_task(server.ask(stream=True, n=3))
    status = await begun(server, 3)
    assert (len(status.running), status.conversations[0].turns) == (3, 1)
    call, _, _ = status.running[0].id.rpartition("-")
    await server.admin(f"/admin/requests/{call}/cancel", "POST")
    assert b"request_cancelled" in await bytes_of(await asking)
    assert server.engine.running == 0


async def test_cancelling_what_is_not_there_is_a_404_in_the_plain_envelope() -> None:
    response = await watched().admin("/admin/requests/req_nothing/cancel", "POST")
    assert response.status_code == 404
    body = await json_of(response)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"type", "message"}


async def test_models_are_loaded_and_unloaded_by_any_of_their_names() -> None:
    server = watched(models=(DEMO, replace(OTHER, aliases=("org/name",))))
    loaded = await server.admin("/admin/models/org/name/load", "POST")
    assert (loaded.status_code, await json_of(loaded)) == (200, {"id": "other", "state": "loaded"})
    await server.admin("/admin/models/demo/unload", "POST")
    assert [model.state for model in (await server.status()).engine.models] == [
        "unloaded",
        "loaded",
    ]
    unknown = await server.admin("/admin/models/nothing/load", "POST")
    assert unknown.status_code == 404


async def test_a_restart_fails_what_runs_with_the_reason_and_is_remembered() -> None:
    server, _ = held()
    asking = asyncio.create_task(server.ask())
    await server.engine.reaches(lambda engine: engine.running == 1)
    restarted = await server.admin("/admin/engine/restart", "POST")
    assert restarted.status_code == 202
    response = await asking
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "restarted by an administrator" in await response.get_data(as_text=True)
    status = await server.status()
    (restart,) = status.engine.last_restarts
    assert (status.engine.restarts, restart.reason) == (1, "restarted by an administrator")
    assert status.totals.failed == 1


async def test_the_configuration_is_told_without_its_keys() -> None:
    settings = Settings(
        server=ServerSettings(api_keys=("first-key", "second-key")),
        admin=AdminSettings(token=SCRAPED),
    )
    body = await json_of(await watched(settings=settings).admin("/admin/config"))
    assert body["settings"]["server"]["api_keys"] == ["****", "****"]
    assert body["settings"]["admin"]["enabled"] is True
    assert body["settings"]["admin"]["token"] == "****"
    assert "first-key" not in json.dumps(body)
    assert SCRAPED not in json.dumps(body)
    assert TOKEN not in json.dumps(body)


async def test_texts_are_told_only_where_that_is_configured() -> None:
    gate = asyncio.Event()
    script = (STARTED, *text(0, "The answer so far"), Gate(gate), finished())
    for shown in (True, False):
        gate.clear()
        server = watched(*script, settings=Settings(admin=AdminSettings(show_text=shown)))
        asking = asyncio.create_task(server.ask(stream=True))
        status = await begun(server)
        assert status.running[0].text == ("The answer so far" if shown else "")
        assert status.conversations[0].text == ("Hello" if shown else "")
        gate.set()
        await asking


async def test_the_history_counts_whole_seconds() -> None:
    server = watched(*SCRIPTS["text"])
    await server.ask()
    async with server.watching() as watch:
        while not (history := await server.history()).seconds:
            await watch.next_status()
    assert all(second.at > 1_700_000_000 for second in history.seconds)


async def test_events_begin_with_a_status_and_tell_what_happens() -> None:
    server = watched(*SCRIPTS["text"])
    async with server.watching() as watch:
        assert (await watch.next_status()).totals.requests == 0
        response: Response = await server.ask()
        for kind in ("queued", "prefill", "decode", "finished"):
            event = await watch.until_event(f"request.{kind}")
            assert (event.request, event.model) == (response.headers["x-request-id"], "demo")
        assert (await watch.next_status()).totals.finished == 1
        await server.post({"messages": "wrong"})
        refused = await watch.until_event("request.refused")
        assert (refused.level, "InvalidField" in refused.message) == ("warning", True)
        await server.admin("/admin/models/demo/unload", "POST")
        unloaded = await watch.until_event("model.unloaded")
        assert (unloaded.model, unloaded.request) == ("demo", "")


async def test_a_late_reader_hears_what_happened_lately() -> None:
    server = watched(*SCRIPTS["text"])
    await server.ask()
    async with server.watching() as watch:
        assert await watch.until_event("request.finished")


async def test_the_stream_of_events_ends_with_the_server() -> None:
    server = watched()
    async with server.watching() as watch:
        await watch.next_status()
        await server.engine.stop(0)
        while (await watch.next_status()).engine.state != "stopped":
            pass


@pytest.mark.parametrize("rate", ["", "0.5", "99"])
async def test_statuses_come_at_the_rate_that_is_asked_for(rate: str) -> None:
    async with watched().watching(rate) as watch:
        await watch.next_status()


@pytest.mark.parametrize("rate", ["0", "nan", "-1", "x"])
async def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    response = await watched().admin(f"/admin/events?rate={rate}")
    assert response.status_code == 400


async def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    server = watched(*SCRIPTS["text"])
    async with server.watching() as slow, server.watching() as fast:
        await slow.next_status()
        for _ in range(300):
            assert (await server.ask()).status_code == 200
        assert (await fast.until_event("request.finished")).kind
        while (await fast.next_status()).totals.finished < 300:
            pass


async def test_readers_are_limited_and_come_back() -> None:
    server = watched()
    async with AsyncExitStack() as readers:
        for _ in range(MAX_READERS):
            # Who asks for the headers alone takes nobody's place.
            head = await server.admin("/admin/events", "HEAD")
            assert (head.status_code, await head.get_data()) == (200, b"")
            watch = await readers.enter_async_context(server.watching())
            await watch.next_status()
        assert (await server.admin("/admin/events")).status_code == 503
    async with server.watching() as watch:
        await watch.next_status()


class Broken(ScriptedEngine):
    """An engine none of whose models can be loaded."""

    async def load(self, model: str) -> None:
        raise ModelUnusable(model, "its weights are damaged")


async def test_a_model_that_cannot_be_loaded_is_a_conflict() -> None:
    engine = Broken(lambda _: SCRIPTS["text"], models=(DEMO,))
    server = Watched(create_app(Settings(), engine, facts=ServerFacts(token=TOKEN)), engine)
    response = await server.admin("/admin/models/demo/load", "POST")
    assert response.status_code == 409
    assert "damaged" in (await json_of(response))["error"]["message"]


async def test_sixty_four_requests_are_all_described() -> None:
    gate = asyncio.Event()
    server = watched(STARTED, *text(0, "One, "), Gate(gate), finished(), max_batch=64)
    asking = [asyncio.create_task(server.ask()) for _ in range(64)]
    await server.engine.reaches(lambda engine: engine.running == 64)
    status = await server.status()
    assert len({part.id for part in status.running}) == 64
    gate.set()
    assert all(response.status_code == 200 for response in await asyncio.gather(*asking))
    assert (await server.status()).totals.finished == 64


async def test_without_the_admin_endpoint_there_is_nothing_at_its_paths() -> None:
    server = watched(settings=Settings(admin=AdminSettings(enabled=False)))
    for path in ("/admin/status", "/admin", "/metrics"):
        assert (await server.admin(path)).status_code == 404
