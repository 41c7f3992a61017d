"""The contract between a dialect and the one path that serves all of them.

A dialect is a folder: how its bodies become `GenerateRequest`s, how events become its frames, what
its errors and its list of models look like. It does no I/O. One that has endpoints of its own
besides brings them as `api.endpoints.Endpoints`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

import msgspec

from mlxd.errors import InvalidField, MlxdError
from mlxd.events import Answer, Event
from mlxd.messages import GenerateRequest
from mlxd.status import ModelInfo

JsonObject = dict[str, Any]


class Frame(msgspec.Struct, frozen=True):
    """One piece of a stream: `data` is JSON or a literal, one line; `event` is its name, if any."""

    data: bytes
    event: str | None = None


class Framing(Protocol):
    """How the frames of a stream are written."""

    media_type: str
    """The stream's `content-type`."""
    keep_alive: bytes
    """What clients skip, written into a silent stream; empty where there is no such thing."""

    def encode(self, frames: Iterable[Frame]) -> bytes:
        """The frames as they go over the wire."""


@dataclass(frozen=True)
class Caller:
    """Who calls, and when.

    `key` is a short hash of the API key, empty when none is configured; `created` is when the
    request arrived, in seconds since 1970; `rule` is the route's, and `path_args` its arguments.
    `best_priority` is the most that its requests get of `GenerateRequest.priority`.
    """

    request_id: str
    key: str = ""
    best_priority: int = 0
    created: int = 0
    path_args: Mapping[str, str] = field(default_factory=dict)
    validation_status: int = 400
    rule: str = ""


@dataclass(frozen=True)
class ErrorReply:
    """An error in a dialect's own shape: HTTP status, JSON body, headers."""

    status: int
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict)


class StreamRenderer(Protocol):
    """Turns one exchange's events into one dialect's frames; has state, one a request.

    `choice` is the number of the generation, 0 except where a request asks for several answers.
    """

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        """The frames that `event` becomes, in order; may be none.

        For `Failed` these are the dialect's in-band error and its proper end of stream.
        """

    def idle(self) -> Iterable[Frame]:
        """What a silent stream gets before the first block; none for the framing's keep-alive.

        Where the framing has no keep-alive, a silent stream gets this at any time.
        """

    def end(self) -> Iterable[Frame]:
        """The frames after the last choice's terminal event."""


class Renderer(StreamRenderer, Protocol):
    """The same for callers who want the answer whole."""

    def body(self, answers: Sequence[Answer]) -> bytes:
        """The JSON body of a whole answer, one `Answer` a choice."""


@dataclass(frozen=True)
class Call:
    """What is to be generated for one HTTP call, and how it is shown.

    One `GenerateRequest` a choice; `requested_model` is the name the caller wrote (empty: the
    default); `ignored` are the wire fields that were not honoured and change nothing. `places` are
    the paths in the caller's body of what the engine names otherwise, without what is inside.
    `needed` are, by the engine's names, wishes that the call does not go on without, each with the
    refusal where the model can't follow it.
    """

    requests: tuple[GenerateRequest, ...]
    stream: bool
    renderer: StreamRenderer
    requested_model: str
    ignored: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    needed: Mapping[str, MlxdError] = field(default_factory=dict)

    @contextmanager
    def in_callers_words(self) -> Iterator[None]:
        """Faults that the engine finds are raised with the caller's names of the fields."""
        try:
            yield
        except InvalidField as error:
            raise replace(error, field=self.as_sent(error.field)) from None

    def as_sent(self, field: str) -> str:
        """The path in the caller's body of a `field` of the neutral request; both dotted."""
        whole = field
        while whole:
            if whole in self.places:
                return self.places[whole] + field[len(whole) :]
            whole = whole.rpartition(".")[0]
        return field


@dataclass(frozen=True)
class ParsedCall(Call):
    """A request body, understood; `counted` makes the body for its number of prompt tokens."""

    renderer: Renderer
    counted: Callable[[int], JsonObject] = lambda tokens: {"tokens": tokens}


Parse = Callable[[JsonObject, Caller], ParsedCall]
"""Understands a body; raises `InvalidField`; sees no settings but what the caller carries."""


class Operation(Enum):
    """What the one path does for a route."""

    GENERATE = "generate"
    COUNT = "count"
    """Say how many tokens the prompt has."""
    MODELS = "models"
    MODEL = "model"
    """One model, named by the path's argument `name`."""


@dataclass(frozen=True)
class Route:
    """A path of a dialect, in Quart's rule syntax; `parse` where it has a body.

    With a `header`, only requests that carry it are this dialect's: vendors share some paths.
    """

    rule: str
    operation: Operation
    parse: Parse | None = None
    header: str = ""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "POST" if self.parse else "GET"


@dataclass(frozen=True)
class Trial:
    """A first request for a newcomer, to be sent to the path as JSON.

    Short and streamed: on a slow machine a whole answer without a limit takes minutes.
    """

    path: str
    body: JsonObject


class Dialect(Protocol):
    """One wire format."""

    name: str
    """As in the configuration's `dialects`."""
    title: str
    """What dashboards show, in a word."""
    base_path: str
    """What its clients want at the end of their base URL: `/v1`, or nothing."""
    framing: Framing
    routes: Sequence[Route]
    prefixes: Sequence[str] = ()
    """Paths below which errors are in its shape, besides the base path and its routes."""
    session_headers: Sequence[str] = ()
    """Headers in which its own clients name their session."""
    ports: Sequence[int] = ()
    """Ports that its clients expect a server at, besides the configured one."""
    greeting: str = ""
    """What `/` answers there, as plain text."""

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        """The reply for an error before the first byte."""

    def headers(self, caller: Caller) -> Mapping[str, str]:
        """What every response on its paths carries besides."""
        return {}

    def trial(self, model: str) -> Trial | None:
        """What to try it with; None where there is nothing short."""
        return None

    def model_list(self, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """The body that lists `models`; `created` in seconds since 1970."""

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
        """The body for the one of `models` that answers to `name`; raises `ModelNotFound`."""
