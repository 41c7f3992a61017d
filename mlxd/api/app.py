"""The HTTP application: routes of the enabled dialects, models, health, and the rules for all."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from quart import Response

from mlxd.api import dialects_for
from mlxd.api.auth import Gate
from mlxd.api.body import BodyBudget, check_type, in_turns, inflate, parse_json
from mlxd.api.dialect import Dialect, MemoryCall, ParsedCall, Route
from mlxd.api.envelopes import Envelopes, json_response, retry_after
from mlxd.api.exchange import Exchange, for_model, open_exchange
from mlxd.api.health import SERVING, health_body, health_of
from mlxd.api.models import deployed, deployment_list, model_list, one_model
from mlxd.api.origins import cors_headers
from mlxd.api.routing import route_model
from mlxd.api.web import Api, ApiRequest, Tuning, current_request
from mlxd.config import Settings
from mlxd.engine.handle import Engine, ModelInfo
from mlxd.errors import Forbidden

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
USUAL = Tuning()
HEALTH_RETRY = 5.0
"""Seconds after which asking an unhealthy server again makes sense."""
MAX_IGNORED = 1000
"""Characters of the header that names ignored fields."""

View = Callable[..., Awaitable[Response]]

_HEADER_SAFE = re.compile(r"[^A-Za-z0-9_.\[\]-]")


def create_app(
    settings: Settings,
    engine: Engine,
    *,
    dialects: Sequence[Dialect] | None = None,
    tuning: Tuning = USUAL,
) -> Api:
    """The application for `settings`; `dialects` are the configured ones unless given."""
    enabled = [each for each in dialects_for(settings) if each.name in settings.dialects]
    api = ApiServer(settings, engine, dialects or enabled, tuning)
    return api.app


class ApiServer:
    """The endpoints, and what is done before and after each of them."""

    def __init__(
        self, settings: Settings, engine: Engine, dialects: Sequence[Dialect], tuning: Tuning
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._dialects = dialects
        self._tuning = tuning
        self._created = int(tuning.clock())
        self._deployments = settings.azure.deployments
        self._envelopes = Envelopes(
            dialects,
            max_body=settings.server.max_body,
            validation_status=settings.server.validation_status,
        )
        self.app = self._bare_app()
        self._add_rules()

    def _bare_app(self) -> Api:
        class BoundRequest(ApiRequest):
            budget = BodyBudget(self._settings.server.max_bodies)
            tuning = self._tuning

        app = Api("mlxd", static_folder=None, template_folder=None)
        app.request_class = BoundRequest
        app.config["MAX_CONTENT_LENGTH"] = self._settings.server.max_body
        app.config["BODY_TIMEOUT"] = self._tuning.body_timeout
        app.config["RESPONSE_TIMEOUT"] = 30
        app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        # A redirect to a tidier path would be an HTML page, and a POST loses its body on the way.
        app.url_map.merge_slashes = False
        app.url_map.strict_slashes = False
        return app

    def _add_rules(self) -> None:
        app = self.app
        app.before_request(Gate(self._settings.server).check)
        app.register_error_handler(Exception, self._refuse)
        app.refuse_host = self._refuse_host
        app.after_request(self._finish_headers)
        app.add_url_rule("/", "index", self.index, methods=["GET"])
        app.add_url_rule("/health", "health", self.health, methods=["GET"])
        shared: dict[str, View] = {
            "models": self.models,
            "model": self.model,
            "deployments": self.deployments,
        }
        for rule, endpoint in (("/v1/models", self.models), ("/v1/models/<path:name>", self.model)):
            self._route(rule, "GET", endpoint)
        views = {"generate": self._generation, "count": self._counting}
        for dialect in self._dialects:
            for route in dialect.routes:
                if view := views.get(route.operation):
                    self._route(route.rule, route.method, view(dialect, route))
                elif (same := shared.get(route.operation)) and not route.header:
                    self._route(route.rule, route.method, same)

    def _route(self, rule: str, method: str, view: View) -> None:
        """Serve `rule` with and, as many clients write it, without `/v1`."""
        for variant in dict.fromkeys((rule, rule.removeprefix("/v1"))):
            self.app.add_url_rule(variant, f"{method} {variant}", view, methods=[method])

    async def index(self) -> Response:
        """Something to answer at once: clients knock here before their first call."""
        return json_response({"object": "server", "name": "mlxd"})

    async def health(self) -> Response:
        """200 while requests are taken, 503 otherwise; details for callers with a key."""
        status = self._engine.status()
        health = health_of(status, self._settings.engine.stall_timeout)
        told = current_request().authorized
        body = health_body(status, health) if told else {"status": health}
        if health in SERVING:
            return json_response(body)
        return json_response(body, 503, {"retry-after": retry_after(HEALTH_RETRY)})

    async def models(self) -> Response:
        """What can be asked for."""
        vendor, models = self._offer()
        return json_response(model_list(models, self._created, vendor))

    async def model(self, name: str) -> Response:
        """One model, by any of its names."""
        vendor, models = self._offer()
        return json_response(one_model(name, models, self._created, vendor))

    async def deployments(self) -> Response:
        """What can be asked for, with the models behind it."""
        models = self._engine.models()
        return json_response(deployment_list(models, self._deployments, self._created))

    def _offer(self) -> tuple[str, Sequence[ModelInfo]]:
        """Whose clients use this path, and the models under the names that they have there."""
        vendor, models = self._envelopes.owner(current_request()).name, self._engine.models()
        return vendor, deployed(models, self._deployments) if vendor == "azure" else models

    def _generation(self, dialect: Dialect, route: Route) -> View:
        async def generate(**path_args: str) -> Response:
            request = current_request()
            return await self._answer(await self._parse(dialect, route, request), request)

        return generate

    def _counting(self, dialect: Dialect, route: Route) -> View:
        async def count(**path_args: str) -> Response:
            request = current_request()
            call = await self._parse(dialect, route, request)
            request.record.counted = True
            tokens = await self._engine.count_tokens(call.requests[0])
            body = call.counted(tokens) if call.counted else {"tokens": tokens}
            return json_response(body, headers=_ignored_header(call.ignored))

        return count

    async def _parse(self, dialect: Dialect, route: Route, request: ApiRequest) -> ParsedCall:
        """The call, with the configured model that answers it."""
        record = request.record
        record.dialect = dialect.name
        data = await self._receive(request)
        caller = request.caller(self._settings.server.validation_status, route.operation)
        call = await in_turns(len(data), lambda: dialect.parse(parse_json(data), caller))
        request.counted_body.release()
        if isinstance(call, MemoryCall):
            raise TypeError(f"{dialect.name} needs a memory")
        record.asked_model = call.asked_model
        record.model = route_model(
            call.asked_model,
            self._engine.models(),
            default=self._settings.defaults.model,
            unknown=self._settings.server.unknown_model,
        )
        return for_model(call, record.model)

    async def _receive(self, request: ApiRequest) -> bytes:
        check_type(request.headers.get("Content-Type", ""))
        data = await request.get_data(cache=False, as_text=False, parse_form_data=False)
        return await inflate(
            data,
            request.headers.get("Content-Encoding", ""),
            limit=self._settings.server.max_body,
            body=request.counted_body,
        )

    async def _answer(self, call: ParsedCall, request: ApiRequest) -> Response:
        request.record.stream = call.stream
        headers = _ignored_header(call.ignored)
        if not call.stream:
            async with AsyncExitStack() as stack:
                exchange = await self._open(call, stack, request)
                body = await exchange.collect()
            return Response(body, 200, headers, content_type="application/json")
        exchange = await self._open(call, request.stack, request)
        response = Response(exchange.stream(), 200, headers | STREAM_HEADERS)
        response.timeout = None
        return response

    async def _open(self, call: ParsedCall, stack: AsyncExitStack, request: ApiRequest) -> Exchange:
        idle = self._tuning.idle
        return await open_exchange(self._engine, call, stack, record=request.record, idle=idle)

    async def _refuse(self, error: Exception) -> Response:
        return self._envelopes.respond(error, current_request())

    def _refuse_host(self, request: ApiRequest) -> Response:
        """For a Host header that can't even be read; nothing else has seen the request."""
        response = self._envelopes.respond(Forbidden("This Host header is not valid."), request)
        return _with_id(response, request)

    async def _finish_headers(self, response: Response) -> Response:
        request = current_request()
        if request.record.model:
            response.headers["x-mlxd-model"] = request.record.model
        if self._envelopes.owner(request).name == "azure":
            response.headers["apim-request-id"] = request.id
        if request.allowed_origin:
            response.headers.update(cors_headers(request.allowed_origin))
        response.vary.add("Origin")
        return _with_id(response, request)


def _with_id(response: Response, request: ApiRequest) -> Response:
    """The id under both names that the vendors' clients look for."""
    request.record.status = response.status_code
    response.headers["x-request-id"] = request.id
    response.headers["request-id"] = request.id
    return response


def _ignored_header(ignored: Sequence[str]) -> dict[str, str]:
    if not ignored:
        return {}
    names = ",".join(_HEADER_SAFE.sub("?", name)[:64] for name in ignored)
    return {"x-mlxd-ignored": names[:MAX_IGNORED]}
