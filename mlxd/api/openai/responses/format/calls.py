"""A Responses request on its way: what is understood without the store, and what with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mlxd.api.dialect import Call, Frame, JsonObject, StreamRenderer
from mlxd.events import Failed, Finished, Usage
from mlxd.history import Item, ResponseState


@dataclass(frozen=True)
class FinalState:
    """A finished answer: its state, the object and its output items."""

    state: ResponseState
    body: JsonObject
    output: tuple[Item, ...] = ()


class ObjectRenderer(StreamRenderer, Protocol):
    """A renderer of an answer that is itself an object with an id and a state."""

    def snapshot(self) -> JsonObject:
        """The object as it is after the events so far."""

    def final(self, event: Finished | Failed) -> FinalState:
        """What the terminal `event` will make of the answer, to be stored before it is shown.

        Changes nothing that a reader sees; `frames` with the same event comes next, or with a
        `Failed` when storing failed.
        """

    def cancel(self, usage: Usage) -> Iterable[Frame]:
        """The frames that end a cancelled answer; afterwards `snapshot` says `cancelled`."""


@dataclass(frozen=True)
class ResolvedCall(Call):
    """A call with its history, ready to be generated.

    `input` is what the call adds to the history, with what it mentions by id put in: this is what
    is stored. `shorter` leaves out the oldest part of the history, where the caller allows that for
    a prompt too long: of `tokens` only `window` fit. None when nothing can be left out any more.
    """

    renderer: ObjectRenderer
    input: tuple[Item, ...] = ()
    shorter: Callable[[int, int], "ResolvedCall | None"] = lambda tokens, window: None


@dataclass(frozen=True)
class Past:
    """What a call builds on: items, oldest first, and those it refers to by their ids."""

    items: Sequence[Item] = ()
    referenced: Mapping[str, Item] = field(default_factory=dict)


@dataclass(frozen=True)
class UnresolvedCall:
    """A request body, understood as far as that goes without the store.

    `previous` or `conversation` names what it goes on from, `references` the items it mentions by
    id alone, `input` what it adds to the history. `store` says that the response can be requested
    again, `appends` that what is said in it becomes part of `conversation`, stored or not.
    `resolve` makes the whole call; it raises `InvalidField` or `ItemNotFound`.
    """

    id: str
    requested_model: str
    resolve: Callable[[Past], ResolvedCall]
    stream: bool = False
    store: bool = False
    background: bool = False
    previous: str = ""
    conversation: str = ""
    appends: bool = False
    references: tuple[str, ...] = ()
    input: tuple[Item, ...] = ()
