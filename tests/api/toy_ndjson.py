"""A dialect that nobody speaks, to show what one needs: contract, framing and kernel alone.

A request is `{"say": "...", "to": "model", "live": true}`. The answer is `{"lines": [...], "end"}`
at once, or one JSON object a line. Errors are `{"oops": {"what", "field"}}`.
"""

from collections.abc import Iterable, Sequence

import msgspec

from mlxd import errors
from mlxd.api.dialect import (
    Caller,
    Dialect,
    ErrorReply,
    Frame,
    Framing,
    JsonObject,
    Operation,
    ParsedCall,
    Route,
)
from mlxd.api.wire.framing import NDJSON
from mlxd.events import Answer, BlockEnd, Event, Failed, Finished, part_text
from mlxd.messages import GenerateRequest, Message, OutputPart, Source, Text, ToolCall
from mlxd.status import ModelInfo


class Toy(Dialect):
    """The dialect; `settings` are those of the server, of which it needs none."""

    name = "toy"
    title = "toy talk"
    base_path = "/toy"
    framing: Framing = NDJSON

    def __init__(self, settings: object = None) -> None:
        self.routes = (
            Route("/toy/<language>/say", Operation.GENERATE, self.parse),
            Route("/toy/models", Operation.MODELS),
        )

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        if not isinstance(body.get("say"), str):
            raise errors.InvalidField("say", "type", "say must be a string")
        model, messages = body.get("to", ""), (Message("user", (Text(body["say"]),)),)
        request = GenerateRequest(caller.request_id, model, messages, source=Source(key=caller.key))
        unknown = tuple(name for name in body if name not in ("say", "to", "live"))
        renderer = ToyRenderer(caller.path_args["language"])
        return ParsedCall((request,), bool(body.get("live")), renderer, model, unknown)

    def error(self, error: errors.MlxdError, caller: Caller) -> ErrorReply:
        match error:
            case errors.Unauthorized():
                status = 401
            case errors.RouteNotFound() | errors.MethodNotAllowed():
                status = 404 if isinstance(error, errors.RouteNotFound) else 405
            case errors.BodyTooLarge():
                status = 413
            case errors.RequestError():
                status = 400
            case _:
                status = 500
        return ErrorReply(status, oops(error))

    def model_list(self, models: Sequence[ModelInfo], created: int) -> JsonObject:
        return {"models": [model.id for model in models]}

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> JsonObject:
        raise errors.ModelNotFound(name, [])


class ToyRenderer:
    """Lines, each with the language of the path in front."""

    def __init__(self, language: str) -> None:
        self._language = language

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        match event:
            case BlockEnd(part=part):
                yield frame({"line": self._line(part)})
            case Finished(reason=reason):
                yield frame({"end": reason})
            case Failed(error=error):
                yield frame(oops(errors.revive(error)))

    def idle(self) -> Iterable[Frame]:
        return (frame({"waiting": True}),)

    def end(self) -> Iterable[Frame]:
        return (frame({"over": True}),)

    def body(self, answers: Sequence[Answer]) -> bytes:
        (answer,) = answers
        lines = [self._line(part) for part in answer.parts]
        return msgspec.json.encode({"lines": lines, "end": answer.finished.reason})

    def _line(self, part: OutputPart) -> str:
        name = f"{part.name} " if isinstance(part, ToolCall) else ""
        return f"{self._language}: {name}{part_text(part)}"


def frame(data: JsonObject) -> Frame:
    return Frame(msgspec.json.encode(data))


def oops(error: errors.MlxdError) -> JsonObject:
    """The shape of an error."""
    field = error.field if isinstance(error, errors.InvalidField) else None
    what = "internal" if isinstance(error, errors.InternalError) else str(error)
    return {"oops": {"what": what, "field": field}}
