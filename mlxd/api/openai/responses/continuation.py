"""One turn of something remembered: what a call goes on from, and how its answer is kept."""

import secrets
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace

import msgspec
from msgspec.structs import replace as with_fields

from mlxd.api.dialect import AnsweredCall, MemoryCall, Past, Settled
from mlxd.api.http.body import in_turns
from mlxd.api.http.exchange import End, Exchange, open_exchange
from mlxd.api.http.request_log import Record
from mlxd.engine.interface import Engine
from mlxd.errors import (
    ContextTooLong,
    ConversationNotFound,
    InvalidField,
    PreviousNotFound,
    ResponseNotFound,
    StoreUnavailable,
)
from mlxd.events import Failed
from mlxd.history import RUNNING, Item, ResponseState, Store, StoredResponse
from mlxd.messages import GenerateRequest

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
class Turn:
    """A call with its past, ready to be answered by `model`."""

    call: MemoryCall
    answer: AnsweredCall
    owner: str
    model: str
    created: float
    origin: Origin

    @property
    def group(self) -> str:
        """What the turns of one conversation have in common."""
        return self.call.conversation or self.origin.root or self.call.id

    def fitted(self, answer: AnsweredCall) -> "Turn":
        """The same turn with another `answer`, which becomes the model's and this group's."""
        requests = tuple(self._fit(each) for each in answer.requests)
        return replace(self, answer=replace(answer, requests=requests))

    def shortened(self, error: ContextTooLong) -> "Turn":
        """Without the oldest part of the history; raises `error` where that can't be."""
        shorter = self.answer.shorter(error.prompt_tokens, error.context_length)
        if shorter is None:
            raise error
        return self.fitted(shorter)

    def seeded(self) -> "Turn":
        """With a seed, so that the answer can be generated again."""
        requests = tuple(_seeded(each) for each in self.answer.requests)
        return replace(self, answer=replace(self.answer, requests=requests))

    def kept(self, settled: Settled, frames: Sequence[bytes] = ()) -> StoredResponse:
        """What is stored of it. A failed turn leaves its conversation as it was."""
        call, origin = self.call, self.origin
        return StoredResponse(
            id=call.id,
            owner=self.owner,
            created=self.created,
            state=settled.state,
            body=msgspec.json.encode(settled.body),
            input=(*origin.carried, *self.answer.input),
            output=settled.output,
            previous=origin.previous,
            root=origin.root,
            conversation=call.conversation if self.appends(settled) else "",
            background=call.background,
            frames=tuple(frames),
        )

    def appends(self, settled: Settled) -> bool:
        """Whether what was said becomes part of a conversation; what failed does not."""
        return self.call.appends and bool(self.call.conversation) and settled.state != "failed"

    def alone(self) -> "Turn":
        """The same turn when what it went on from is gone: it keeps the whole history itself."""
        origin = Origin(self.origin.items, self.origin.root, carried=self.origin.items)
        return replace(self, call=replace(self.call, conversation=""), origin=origin)

    def unfinished(self, state: ResponseState) -> StoredResponse:
        """What is stored while it runs."""
        return self.kept(Settled(state, self.answer.renderer.snapshot()))

    def _fit(self, request: GenerateRequest) -> GenerateRequest:
        source = request.source
        group = source.conversation or self.group
        return with_fields(
            request, model=self.model, source=with_fields(source, conversation=group)
        )


def _seeded(request: GenerateRequest) -> GenerateRequest:
    if request.sampling.seed is not None:
        return request
    sampling = with_fields(request.sampling, seed=secrets.randbelow(2**31))
    return with_fields(request, sampling=sampling)


async def keep(store: Store, turn: Turn, settled: Settled, frames: Sequence[bytes] = ()) -> None:
    """Store what a turn has become, as far as its caller wants that kept.

    What it went on from may have been deleted meanwhile. Raises `StoreUnavailable`.
    """
    if turn.call.store:
        try:
            await store.put_response(turn.kept(settled, frames))
        except (PreviousNotFound, ConversationNotFound):
            await store.put_response(turn.alone().kept(settled, frames))
    elif turn.appends(settled):
        items = (*turn.answer.input, *settled.output)
        with suppress(ConversationNotFound):
            await store.add_items(turn.owner, turn.call.conversation, items)


class Settling:
    """An exchange's `settle`: stores the answer before its end is told.

    What can't be stored has failed. A whole answer that failed is an error without an id, and is
    not stored.
    """

    def __init__(self, store: Store, turn: Turn, *, whole: bool) -> None:
        self._store = store
        self._turn = turn
        self._whole = whole
        self._settled: Settled | None = None

    async def __call__(self, end: End) -> End:
        failed = isinstance(end, Failed)
        if failed and self._whole:
            return end
        settled = self._turn.answer.renderer.settle(end)
        try:
            await keep(self._store, self._turn, settled)
        except StoreUnavailable as error:
            return end if failed else Failed(error.report(), usage=end.usage)
        if not failed:
            self._settled = settled
        return end

    def latest(self) -> Latest | None:
        """The answer as something to go on from; None while there is none, or if it failed."""
        if self._settled is None:
            return None
        turn = self._turn
        items = (*turn.origin.items, *turn.answer.input, *self._settled.output)
        root = turn.origin.root or turn.call.id
        return Latest(turn.call.id, root, items, stored=turn.call.store)


class Memory:
    """Makes turns of calls, and opens their exchanges."""

    def __init__(self, store: Store, engine: Engine, *, idle: float) -> None:
        self.store = store
        self._engine = engine
        self._idle = idle

    async def turn(
        self, call: MemoryCall, owner: str, model: str, *, created: float, latest: Latest | None
    ) -> Turn:
        """`call` with what it goes on from: `latest`, or what the store has.

        Raises `PreviousNotFound`, `ConversationNotFound`, `ItemNotFound`, `InvalidField`.
        """
        origin = await self._origin(call, owner, latest)
        referenced = await self.store.find_items(owner, call.references) if call.references else {}
        past = Past(origin.items, referenced)
        answer = await in_turns(_size(origin.items), lambda: call.recall(past))
        return Turn(call, answer, owner, model, created, origin).fitted(answer)

    async def open(
        self, turn: Turn, stack: AsyncExitStack, record: Record
    ) -> tuple[Exchange, Settling]:
        """The turn's exchange, entered on `stack`, the history shortened if need be."""
        for _ in range(MAX_SHORTENED):
            try:
                return await self._enter(turn, stack, record)
            except ContextTooLong as error:
                turn = turn.shortened(error)
        return await self._enter(turn, stack, record)

    async def _enter(
        self, turn: Turn, stack: AsyncExitStack, record: Record
    ) -> tuple[Exchange, Settling]:
        exchange = await open_exchange(
            self._engine, turn.answer, stack, record=record, idle=self._idle
        )
        exchange.settle = settling = Settling(self.store, turn, whole=not turn.call.stream)
        return exchange, settling

    async def _origin(self, call: MemoryCall, owner: str, latest: Latest | None) -> Origin:
        if latest is not None and call.previous == latest.id:
            return latest.origin()
        if call.previous:
            return await self._after(call.previous, owner)
        if call.conversation:
            return Origin(await self.store.past(owner, conversation=call.conversation))
        return Origin()

    async def _after(self, previous: str, owner: str) -> Origin:
        try:
            response = await self.store.response(owner, previous)
            items = await self.store.past(owner, previous=previous)
        except ResponseNotFound as error:
            raise PreviousNotFound(previous) from error
        if response.state in RUNNING:
            message = f"The response '{previous}' has not ended yet; wait for it, or cancel it."
            raise InvalidField("previous_response_id", "value", message)
        return Origin(items, response.root or response.id, previous)


def _size(items: Iterable[Item]) -> int:
    return sum(len(item.body) for item in items)
