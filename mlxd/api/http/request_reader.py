"""From a request's bytes to a call: the body read, understood by its dialect, its model found."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from mlxd.api.dialect import JsonObject
from mlxd.api.http.body import check_type, in_turns, inflate, parse_json
from mlxd.api.http.framework import ApiRequest
from mlxd.api.http.request_log import Record
from mlxd.api.model_names import route_model
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine

IGNORED = "x-mlxd-ignored"
"""The header that names ignored fields; a WebSocket's first event has a field of this name."""

MAX_IGNORED = 1000
"""Characters of the header that names ignored fields."""

MAX_NAME = 200
"""Characters of one of them: schemas nest."""

_HEADER_SAFE = re.compile(r"[^A-Za-z0-9_.$\[\]-]")
_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")

Understood = TypeVar("Understood")


class RequestReader:
    """Reads what callers send."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self._engine = engine

    async def parsed(
        self,
        request: ApiRequest,
        understand: Callable[[JsonObject], Understood],
        *,
        any_type: bool = False,
    ) -> Understood:
        """What `understand` makes of the body; raises `InvalidBody` and what it raises.

        With `any_type` the body of a program may be of any type, as `curl -d` calls it a form.
        """
        if not any_type or is_of_browser(request):
            check_type(request.headers.get("Content-Type", ""))
        data = await self._read(request)
        # Parsed and understood in one go, in a thread if it is large: both take long then.
        call = await in_turns(
            len(data), lambda: understand(parse_json(data, request.record.repaired))
        )
        # Now and not at the request's end: an answer may take an hour, and its body is read.
        request.counted_body.release()
        return call

    async def body(self, request: ApiRequest, *, may_be_empty: bool = False) -> JsonObject:
        """The body as it is; raises `InvalidBody`."""
        check_type(request.headers.get("Content-Type", ""))
        data = await self._read(request)
        if may_be_empty and not data:
            return {}
        body = await in_turns(len(data), lambda: parse_json(data, request.record.repaired))
        request.counted_body.release()
        return body

    def model(self, requested: str, record: Record) -> str:
        """The configured model that answers to `requested`; raises `ModelNotFound`."""
        record.requested_model = requested
        record.model = route_model(
            requested,
            self._engine.models(),
            default=self.settings.defaults.model,
            unknown=self.settings.server.unknown_model,
        )
        return record.model

    async def _read(self, request: ApiRequest) -> bytes:
        data = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        return await inflate(
            data,
            request.headers.get("Content-Encoding", ""),
            limit=self.settings.server.max_body,
            body=request.counted_body,
        )


def is_of_browser(request: ApiRequest) -> bool:
    """Whether a request has what browsers add, and pages can't leave out."""
    return "Origin" in request.headers or "Sec-Fetch-Site" in request.headers


def ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    """The header that names the fields that changed nothing; none if there are none."""
    if not ignored:
        return {}
    return {IGNORED: ",".join(map(_safe, ignored))[:MAX_IGNORED]}


def repaired_header(ignored: str, repaired: Sequence[str]) -> dict[str, str]:
    """The same header's value `ignored`, and where a text held half of a surrogate pair."""
    if not repaired:
        return {}
    places = (f"{_safe(place)}: lone surrogates" for place in dict.fromkeys(repaired))
    return {IGNORED: ",".join(filter(None, (ignored, *places)))[:MAX_IGNORED]}


def _safe(name: str) -> str:
    return _HEADER_SAFE.sub("?", _NUMBER.sub(r"[\1]", name))[:MAX_NAME]
