"""What a call goes on from, and how its answer is stored."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
from msgspec.structs import replace as with_fields

from mlxd.api.dialect import Caller
from mlxd.api.http.body import in_turns
from mlxd.api.http.exchange import End, Exchange, open_exchange
from mlxd.api.http.internal_errors import bugs_hidden
from mlxd.api.http.request_log import Record
from mlxd.api.openai.responses.format.calls import (
    FinalState,
    ObjectRenderer,
    Past,
    ResolvedCall,
    UnresolvedCall,
)
from mlxd.engine.interface import Engine
from mlxd.errors import (
    ContextTooLong,
    ConversationNotFound,
    InvalidField,
    PreviousNotFound,
    ResponseNotFound,
    StoreUnavailable,
    revive,
)
from mlxd.events import Failed
from mlxd.history import RUNNING, Item, ResponseState, Store, StoredResponse

Begun = TypeVar("Begun")

MAX_SHORTENED = 8
"""How often the oldest part of a history is left out until the rest fits."""


@dataclass(frozen=True)
class Origin:
    """What a call goes on from.

    `root` is the first response of the chain. `carried` are those of the `items` that the store
    does not have under `previous`.
    """

    items: tuple[Item, ...] = ()
    root: str = ""
    previous: str = ""
    carried: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Latest:
    """A response that can be gone on from without the store, with its whole history."""

    id: str
    root: str
    items: tuple[Item, ...]
    stored: bool

    def origin(self) -> Origin:
        """It, as the beginning of another turn."""
        if self.stored:
            return Origin(self.items, self.root, previous=self.id)
        return Origin(self.items, self.root, carried=self.items)


@dataclass(frozen=True)
class StatefulCall:
    """A call with its past, ready to be answered by `model`."""

    call: UnresolvedCall
    answer: ResolvedCall
    owner: str
    model: str
    created: float
    origin: Origin

    @property
    def group(self) -> str:
        """What the turns of one conversation have in common."""
        return self.call.conversation or self.origin.root or self.call.id

    def fitted(self, answer: ResolvedCall) -> "StatefulCall":
        """The same call with another `answer`, which becomes the model's and this group's."""
        requests = []
        for request in answer.requests:
            group = request.source.conversation or self.group
            source = with_fields(request.source, conversation=group)
            requests.append(with_fields(request, model=self.model, source=source))
        return replace(self, answer=replace(answer, requests=tuple(requests)))

    def shortened(self, error: ContextTooLong) -> "StatefulCall":
        """Without the oldest part of the history; raises `error` where that can't be."""
        shorter = self.answer.shorter(error.prompt_tokens, error.context_length)
        if shorter is None:
            raise error
        return self.fitted(shorter)

    def seeded(self) -> "StatefulCall":
        """With a seed, so that the answer can be generated again."""
        requests = []
        for request in self.answer.requests:
            seed = request.sampling.seed
            seed = secrets.randbelow(2**31) if seed is None else seed
            sampling = with_fields(request.sampling, seed=seed)
            requests.append(with_fields(request, sampling=sampling))
        return replace(self, answer=replace(self.answer, requests=tuple(requests)))

    def stored(self, final: FinalState, frames: Sequence[bytes] = ()) -> StoredResponse:
        """What is stored of it. A failed answer leaves its conversation as it was."""
        call, origin = self.call, self.origin
        return StoredResponse(
            id=call.id,
            owner=self.owner,
            created=self.created,
            state=final.state,
            body=msgspec.json.encode(final.body),
            input=(*origin.carried, *self.answer.input),
            output=final.output,
            previous=origin.previous,
            root=origin.root,
            conversation=call.conversation if self.appends(final) else "",
            background=call.background,
            frames=tuple(frames),
        )

    def appends(self, final: FinalState) -> bool:
        """Whether it becomes part of a conversation; what failed does not."""
        return self.call.appends and bool(self.call.conversation) and final.state != "failed"

    def alone(self) -> "StatefulCall":
        """The same call when what it went on from is gone: it holds the whole history itself."""
        origin = Origin(self.origin.items, self.origin.root, carried=self.origin.items)
        return replace(self, call=replace(self.call, conversation=""), origin=origin)

    def unfinished(self, state: ResponseState) -> StoredResponse:
        """What is stored while it runs."""
        return self.stored(FinalState(state, self.answer.renderer.snapshot()))


async def begin_fitting(
    turn: StatefulCall, begin: Callable[[StatefulCall], Awaitable[Begun]]
) -> Begun:
    """What `begin` makes of the call, its history shortened as often as that is too long."""
    for _ in range(MAX_SHORTENED):
        try:
            return await begin(turn)
        except ContextTooLong as error:
            turn = turn.shortened(error)
    return await begin(turn)


async def store_final(
    store: Store, turn: StatefulCall, final: FinalState, frames: Sequence[bytes] = ()
) -> None:
    """Store what a call has become, as far as its caller wants that.

    What it went on from may have been deleted meanwhile. Raises `StoreUnavailable`.
    """
    if turn.call.store:
        try:
            await store.put_response(turn.stored(final, frames))
        except (PreviousNotFound, ConversationNotFound):
            # Its caller waits for this answer, and may go on from it by its id.
            await store.put_response(turn.alone().stored(final, frames))
    elif turn.appends(final):
        items = (*turn.answer.input, *final.output)
        with suppress(ConversationNotFound):
            await store.add_items(turn.owner, turn.call.conversation, items)


class StoreBeforeEnd:
    """An exchange's `before_end`: stores the answer before its end is sent.

    A client that has seen the end can go on from it, whatever happens to the server next.

    What can't be stored has failed. A whole answer that failed is an error without an id, and is
    not stored.
    """

    def __init__(self, store: Store, turn: StatefulCall, *, whole: bool) -> None:
        self._store = store
        self._turn = turn
        self._whole = whole
        self._final: FinalState | None = None

    async def __call__(self, end: End) -> End:
        failed = isinstance(end, Failed)
        if failed and self._whole:
            return end
        final = self._turn.answer.renderer.final(end)
        try:
            await store_final(self._store, self._turn, final)
        except StoreUnavailable as error:
            return end if failed else Failed(error.report(), usage=end.usage)
        if not failed:
            self._final = final
        return end

    def latest(self) -> Latest | None:
        """The answer as something to go on from; None while there is none, or if it failed."""
        if self._final is None:
            return None
        turn = self._turn
        items = (*turn.origin.items, *turn.answer.input, *self._final.output)
        root = turn.origin.root or turn.call.id
        return Latest(turn.call.id, root, items, stored=turn.call.store)


class Continuations:
    """Gives calls their past, and opens their exchanges."""

    def __init__(self, store: Store, engine: Engine, *, idle: float) -> None:
        self.store = store
        self._engine = engine
        self._idle = idle

    async def resolved(
        self, call: UnresolvedCall, caller: Caller, model: str, *, latest: Latest | None
    ) -> StatefulCall:
        """`call` with what it goes on from: `latest`, or what the store has.

        Raises `PreviousNotFound`, `ConversationNotFound`, `ItemNotFound`, `InvalidField`.
        """
        owner = caller.key
        origin = await self._origin(call, owner, latest)
        referenced = await self.store.find_items(owner, call.references) if call.references else {}
        past = Past(origin.items, referenced)
        # A long history takes long to read, and others stream meanwhile.
        size = sum(len(item.body) for item in origin.items)
        answer = await in_turns(size, lambda: call.resolve(past))
        turn = StatefulCall(call, answer, owner, model, float(caller.created), origin)
        return turn.fitted(answer)

    async def open(
        self, turn: StatefulCall, stack: AsyncExitStack, record: Record
    ) -> tuple[Exchange, StoreBeforeEnd]:
        """The call's exchange, entered on `stack`, the history shortened if need be."""

        async def begin(turn: StatefulCall) -> tuple[Exchange, StoreBeforeEnd]:
            exchange = await open_exchange(
                self._engine, turn.answer, stack, record=record, idle=self._idle
            )
            stores = StoreBeforeEnd(self.store, turn, whole=not turn.call.stream)
            exchange.before_end = stores
            return exchange, stores

        return await begin_fitting(turn, begin)

    async def _origin(self, call: UnresolvedCall, owner: str, latest: Latest | None) -> Origin:
        previous = call.previous
        if latest is not None and previous == latest.id:
            return latest.origin()
        if call.conversation:
            return Origin(await self.store.past(owner, conversation=call.conversation))
        if not previous:
            return Origin()
        try:
            response = await self.store.response(owner, previous)
            items = await self.store.past(owner, previous=previous)
        except ResponseNotFound as error:
            raise PreviousNotFound(previous) from error
        if response.state in RUNNING:
            message = f"The response '{previous}' has not ended yet; wait for it, or cancel it."
            raise InvalidField("previous_response_id", "value", message)
        return Origin(items, response.root or response.id, previous)


async def whole_body(exchange: Exchange, renderer: ObjectRenderer) -> bytes:
    """The object after the whole answer, as JSON; raises the error of a failed generation."""
    # The same frames as of a stream, thrown away: the object is what the renderer is left with.
    with bugs_hidden(exchange.record.id):
        async with aclosing(exchange.rendered()) as batches:
            async for _ in batches:
                pass
        end = exchange.record.terminals[0]
        if isinstance(end, Failed):
            raise revive(end.error)
        return msgspec.json.encode(renderer.snapshot())
