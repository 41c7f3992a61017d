"""A server of the Responses API with moods: what a chat must bear and a sound server rarely does.

It remembers conversations as the API says, answers with the pieces it is given, and can lose
connections, forget, refuse and run out of disk at a word.
"""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from quart import Quart, Response, request

from mlxd.server.connection import Limits
from mlxd.server.listener import Listener, bind

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One answer: its pieces, and how it ends."""

    pieces: tuple[str, ...] = ("Hello", " there", ".")
    reasoning: tuple[str, ...] = ()
    call: tuple[str, str] | None = None
    ending: str = "completed"
    code: str = ""
    hold: bool = False
    """Keep the stream open after the pieces, until the client leaves."""
    lost: bool = False
    """End the stream after the pieces, without an ending."""


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str | None
    message: str = "No."


@dataclass
class Moody:
    """The server's state, for tests to look at and to change."""

    replies: deque[Reply | Refusal] = field(default_factory=deque)
    conversations: dict[str, list[Json]] = field(default_factory=dict)
    asked: list[Json] = field(default_factory=list)
    models: list[str] = field(default_factory=lambda: ["demo", "other"])
    store: Refusal | None = None
    """What the store says instead of storing."""
    health: str = "ok"
    open: int = 0
    """Streams that are open."""
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def item(self, value: Json) -> Json:
        prefix = {"message": "msg", "reasoning": "rs"}.get(value.get("type", "message"), "fc")
        return {"id": f"{prefix}_{next(self.numbers)}", **value}

    def texts(self) -> list[list[str]]:
        """What every conversation holds, as text."""
        return [[_text(item) for item in items] for items in self.conversations.values()]


def _text(item: Json) -> str:
    content = item.get("content") or item.get("summary") or []
    return "".join(part["text"] for part in content) or str(item.get("arguments", "")) or "output"


def error(refusal: Refusal) -> tuple[Json, int]:
    told = {"message": refusal.message, "type": "x", "param": None, "code": refusal.code}
    return {"error": told}, refusal.status


GONE = Refusal(404, None, "Conversation with id 'conv' not found.")


def _remember(app: Quart, moody: Moody) -> None:
    """The endpoints of conversations."""

    @app.post("/v1/conversations")
    async def create() -> Any:
        if moody.store:
            return error(moody.store)
        name = f"conv_{next(moody.numbers)}"
        items = (await request.get_json()).get("items", [])
        assert len(items) <= 20
        moody.conversations[name] = [moody.item(item) for item in items]
        return {"id": name, "object": "conversation"}

    @app.get("/v1/conversations/<name>/items")
    async def listed(name: str) -> Any:
        if name not in moody.conversations:
            return error(GONE)
        items = moody.conversations[name]
        ids = [item["id"] for item in items]
        after = request.args.get("after")
        items = items[ids.index(after) + 1 :] if after else items
        limit = int(request.args["limit"])
        return {"data": items[:limit], "has_more": len(items) > limit}

    @app.post("/v1/conversations/<name>/items")
    async def added(name: str) -> Any:
        if moody.store:
            return error(moody.store)
        items = (await request.get_json())["items"]
        assert 0 < len(items) <= 20
        moody.conversations[name] += [moody.item(item) for item in items]
        return {"data": items}

    @app.delete("/v1/conversations/<name>/items/<item>")
    async def deleted(name: str, item: str) -> Any:
        items = moody.conversations[name]
        moody.conversations[name] = [kept for kept in items if kept["id"] != item]
        return {"id": name, "object": "conversation"}


def build(moody: Moody) -> Quart:
    """The application."""
    app = Quart("moody")
    app.config.update(RESPONSE_TIMEOUT=None)
    _remember(app, moody)

    @app.get("/health")
    async def health() -> Json:
        return {"status": moody.health}

    @app.get("/v1/models")
    async def models() -> Json:
        return {
            "object": "list",
            "data": [{"id": name, "max_input_tokens": 60} for name in moody.models],
        }

    @app.post("/v1/responses/input_tokens")
    async def counted() -> Json:
        (*_, last) = (await request.get_json())["input"]
        return {"input_tokens": len(_text(last).split())}

    @app.post("/v1/responses")
    async def responses() -> Any:
        body = await request.get_json()
        moody.asked.append(body)
        reply = moody.replies.popleft() if moody.replies else Reply()
        if isinstance(reply, Refusal):
            return error(reply)
        if (name := body.get("conversation")) and name not in moody.conversations:
            return error(GONE)
        if name and moody.store:
            return error(moody.store)
        return Response(_stream(moody, body, reply), content_type="text/event-stream")

    return app


async def _stream(moody: Moody, body: Json, reply: Reply) -> AsyncIterator[bytes]:
    moody.open += 1
    try:
        yield _sse({"type": "response.created", "response": {"id": "resp_1", "model": "demo"}})
        output: list[Json] = []
        for event in _blocks(moody, reply, output):
            yield _sse(event)
        if reply.hold:
            await asyncio.Event().wait()
        if not reply.lost:
            for event in _ending(reply, output):
                yield _sse(event)
            if (name := body.get("conversation")) and reply.ending != "failed":
                moody.conversations[name] += [moody.item(item) for item in body["input"]] + output
    finally:
        moody.open -= 1


def _blocks(moody: Moody, reply: Reply, output: list[Json]) -> list[Json]:
    events: list[Json] = []
    for kind, pieces in (("reasoning", reply.reasoning), ("message", reply.pieces)):
        if not pieces:
            continue
        at, part = len(output), "reasoning_text" if kind == "reasoning" else "output_text"
        item = moody.item(
            {"type": kind, "role": "assistant"} if kind == "message" else {"type": kind}
        )
        added = {"type": "response.output_item.added", "output_index": at}
        events.append({**added, "item": {**item, "content": []}})
        delta = {"type": f"response.{part}.delta", "output_index": at}
        events += [{**delta, "delta": piece} for piece in pieces]
        output.append({**item, "content": [{"type": part, "text": "".join(pieces)}]})
    if reply.call:
        name, arguments = reply.call
        item = moody.item({"type": "function_call", "call_id": "call_1", "name": name})
        at = len(output)
        output.append({**item, "arguments": arguments})
        done = {"type": "response.output_item.done", "output_index": at}
        events.append({**done, "item": output[-1]})
    return events


def _ending(reply: Reply, output: list[Json]) -> list[Json]:
    response: Json = {"status": reply.ending, "model": "demo", "output": output}
    if reply.ending == "failed":
        wrong = {"code": reply.code or "server_error", "message": "It broke."}
        failed = {"type": "response.failed", "response": {**response, "error": wrong}}
        return [{"type": "error", "error": wrong}, failed]
    reason = {"reason": "max_output_tokens"} if reply.ending == "incomplete" else None
    usage = {"input_tokens": 12, "output_tokens": 7}
    whole = {**response, "incomplete_details": reason, "usage": usage}
    return [{"type": f"response.{reply.ending}", "response": whole}]


def _sse(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


@asynccontextmanager
async def serving(moody: Moody) -> AsyncIterator[str]:
    """The server's URL while it runs."""
    sockets = bind("127.0.0.1", 0)
    listener = Listener(build(moody), Limits())
    listener.start(sockets)
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        await listener.stop_accepting()
        await listener.close(0.2)
        for sock in sockets:
            sock.close()
