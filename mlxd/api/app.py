"""The HTTP application: routes of the enabled dialects, models, health, and the rules for all."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from quart import Response
from quart.typing import ResponseTypes

from mlxd.api import dialects_for
from mlxd.api.admin.activity import Activity
from mlxd.api.admin.endpoints import AdminEndpoints, refusal_of
from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.dialect import Dialect, MemoryCall, ParsedCall, Route
from mlxd.api.http.admin_gate import AdminGate, is_admin
from mlxd.api.http.auth import Gate
from mlxd.api.http.body import BodyBudget
from mlxd.api.http.error_replies import Envelopes, json_response, retry_after
from mlxd.api.http.exchange import Exchange, for_model, open_exchange
from mlxd.api.http.framework import (
    Api,
    ApiRequest,
    ApiSocket,
    Tuning,
    Visit,
    current_request,
    current_socket,
    current_visit,
)
from mlxd.api.http.health import SERVING, health_body, health_of
from mlxd.api.http.model_list import deployed, deployment_list, model_list, one_model
from mlxd.api.http.origins import cors_headers
from mlxd.api.http.request_reader import STREAM_HEADERS, Asked, Operation, Reception, ignored_header
from mlxd.api.http.url_rules import MatchedRule
from mlxd.api.openai.responses.background import Runs
from mlxd.api.openai.responses.continuation import Memory
from mlxd.api.openai.responses.endpoints import MemoryViews
from mlxd.api.openai.responses.websocket import Sockets
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine
from mlxd.errors import Forbidden
from mlxd.history import Store
from mlxd.status import ModelInfo

USUAL = Tuning()
HEALTH_RETRY = 5.0
"""Seconds after which asking an unhealthy server again makes sense."""

View = Callable[..., Awaitable[Response]]


def create_app(
    settings: Settings,
    engine: Engine,
    *,
    dialects: Sequence[Dialect] | None = None,
    store: Store | None = None,
    tuning: Tuning = USUAL,
    facts: ServerFacts | None = None,
) -> Api:
    """The application for `settings`; `dialects` are the configured ones unless given.

    `store` must be open while the application serves. Without one nothing is remembered, and the
    paths that would need it are not there.
    """
    enabled = [each for each in dialects_for(settings) if each.name in settings.dialects]
    api = ApiServer(
        settings, engine, dialects or enabled, tuning=tuning, facts=facts or ServerFacts()
    )
    if store is not None:
        api.remember(store)
    api.add_rules()
    return api.app


class ApiServer:
    """The endpoints, and what is done before and after each of them."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        dialects: Sequence[Dialect],
        *,
        tuning: Tuning,
        facts: ServerFacts,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._dialects = dialects
        self._tuning = tuning
        self._created = int(tuning.clock())
        self._activity = Activity(engine, show_text=settings.admin.show_text)
        self._facts = facts
        self._deployments = settings.azure.deployments
        self._envelopes = Envelopes(
            dialects,
            max_body=settings.server.max_body,
            validation_status=settings.server.validation_status,
        )
        self._reception = Reception(settings, engine)
        self._sockets: Sockets | None = None
        self._operations: dict[str, Operation] = {
            "generate": self._generate,
            "count": self._count,
        }
        self.app = self._bare_app()

    def _bare_app(self) -> Api:
        bodies = BodyBudget(self._settings.server.max_bodies)

        class BoundRequest(ApiRequest):
            budget = bodies
            tuning = self._tuning

        class BoundSocket(ApiSocket):
            budget = bodies
            tuning = self._tuning

        app = Api("mlxd", static_folder=None, template_folder=None)
        app.url_rule_class = MatchedRule
        app.request_class = BoundRequest
        app.websocket_class = BoundSocket
        app.config["MAX_CONTENT_LENGTH"] = self._settings.server.max_body
        app.config["BODY_TIMEOUT"] = self._tuning.body_timeout
        app.config["RESPONSE_TIMEOUT"] = 30
        app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
        # A redirect to a tidier path would be an HTML page, and a POST loses its body on the way.
        app.url_map.merge_slashes = False
        app.url_map.strict_slashes = False
        return app

    def remember(self, store: Store) -> None:
        """Serve what needs a memory, with `store` for one."""
        idle = self._tuning.idle
        memory = Memory(store, self._engine, idle=idle)
        runs = Runs(self._engine, store, idle=idle)
        self._recall = MemoryViews(memory, runs, self._reception)
        self._operations |= self._recall.table()
        self._sockets = Sockets(
            memory,
            self._reception,
            tuning=self._tuning,
            validation_status=self._settings.server.validation_status,
            draining=self.app.draining,
            refused=self._activity.refused,
        )
        self.app.after_serving(runs.close)

    def add_rules(self) -> None:
        """Serve every path there is."""
        app = self.app
        gate = Gate(self._settings.server, AdminGate(self._facts.token))
        app.before_request(gate.check)
        app.before_websocket(gate.check)
        app.register_error_handler(Exception, self._refuse)
        app.refuse_host = self._refuse_host
        app.after_request(self._finish_headers)
        app.after_websocket(self._finish_handshake)
        app.add_url_rule("/", "index", self.index, methods=["GET"])
        app.add_url_rule("/health", "health", self.health, methods=["GET"])
        if self._settings.admin.enabled:
            AdminEndpoints(self._settings, self._engine, self._activity, self._facts).add_rules(app)
        shared: dict[str, View] = {
            "models": self.models,
            "model": self.model,
            "deployments": self.deployments,
        }
        for rule, endpoint in (("/v1/models", self.models), ("/v1/models/<path:name>", self.model)):
            self._route(rule, "GET", endpoint)
        for dialect in self._dialects:
            for route in dialect.routes:
                if route.operation == "socket":
                    self._add_socket(dialect, route)
                elif operation := self._operations.get(route.operation):
                    view = self._view(dialect, route, operation)
                    self._route(route.rule, route.method, view)
                elif (same := shared.get(route.operation)) and not route.header:
                    self._route(route.rule, route.method, same)

    def _add_socket(self, dialect: Dialect, route: Route) -> None:
        sockets = self._sockets
        if sockets is None:
            return

        async def serve(**path_args: str) -> None:
            await sockets.serve(dialect, current_socket())

        for variant in variants(route.rule):
            self.app.add_websocket(variant, f"socket {variant}", serve)

    def _route(self, rule: str, method: str, view: View) -> None:
        """Serve `rule` with and, as many clients write it, without `/v1`."""
        for variant in variants(rule):
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

    def _view(self, dialect: Dialect, route: Route, operation: Operation) -> View:
        async def serve(**path_args: str) -> Response:
            request = current_request()
            request.record.dialect = dialect.name
            return await operation(Asked(dialect, route.operation, request))

        return serve

    async def _generate(self, asked: Asked) -> Response:
        call = await self._reception.call(asked)
        if isinstance(call, MemoryCall):
            raise TypeError(f"{asked.dialect.name} needs the operation `respond`")
        model = self._reception.model(call.asked_model, asked.request.record)
        return await self._answer(for_model(call, model), asked.request)

    async def _count(self, asked: Asked) -> Response:
        call = await self._reception.call(asked)
        record = asked.request.record
        if isinstance(call, MemoryCall):
            call = (await self._recall.turn(call, asked)).answer
        else:
            call = for_model(call, self._reception.model(call.asked_model, record))
        record.counted = True
        tokens = await self._engine.count_tokens(call.requests[0])
        body = call.counted(tokens) if call.counted else {"tokens": tokens}
        return json_response(body, headers=ignored_header(call.ignored))

    async def _answer(self, call: ParsedCall, request: ApiRequest) -> Response:
        request.record.stream = call.stream
        headers = ignored_header(call.ignored)
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
        request = current_visit()
        if is_admin(request):
            return refusal_of(self._envelopes.known(error, request))
        response = self._envelopes.respond(error, request)
        self._activity.refused(request.record)
        return response

    def _refuse_host(self, request: Visit) -> Response:
        """For a Host header that can't even be read; nothing else has seen the request."""
        response = self._envelopes.respond(Forbidden("This Host header is not valid."), request)
        return _with_id(response, request)

    async def _finish_handshake(self, response: ResponseTypes | None) -> ResponseTypes | None:
        """A handshake has a response when it is refused."""
        return _with_id(response, current_socket()) if isinstance(response, Response) else response

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


def variants(rule: str) -> tuple[str, ...]:
    """A path with and, as many clients write it, without `/v1`."""
    return tuple(dict.fromkeys((rule, rule.removeprefix("/v1"))))


def _with_id(response: Response, request: Visit) -> Response:
    """The id under both names that the vendors' clients look for."""
    request.record.status = response.status_code
    response.headers["x-request-id"] = request.id
    response.headers["request-id"] = request.id
    return response
