"""A dialect that nobody speaks, to show what one needs: contract, framing and kernel alone.

A request is `{"say": "...", "to": "model", "live": true}`. The answer is `{"lines": [...], "end"}`
at once, or one JSON object a line. Errors are `{"oops": {"what", "field"}}`.
"""

from collections.abc import Iterable, Sequence

import msgspec

from mlxd import errors
from mlxd.api import dialect as api
from mlxd.api.wire.framing import NDJSON
from mlxd.events import Answer, BlockEnd, Event, Failed, Finished, part_text
from mlxd.messages import GenerateRequest, Message, Source, Text, ToolCall
from mlxd.status import ModelInfo

STATUSES: dict[type[errors.MlxdError], int] = {
    **{errors.Unauthorized: 401, errors.RouteNotFound: 404, errors.MethodNotAllowed: 405},
    **{errors.BodyTooLarge: 413, errors.RequestError: 400, errors.MlxdError: 500},
}


class Toy(api.Dialect):
    """The dialect; it has no use for the `settings` of the server."""

    name, title, base_path = "toy", "toy talk", "/toy"
    framing: api.Framing = NDJSON

    def __init__(self, settings: object = None) -> None:
        say = api.Route("/toy/say", api.Operation.GENERATE, self.parse)
        self.routes = (say, api.Route("/toy/models", api.Operation.MODELS))

    def parse(self, body: api.JsonObject, caller: api.Caller) -> api.ParsedCall:
        if not isinstance(body.get("say"), str):
            raise errors.InvalidField("say", "type", "say must be a string")
        model, messages = body.get("to", ""), (Message("user", (Text(body["say"]),)),)
        request = GenerateRequest(caller.request_id, model, messages, source=Source(key=caller.key))
        unknown = tuple(name for name in body if name not in ("say", "to", "live"))
        return api.ParsedCall((request,), bool(body.get("live")), ToyRenderer(), model, unknown)

    def error(self, error: errors.MlxdError, caller: api.Caller) -> api.ErrorReply:
        status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
        return api.ErrorReply(status, oops(error))

    def model_list(self, models: Sequence[ModelInfo], created: int) -> api.JsonObject:
        return {"models": [model.id for model in models]}

    def model(self, name: str, models: Sequence[ModelInfo], created: int) -> api.JsonObject:
        raise errors.ModelNotFound(name, [])


class ToyRenderer:
    """Each block becomes a line."""

    def frames(self, choice: int, event: Event) -> Iterable[api.Frame]:
        match event:
            case BlockEnd(part=part):
                name = f"{part.name} " if isinstance(part, ToolCall) else ""
                yield frame({"line": f"{name}{part_text(part)}"})
            case Finished(reason=reason):
                yield frame({"end": reason})
            case Failed(error=error):
                yield frame(oops(errors.revive(error)))

    def idle(self) -> Iterable[api.Frame]:
        return (frame({"waiting": True}),)

    def end(self) -> Iterable[api.Frame]:
        return (frame({"over": True}),)

    def body(self, answers: Sequence[Answer]) -> bytes:
        (answer,) = answers
        calls = [f"{p.name} " if isinstance(p, ToolCall) else "" for p in answer.parts]
        lines = [call + part_text(p) for call, p in zip(calls, answer.parts, strict=True)]
        return msgspec.json.encode({"lines": lines, "end": answer.finished.reason})


def frame(data: api.JsonObject) -> api.Frame:
    return api.Frame(msgspec.json.encode(data))


def oops(error: errors.MlxdError) -> api.JsonObject:
    field = error.field if isinstance(error, errors.InvalidField) else None
    what = "internal" if isinstance(error, errors.InternalError) else str(error)
    return {"oops": {"what": what, "field": field}}
