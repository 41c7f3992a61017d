"""The endpoints of Responses: answers that can be requested again."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from mlxd.api.dialect import Caller, Framing, JsonObject
from mlxd.api.endpoints import ApiCall, Reply, Services, SocketView, View, json_reply
from mlxd.api.http.request_log import Record
from mlxd.api.http.request_reader import ignored_header
from mlxd.api.openai.responses.background import BackgroundRun, BackgroundRuns
from mlxd.api.openai.responses.continuation import Continuations, StatefulCall, whole_body
from mlxd.api.openai.responses.conversation_endpoints import conversation_views
from mlxd.api.openai.responses.format.calls import UnresolvedCall
from mlxd.api.openai.responses.format.pagination import (
    is_true,
    requested_page,
    starting_after,
)
from mlxd.api.openai.responses.format.renderer import last_frames
from mlxd.api.openai.responses.format.response_object import counted, deleted_response
from mlxd.api.openai.responses.websocket import SocketDialect, Sockets
from mlxd.errors import InvalidField, NotCancellable


class ResponsesDialect(SocketDialect, Protocol):
    """OpenAI's own dialect, or one that is made of it."""

    framing: Framing

    def compact_call(self, body: JsonObject, caller: Caller) -> UnresolvedCall:
        """A body of the endpoint that summarises, unresolved; raises `InvalidField`."""


def responses_views(dialect: ResponsesDialect, services: Services) -> Sequence[View | SocketView]:
    """Every endpoint; none without a store."""
    if services.store is None:
        return ()
    state = services.single(ServerState.of)
    own = ResponseEndpoints(dialect, services, state)
    one = "/v1/responses/<response>"
    return (
        View("POST", "/v1/responses", own.respond),
        SocketView("/v1/responses", lambda socket: state.sockets.serve(dialect, socket)),
        View("POST", "/v1/responses/input_tokens", own.count),
        View("POST", "/v1/responses/compact", own.compact),
        View("GET", one, own.response),
        View("DELETE", one, own.delete),
        View("POST", f"{one}/cancel", own.cancel),
        View("GET", f"{one}/input_items", own.input_items),
        *conversation_views(services.store, services.reader),
    )


@dataclass(frozen=True)
class ServerState:
    """What the dialects of a server share: a run of one can be found by another's path."""

    continuations: Continuations
    runs: BackgroundRuns
    sockets: Sockets

    @classmethod
    def of(cls, services: Services) -> "ServerState":
        """The state, which ends with the server."""
        assert services.store is not None, "nothing is remembered without a store"
        idle = services.tuning.idle
        continuations = Continuations(services.store, services.engine, idle=idle)
        runs = BackgroundRuns(services.engine, services.store, idle=idle)
        services.at_shutdown(runs.close)
        return cls(continuations, runs, Sockets(continuations, services))


class ResponseEndpoints:
    """Answers calls with a past, and shows what became of them."""

    def __init__(self, dialect: ResponsesDialect, services: Services, state: ServerState) -> None:
        self._dialect = dialect
        self._engine = services.engine
        self._reader = services.reader
        self._continuations = state.continuations
        self._store = state.continuations.store
        self._runs = state.runs

    async def respond(self, call: ApiCall) -> Reply:
        """An answer, whole or streamed, or the beginning of one in the background."""
        return await self._answer(await self._unresolved(call), call)

    async def compact(self, call: ApiCall) -> Reply:
        """A history as a summary, which is never stored."""
        parse = self._dialect.compact_call
        unresolved = await self._reader.parsed(call.request, lambda body: parse(body, call.caller))
        return await self._answer(unresolved, call)

    async def count(self, call: ApiCall) -> Reply:
        """How many tokens the prompt has, its history included."""
        turn = await self._turn(await self._unresolved(call), call)
        call.record.counted = True
        (request,) = turn.answer.requests
        with turn.answer.in_callers_words():
            tokens = await self._engine.count_tokens(request)
        return json_reply(counted(tokens), ignored_header(turn.answer.ignored))

    async def response(self, call: ApiCall) -> Reply:
        """A response as it is now, or the stream of one that was made in the background."""
        name = call.caller.path_args["response"]
        run = self._runs.find(call.owner, name)
        if is_true(call.query, "stream"):
            return await self._stream_again(call, run, starting_after(call.query))
        # Neither "in progress" nor stored yet: for a moment only waiting gives the right answer.
        if run is not None and run.ending and not run.over:
            await run.ended()
        if run is not None and not (run.over and run.stored):
            return json_reply(run.renderer.snapshot())
        return Reply((await self._store.response(call.owner, name)).body)

    async def delete(self, call: ApiCall) -> Reply:
        """Forget a response; one that is being made is given up."""
        name = call.caller.path_args["response"]
        if run := self._runs.find(call.owner, name):
            run.halt()
            await run.ended()
        await self._store.delete_response(call.owner, name)
        return json_reply(deleted_response(name))

    async def cancel(self, call: ApiCall) -> Reply:
        """End a run in the background; one that has ended stays as it ended."""
        name = call.caller.path_args["response"]
        if run := self._runs.find(call.owner, name):
            run.halt()
            await run.ended()
            if not run.stored:
                return json_reply(run.renderer.snapshot())
        response = await self._store.response(call.owner, name)
        if not response.background:
            raise NotCancellable
        return Reply(response.body)

    async def input_items(self, call: ApiCall) -> Reply:
        """A page of what a response was answered from."""
        page = requested_page(call.query)
        name = call.caller.path_args["response"]
        return Reply(page.of(await self._store.context(call.owner, name)))

    async def _unresolved(self, call: ApiCall) -> UnresolvedCall:
        parse = self._dialect.response_call
        return await self._reader.parsed(call.request, lambda body: parse(body, call.caller))

    async def _turn(self, unresolved: UnresolvedCall, call: ApiCall) -> StatefulCall:
        """The call with its past and its model."""
        model = self._reader.model(unresolved.requested_model, call.record)
        return await self._continuations.resolved(unresolved, call.caller, model, latest=None)

    async def _answer(self, unresolved: UnresolvedCall, call: ApiCall) -> Reply:
        call.record.stream = unresolved.stream
        turn = await self._turn(unresolved, call)
        if unresolved.background:
            return await self._begin(turn, call)
        if unresolved.stream:
            exchange, _ = await self._continuations.open(turn, call.stack, call.record)
            headers = ignored_header(exchange.ignored)
            return self._streamed(exchange.stream(self._dialect.framing), headers)
        async with AsyncExitStack() as stack:
            exchange, _ = await self._continuations.open(turn, stack, call.record)
            headers = ignored_header(exchange.ignored)
            return Reply(await whole_body(exchange, turn.answer.renderer), headers)

    async def _begin(self, turn: StatefulCall, call: ApiCall) -> Reply:
        # The run outlives its request, so it has a line of its own in the log.
        record = Record(call.record.id, call.record.client)
        record.dialect, record.status = self._dialect.name, 200
        record.requested_model, record.model = call.record.requested_model, turn.model
        record.stream = turn.call.stream
        run = await self._runs.start(turn, record, self._dialect.framing)
        call.record.queued = True
        headers = ignored_header((*turn.answer.ignored, *run.left_out))
        if turn.call.stream:
            return self._streamed(run.follow(-1), headers)
        return Reply(run.queued, headers)

    async def _stream_again(self, call: ApiCall, run: BackgroundRun | None, after: int) -> Reply:
        if run is not None:
            run.check_position(after)
            return self._streamed(run.follow(after))
        response = await self._store.response(call.owner, call.caller.path_args["response"])
        if not response.background:
            message = "Only the stream of a background response can be read again."
            raise InvalidField("stream", "unsupported", message)
        if not response.frames:
            # They were lost with a server, or were too many to be stored.
            end = last_frames(response.body, after + 1)
            return self._streamed(_once(self._dialect.framing.encode(end)))
        # The last frame comes in any case: a stream without its end is one that broke off.
        begin = min(after + 1, len(response.frames) - 1)
        return self._streamed(_once(b"".join(response.frames[begin:])))

    def _streamed(
        self, body: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
    ) -> Reply:
        return Reply(body, headers or {}, self._dialect.framing.media_type)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
