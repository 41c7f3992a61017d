"""From a request's bytes to a call: the body read, understood by its dialect, its model found."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from quart import Response

from mlxd.api.dialect import Dialect, JsonObject, MemoryCall, ParsedCall
from mlxd.api.http.body import check_type, in_turns, inflate, parse_json
from mlxd.api.http.framework import ApiRequest
from mlxd.api.http.model_names import route_model
from mlxd.api.http.request_log import Record
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
MAX_IGNORED = 1000
"""Characters of the header that names ignored fields."""

_HEADER_SAFE = re.compile(r"[^A-Za-z0-9_.\[\]-]")


@dataclass(frozen=True)
class Asked:
    """A request, with the dialect and the operation that its path belongs to."""

    dialect: Dialect
    operation: str
    request: ApiRequest

    @property
    def owner(self) -> str:
        """Whose responses and conversations the caller sees."""
        return self.request.key

    def path(self, name: str) -> str:
        """The argument of the path that is so named."""
        value: str = (self.request.view_args or {})[name]
        return value


Operation = Callable[[Asked], Awaitable[Response]]
"""An endpoint, whatever its path."""


class Reception:
    """Reads what callers send."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine

    async def call(self, asked: Asked) -> ParsedCall | MemoryCall:
        """The body as its dialect understands it; raises `InvalidBody` and `InvalidField`."""
        request = asked.request
        data = await self.read(request)
        caller = request.caller(self._settings.server.validation_status, asked.operation)
        call = await in_turns(len(data), lambda: asked.dialect.parse(parse_json(data), caller))
        request.counted_body.release()
        return call

    async def body(self, asked: Asked, *, may_be_empty: bool = False) -> JsonObject:
        """The body as it is; raises `InvalidBody`."""
        data = await self.read(asked.request)
        if may_be_empty and not data:
            return {}
        body = await in_turns(len(data), lambda: parse_json(data))
        asked.request.counted_body.release()
        return body

    async def read(self, request: ApiRequest) -> bytes:
        """The whole body, inflated."""
        check_type(request.headers.get("Content-Type", ""))
        data = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        return await inflate(
            data,
            request.headers.get("Content-Encoding", ""),
            limit=self._settings.server.max_body,
            body=request.counted_body,
        )

    def model(self, asked_model: str, record: Record) -> str:
        """The configured model that answers to `asked_model`; raises `ModelNotFound`."""
        record.asked_model = asked_model
        record.model = route_model(
            asked_model,
            self._engine.models(),
            default=self._settings.defaults.model,
            unknown=self._settings.server.unknown_model,
        )
        return record.model


def ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    """The header that names the fields that changed nothing; none if there are none."""
    if not ignored:
        return {}
    names = ",".join(_HEADER_SAFE.sub("?", name)[:64] for name in ignored)
    return {"x-mlxd-ignored": names[:MAX_IGNORED]}
