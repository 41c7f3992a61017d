"""The contract between a dialect and the one path that serves all of them.

A dialect is one file: how its bodies become `GenerateRequest`s, how events become its frames, and a
table of its errors. It knows the kernel and this file; it does no I/O.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import msgspec

from mlxd.errors import MlxdError
from mlxd.events import Answer, Event, Failed, Finished, Usage
from mlxd.history import Item, ResponseState
from mlxd.messages import GenerateRequest

JsonObject = dict[str, Any]


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event: `data` is JSON or a literal, one line; `event` is its name, if any.

    A frame with `comment` set is an SSE comment that clients ignore.
    """

    data: bytes = b""
    event: str | None = None
    comment: str | None = None


KEEP_ALIVE = Frame(comment="keep-alive")


@dataclass(frozen=True)
class Route:
    """A path of a dialect: Quart's rule syntax, and the name of the operation behind it.

    The operations are `generate`, `count` (the tokens of a prompt), and `models` and `model`, whose
    paths all dialects share: with a `header`, only requests that carry it are this dialect's.
    `deployments` lists models as Azure does; `root` serves nothing, but claims what is below it.

    With a memory there are also `respond`, `compact` (a `respond` that is never stored), `socket`
    (a WebSocket whose messages are bodies of `respond`), `response`, `delete_response`,
    `cancel_response`, `input_items`, `create_conversation`, `conversation`, `update_conversation`,
    `delete_conversation`, `items`, `add_items`, `item` and `delete_item`. The arguments of their
    paths are named `response`, `conversation` and `item`.
    """

    method: str
    rule: str
    operation: str
    header: str = ""


@dataclass(frozen=True)
class Caller:
    """Who asks, and when.

    `key` is a short hash of the API key, empty when none is configured; `created` is when the
    request arrived, in seconds since 1970; `operation` and `rule` are those of the route.
    """

    request_id: str
    key: str = ""
    created: int = 0
    path_args: Mapping[str, str] = field(default_factory=dict)
    validation_status: int = 400
    operation: str = "generate"
    rule: str = ""


@dataclass(frozen=True)
class ErrorReply:
    """An error in a dialect's own shape: HTTP status, JSON body, headers."""

    status: int
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict)


class Renderer(Protocol):
    """Turns one exchange's events into one dialect's frames or body; has state, one a request.

    `choice` is the number of the generation, 0 except where a request asked for several answers.
    """

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """The frames that `event` becomes, in order; may be none.

        For `Failed` these are the dialect's in-band error and its proper end of stream.
        """

    def idle(self) -> Iterable[Frame]:
        """What keeps the stream alive while the request is queued or in prefill."""

    def end(self) -> Iterable[Frame]:
        """The frames after the last choice's terminal event."""

    def body(self, answers: Sequence[Answer]) -> bytes:
        """The whole JSON body of a non-streaming response."""


@dataclass(frozen=True)
class ParsedCall:
    """A request body, understood.

    One `GenerateRequest` a choice; `ignored` are the wire fields that were not honoured and change
    nothing; `asked_model` is the name the caller wrote (empty: the default). `counted` makes the
    body of the number of prompt tokens, where the operation is `count`.
    """

    requests: tuple[GenerateRequest, ...]
    stream: bool
    renderer: Renderer
    asked_model: str
    ignored: tuple[str, ...] = ()
    counted: Callable[[int], JsonObject] | None = None


class Answering(Renderer, Protocol):
    """A renderer of an answer that is itself an object with an id and a state."""

    def snapshot(self) -> JsonObject:
        """The object as it is after the events so far."""

    def settle(self, event: Finished | Failed) -> "Settled":
        """What the terminal `event` will make of the answer, to be stored before it is told.

        Changes nothing that a reader sees; `frames` with the same event comes next, or with a
        `Failed` when storing failed.
        """

    def cancel(self, usage: Usage) -> Iterable[Frame]:
        """The frames that end a cancelled answer; afterwards `snapshot` says `cancelled`."""


@dataclass(frozen=True)
class Settled:
    """A finished answer: its state, the object and its output items."""

    state: ResponseState
    body: JsonObject
    output: tuple[Item, ...] = ()


@dataclass(frozen=True)
class AnsweredCall(ParsedCall):
    """A call whose renderer makes an object that can be asked for again.

    `input` is what the call adds to the history, with what it mentions by id put in: this is what
    is stored. `shorter` leaves out the oldest part of the history, where the caller allows that for
    a prompt too long: of `tokens` only `window` fit. None when nothing can be left out any more.
    """

    renderer: Answering
    input: tuple[Item, ...] = ()
    shorter: Callable[[int, int], "AnsweredCall | None"] = lambda tokens, window: None


@dataclass(frozen=True)
class Past:
    """What a call builds on: items, oldest first, and those it refers to by their ids."""

    items: Sequence[Item] = ()
    referenced: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True)
class MemoryCall:
    """A request body, understood as far as that goes without the store.

    `previous` or `conversation` names what it goes on from, `references` the items it mentions by
    id alone, `input` what it adds to the history. `store` says that the response can be asked for
    again, `appends` that what is said in it becomes part of `conversation`, stored or not. `recall`
    makes the whole call; it raises `InvalidField` or `ItemNotFound`.
    """

    id: str
    asked_model: str
    stream: bool
    store: bool
    background: bool
    recall: Callable[[Past], AnsweredCall]
    previous: str = ""
    conversation: str = ""
    appends: bool = False
    references: tuple[str, ...] = ()
    input: tuple[Item, ...] = ()
    ignored: tuple[str, ...] = ()


class Dialect(Protocol):
    """One wire format."""

    @property
    def name(self) -> str:
        """As in the configuration's `dialects`."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The generation routes; the envelope of an error follows the path."""

    def parse(self, body: JsonObject, caller: Caller) -> "ParsedCall | MemoryCall":
        """Raises `InvalidField`; sees no settings but what `caller` carries."""

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """The reply for an error before the first byte."""


@runtime_checkable
class ItemDialect(Dialect, Protocol):
    """A dialect whose callers keep items on the server."""

    def references(self, values: object, field: str) -> tuple[str, ...]:
        """The ids of items that `values` mentions and does not hold; raises `InvalidField`."""

    def items(self, values: object, field: str, referenced: Mapping[str, Item]) -> tuple[Item, ...]:
        """Items as a caller wrote them in `field`, each with an id, those it mentions put in.

        Raises `InvalidField` or `ItemNotFound`.
        """

    def metadata(self, value: object) -> bytes:
        """A caller's `metadata` as JSON; raises `InvalidField`."""

    def ending(self, body: bytes, number: int) -> Iterable[Frame]:
        """The end of the stream of an ended response whose frames are gone; `number` comes next.

        `body` is the response as JSON.
        """
