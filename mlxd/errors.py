"""Every way mlxd says no, as facts; a dialect turns them into statuses and words.

    MlxdError
    ├── ConfigError                 the configuration can't be used; nothing was started
    ├── ModelUnusable               a model's files can't be used
    ├── RequestError                asking again unchanged will fail again
    │   ├── Explained               what is wrong is a sentence
    │   │   ├── MalformedRequest    not HTTP as it is spoken here, or not whole in time
    │   │   ├── Unauthorized        no key, a wrong key, or two different keys
    │   │   ├── Forbidden           this Host or Origin is not allowed
    │   │   └── NotCancellable      the response is not one that can be cancelled
    │   ├── InvalidBody             not JSON, not an object, or hostile JSON
    │   ├── BodyTooLarge
    │   ├── BodyTooSlow
    │   ├── InvalidField            one field is missing, wrong, or not honoured here
    │   ├── ModelNotFound
    │   ├── ContextTooLong          the prompt does not fit the model's window
    │   ├── NotStored               the store has no such response, conversation or item
    │   │   ├── ResponseNotFound
    │   │   ├── PreviousNotFound    the response that a new one is to go on from
    │   │   ├── ConversationNotFound
    │   │   └── ItemNotFound
    │   ├── RouteNotFound
    │   └── MethodNotAllowed
    ├── Unavailable                 asking again later may work
    │   ├── QueueFull
    │   ├── Overloaded              too much of something else at once
    │   ├── RateLimited             this caller asks too often
    │   ├── ModelLoading
    │   ├── StoreUnavailable        what has to be remembered can't be written
    │   ├── EngineStopped           the server is shutting down
    │   └── EngineFailed            the engine crashes in a loop; it is being retried with backoff
    └── GenerationError             the request was accepted and did not end well
        ├── EngineCrashed           the engine process died
        ├── EngineStalled           the engine process made no progress
        ├── Cancelled               someone who runs the server has ended the request
        ├── DeadlineExceeded
        ├── OutOfMemory
        ├── InvalidLogits           the model computed NaN or infinity
        └── InternalError           a bug of ours

Errors carry facts as fields and cross the engine's socket as an `ErrorReport`.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import msgspec

FieldProblem = Literal["missing", "type", "value", "unsupported"]
LONGEST_ID = 256
"""Characters of an id that nobody knows, as far as it is repeated."""


class ErrorReport(msgspec.Struct, frozen=True):
    """An error as data: its class's name and its fields."""

    kind: str
    facts: dict[str, Any]


@dataclass(eq=False)
class MlxdError(Exception):
    """Root of everything mlxd raises on purpose."""

    def report(self) -> ErrorReport:
        """This error as data that can cross a socket or stand in a script."""
        return ErrorReport(
            kind=type(self).__name__,
            facts={field.name: getattr(self, field.name) for field in fields(self)},
        )


@dataclass(eq=False)
class ConfigError(MlxdError):
    """`key` is dotted (`server.port`), empty when the file as a whole is at fault.

    `line` is 0 when unknown; `others` are the further problems of the same configuration.
    """

    file: str
    key: str
    reason: str
    hint: str = ""
    line: int = 0
    others: tuple["ConfigError", ...] = ()

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        reason = f"{self.reason.rstrip('.')}. {self.hint}" if self.hint else self.reason
        line = ": ".join(filter(None, (where, self.key, reason)))
        return "\n".join([line, *map(str, self.others)])


@dataclass(eq=False)
class ModelUnusable(MlxdError):
    """`reason` names a file of the model at most, never a path."""

    model: str
    reason: str

    def __str__(self) -> str:
        return f"Model '{self.model}' can't be used: {self.reason}"


class RequestError(MlxdError):
    """The caller has to change something."""


@dataclass(eq=False)
class Explained(RequestError):
    """`reason` is a whole sentence."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class MalformedRequest(Explained):
    """Its status is HTTP's own."""


@dataclass(eq=False)
class InvalidBody(RequestError):
    reason: str
    EMPTY: ClassVar[str] = "it is empty."

    def __str__(self) -> str:
        return f"The request body can't be used: {self.reason}"


@dataclass(eq=False)
class BodyTooLarge(RequestError):
    """`limit` is in bytes."""

    limit: int

    def __str__(self) -> str:
        return f"The request body is larger than this server takes ({self.limit} bytes)."


@dataclass(eq=False)
class BodyTooSlow(RequestError):
    """`seconds` is how long the body was waited for."""

    seconds: float

    def __str__(self) -> str:
        return f"The request body did not arrive within {self.seconds:.0f} s."


@dataclass(eq=False)
class InvalidField(RequestError):
    """`field` is the wire name as a path (`messages.0.content`); `message` is a whole sentence.

    `code` is the dialect's own finer name of the problem, if it has one.
    """

    field: str
    problem: FieldProblem
    message: str
    code: str = ""

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False)
class ModelNotFound(RequestError):
    model: str
    available: list[str]

    def __str__(self) -> str:
        return f"The model `{self.model}` does not exist. Available: {', '.join(self.available)}."


@dataclass(eq=False)
class ContextTooLong(RequestError):
    prompt_tokens: int
    context_length: int

    def __str__(self) -> str:
        return (
            f"The prompt has {self.prompt_tokens} tokens; the model's context takes "
            f"{self.context_length}."
        )


@dataclass(eq=False)
class Unauthorized(Explained):
    reason: str = "Incorrect API key provided."


class Forbidden(Explained):
    """By the rules of access."""


@dataclass(eq=False)
class NotStored(RequestError):
    """`id` is as the caller wrote it. Someone else's is not found either."""

    id: str
    what: ClassVar[str] = "Object"

    def __str__(self) -> str:
        name = self.id if len(self.id) <= LONGEST_ID else f"{self.id[:LONGEST_ID]}…"
        return f"{self.what} with id '{name}' not found."


@dataclass(eq=False)
class ResponseNotFound(NotStored):
    what = "Response"


@dataclass(eq=False)
class PreviousNotFound(NotStored):
    what = "Previous response"


@dataclass(eq=False)
class ConversationNotFound(NotStored):
    what = "Conversation"


@dataclass(eq=False)
class ItemNotFound(NotStored):
    what = "Item"


@dataclass(eq=False)
class NotCancellable(Explained):
    reason: str = "Cannot cancel a synchronous response."


@dataclass(eq=False)
class RouteNotFound(RequestError):
    method: str
    path: str

    def __str__(self) -> str:
        return f"Unknown request URL: {self.method} {self.path}."


@dataclass(eq=False)
class MethodNotAllowed(RequestError):
    method: str
    path: str

    def __str__(self) -> str:
        return f"Method {self.method} is not allowed for {self.path}."


@dataclass(eq=False)
class Unavailable(MlxdError):
    """`retry_after` is in seconds."""

    retry_after: float = 1.0


@dataclass(eq=False)
class QueueFull(Unavailable):
    limit: int = 0

    def __str__(self) -> str:
        return (
            f"The server is busy: its queue of {self.limit} requests is full. "
            f"Please try again in {self.retry_after:.0f}s."
        )


@dataclass(eq=False)
class Overloaded(Unavailable):
    """`reason` is a whole sentence."""

    reason: str = "The server is busy."

    def __str__(self) -> str:
        return f"{self.reason} Please try again in {self.retry_after:.0f}s."


@dataclass(eq=False)
class RateLimited(Unavailable):
    """`reason` is a whole sentence."""

    reason: str = "Too many requests."

    def __str__(self) -> str:
        return f"{self.reason} Please try again in {self.retry_after:.0f}s."


@dataclass(eq=False)
class ModelLoading(Unavailable):
    model: str = ""

    def __str__(self) -> str:
        return f"The model '{self.model}' is loading. Please try again in {self.retry_after:.0f}s."


@dataclass(eq=False)
class StoreUnavailable(Unavailable):
    """`reason` says in words what the disk or the database said, without a path."""

    reason: str = ""

    def __str__(self) -> str:
        return f"The server can't store the response: {self.reason}."


@dataclass(eq=False)
class EngineStopped(Unavailable):
    def __str__(self) -> str:
        return "The server is shutting down."


@dataclass(eq=False)
class EngineFailed(Unavailable):
    reason: str = ""

    def __str__(self) -> str:
        return f"The inference engine is restarting after a failure: {self.reason}"


class GenerationError(MlxdError):
    """The request was sound; the same request may well work next time."""


@dataclass(eq=False)
class EngineCrashed(GenerationError):
    reason: str

    def __str__(self) -> str:
        return f"The inference engine stopped unexpectedly ({self.reason}). Please retry."


@dataclass(eq=False)
class EngineStalled(GenerationError):
    seconds: float

    def __str__(self) -> str:
        return (
            f"The inference engine made no progress for {self.seconds:.0f} s and was restarted. "
            "Please retry."
        )


@dataclass(eq=False)
class Cancelled(GenerationError):
    def __str__(self) -> str:
        return "The request was cancelled by an administrator of this server."


@dataclass(eq=False)
class DeadlineExceeded(GenerationError):
    seconds: float

    def __str__(self) -> str:
        return f"The request ran longer than this server allows ({self.seconds:.0f} s)."


@dataclass(eq=False)
class OutOfMemory(GenerationError):
    reason: str

    def __str__(self) -> str:
        return f"There is not enough memory for this request: {self.reason}"


@dataclass(eq=False)
class InvalidLogits(GenerationError):
    model: str

    def __str__(self) -> str:
        return f"The model '{self.model}' computed values that are not finite numbers."


@dataclass(eq=False)
class InternalError(GenerationError):
    reason: str = "internal error"

    def __str__(self) -> str:
        return f"The server had an internal error ({self.reason})."


def subclasses(base: type[MlxdError]) -> list[type[MlxdError]]:
    """Every class of the tree below `base`, parents before children."""
    found: list[type[MlxdError]] = []
    for child in base.__subclasses__():
        # Another room may have a kind of its own that it reports as its parent.
        if child.__module__ == __name__:
            found += [child, *subclasses(child)]
    return found


def revive(report: ErrorReport) -> MlxdError:
    """The error that `report` describes; an unknown kind becomes `InternalError`."""
    for cls in subclasses(MlxdError):
        if cls.__name__ == report.kind:
            return cls(**report.facts)
    return InternalError(reason=report.kind)
