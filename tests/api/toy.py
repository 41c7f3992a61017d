"""A dialect that nobody speaks, to show what one needs and that the rest of `api` knows none.

A request is `{"say": "...", "to": "model", "live": true}`. The answer is lines: `{"lines": [...]}`
at once, or one named event a line. Errors are `{"oops": {"what", "field"}}`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec

from mlxd.api.dialect import Caller, ErrorReply, Frame, JsonObject, ParsedCall, Route
from mlxd.errors import (
    BodyTooLarge,
    GenerationError,
    InternalError,
    InvalidField,
    MethodNotAllowed,
    MlxdError,
    RouteNotFound,
    Unauthorized,
    Unavailable,
    revive,
)
from mlxd.events import (
    Answer,
    BlockDelta,
    BlockEnd,
    BlockStart,
    Event,
    Failed,
    Finished,
    Progress,
    Started,
    part_text,
)
from mlxd.messages import GenerateRequest, Message, OutputPart, Source, Text, ToolCall

KNOWN = ("say", "to", "live")
STATUSES: dict[type, int] = {
    Unavailable: 529,
    GenerationError: 500,
    Unauthorized: 401,
    RouteNotFound: 404,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
}


class Toy:
    """The dialect."""

    name = "toy"
    routes = (Route("POST", "/toy/<language>/say", "generate"),)

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        if not isinstance(body.get("say"), str):
            raise InvalidField("say", "type", "say must be a string")
        request = GenerateRequest(
            id=caller.request_id,
            model=body.get("to", ""),
            messages=(Message("user", (Text(body["say"]),)),),
            source=Source(dialect=self.name, key=caller.key),
        )
        return ParsedCall(
            requests=(request,),
            stream=bool(body.get("live")),
            renderer=ToyRenderer(caller.path_args["language"]),
            asked_model=body.get("to", ""),
            ignored=tuple(name for name in body if name not in KNOWN),
        )

    def error(self, error: MlxdError, caller: Caller) -> ErrorReply:
        status = next((STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES), 400)
        return ErrorReply(status, oops(error))


class ToyRenderer:
    """Lines, each with the language of the path in front."""

    def __init__(self, language: str) -> None:
        self._language = language

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        match event:
            case BlockEnd(part=part):
                yield self._frame("line", self._line(part))
            case Finished(reason=reason):
                yield self._frame("end", reason)
            case Failed(error=error):
                yield Frame(msgspec.json.encode(oops(revive(error))), "oops")
            case Started() | Progress() | BlockStart() | BlockDelta():
                pass

    def idle(self) -> Iterable[Frame]:
        return (self._frame("waiting", None),)

    def end(self) -> Iterable[Frame]:
        return (self._frame("over", None),)

    def body(self, answers: Sequence[Answer]) -> bytes:
        (answer,) = answers
        lines = [self._line(part) for part in answer.parts]
        return msgspec.json.encode({"lines": lines, "end": answer.finished.reason})

    def _line(self, part: OutputPart) -> str:
        name = f"{part.name} " if isinstance(part, ToolCall) else ""
        return f"{self._language}: {name}{part_text(part)}"

    def _frame(self, event: str, data: object) -> Frame:
        return Frame(msgspec.json.encode(data), event)


class BrokenToy(Toy):
    """The same with bugs: in parsing, or in rendering once the answer has begun."""

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        call = super().parse(body, caller)
        if body["say"] == "break":
            raise ZeroDivisionError(body["say"])
        return replace(call, renderer=BrokenRenderer("en"))


class BrokenRenderer(ToyRenderer):
    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        if isinstance(event, BlockDelta):
            raise ZeroDivisionError(event.text)
        return super().frames(choice, event)


def oops(error: MlxdError) -> JsonObject:
    """The envelope."""
    field = error.field if isinstance(error, InvalidField) else None
    what = "internal" if isinstance(error, InternalError) else str(error)
    return {"oops": {"what": what, "field": field}}
