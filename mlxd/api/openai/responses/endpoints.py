"""The endpoints of a dialect whose answers can be asked for again."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import cast

from quart import Response

from mlxd.api.dialect import ItemDialect, MemoryCall
from mlxd.api.http.error_replies import json_response
from mlxd.api.http.request_log import Record
from mlxd.api.http.request_reader import STREAM_HEADERS, Asked, Operation, Reception, ignored_header
from mlxd.api.http.sse import encode
from mlxd.api.openai.responses.background import Run, Runs
from mlxd.api.openai.responses.continuation import Memory, Turn
from mlxd.api.openai.responses.conversation_endpoints import ConversationViews, json_bytes
from mlxd.api.openai.responses.pagination import asked_page, is_true, whole_number
from mlxd.errors import InvalidField, NotCancellable


class MemoryViews:
    """Answers calls with a past, and tells what became of them."""

    def __init__(self, memory: Memory, runs: Runs, reception: Reception) -> None:
        self._memory = memory
        self._store = memory.store
        self._runs = runs
        self._reception = reception

    def table(self) -> Mapping[str, Operation]:
        """The endpoint of each operation."""
        conversations = ConversationViews(self._store, self._reception)
        return {
            "respond": self.respond,
            "compact": self.respond,
            "response": self.response,
            "delete_response": self.delete,
            "cancel_response": self.cancel,
            "input_items": self.input_items,
            **conversations.table(),
        }

    async def respond(self, asked: Asked) -> Response:
        """An answer, whole or streamed, or the beginning of one in the background."""
        call = await self._reception.call(asked)
        if not isinstance(call, MemoryCall):
            raise TypeError(f"{asked.dialect.name} has no memory")
        record = asked.request.record
        record.stream = call.stream
        turn = await self.turn(call, asked)
        if call.background:
            return await self._begin(turn, asked)
        headers = ignored_header(turn.answer.ignored)
        if call.stream:
            exchange, _ = await self._memory.open(turn, asked.request.stack, record)
            return _streamed(Response(exchange.stream(), 200, headers | STREAM_HEADERS))
        async with AsyncExitStack() as stack:
            exchange, _ = await self._memory.open(turn, stack, record)
            return json_bytes(await exchange.collect(), headers)

    async def turn(self, call: MemoryCall, asked: Asked) -> Turn:
        """The call with its past and its model."""
        model = self._reception.model(call.asked_model, asked.request.record)
        created = float(asked.request.created)
        return await self._memory.turn(call, asked.owner, model, created=created, latest=None)

    async def response(self, asked: Asked) -> Response:
        """A response as it is now, or the stream of one that was made in the background."""
        query = asked.request.args
        name = asked.path("response")
        run = self._runs.find(asked.owner, name)
        if is_true(query, "stream"):
            after = whole_number(query, "starting_after", -1)
            return await self._stream_again(asked, run, max(after, -1))
        if run is not None and run.ending and not run.over:
            await run.ended()
        if run is not None and not (run.over and run.stored):
            return json_response(run.renderer.snapshot())
        return json_bytes((await self._store.response(asked.owner, name)).body)

    async def delete(self, asked: Asked) -> Response:
        """Forget a response; one that is being made is given up."""
        name = asked.path("response")
        if run := self._runs.find(asked.owner, name):
            run.halt()
            await run.ended()
        await self._store.delete_response(asked.owner, name)
        return json_response({"id": name, "object": "response", "deleted": True})

    async def cancel(self, asked: Asked) -> Response:
        """End a run in the background; one that has ended stays as it ended."""
        name = asked.path("response")
        if run := self._runs.find(asked.owner, name):
            run.halt()
            await run.ended()
            if not run.stored:
                return json_response(run.renderer.snapshot())
        response = await self._store.response(asked.owner, name)
        if not response.background:
            raise NotCancellable
        return json_bytes(response.body)

    async def input_items(self, asked: Asked) -> Response:
        """A page of what a response was answered from."""
        page = asked_page(asked.request.args)
        return json_bytes(page.of(await self._store.context(asked.owner, asked.path("response"))))

    async def _begin(self, turn: Turn, asked: Asked) -> Response:
        request = asked.request
        record = Record(request.id, request.record.client)
        record.dialect, record.status = asked.dialect.name, 200
        record.asked_model, record.model = request.record.asked_model, turn.model
        record.stream = turn.call.stream
        run = await self._runs.start(turn, record)
        request.record.queued = True
        headers = ignored_header(turn.answer.ignored)
        if turn.call.stream:
            return _streamed(Response(run.follow(-1), 200, headers | STREAM_HEADERS))
        return json_bytes(run.queued, headers)

    async def _stream_again(self, asked: Asked, run: Run | None, after: int) -> Response:
        if run is not None:
            run.check_place(after)
            return _streamed(Response(run.follow(after), 200, STREAM_HEADERS))
        response = await self._store.response(asked.owner, asked.path("response"))
        if not response.background:
            message = "Only the stream of a background response can be read again."
            raise InvalidField("stream", "unsupported", message)
        if not response.frames:
            # They were lost with a server, or were too many to be kept.
            end = cast(ItemDialect, asked.dialect).ending(response.body, after + 1)
            return _streamed(Response(encode(end), 200, STREAM_HEADERS))
        # The last frame comes in any case: a stream without its end is one that broke off.
        begin = min(after + 1, len(response.frames) - 1)
        return _streamed(Response(b"".join(response.frames[begin:]), 200, STREAM_HEADERS))


def _streamed(response: Response) -> Response:
    response.timeout = None
    return response
