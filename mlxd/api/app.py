"""The HTTP application: routes of the enabled dialects, health, and the rules for all."""

import pkgutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, cast, runtime_checkable

from quart import Response
from quart.typing import ResponseTypes

from mlxd.api.admin.activity import Activity
from mlxd.api.admin.endpoints import AdminEndpoints, refusal_of
from mlxd.api.admin.snapshots import ServerFacts
from mlxd.api.dialect import Caller, Dialect, ErrorReply, Operation, ParsedCall, Route
from mlxd.api.endpoints import (
    ApiCall,
    Endpoints,
    Handler,
    Reply,
    Services,
    SocketView,
    View,
    generated,
    json_reply,
)
from mlxd.api.http.admin_gate import AdminGate, is_admin
from mlxd.api.http.auth import AccessGate
from mlxd.api.http.body import BodyBudget
from mlxd.api.http.client_info import client_of
from mlxd.api.http.error_replies import (
    Claim,
    ErrorReplies,
    PathOwners,
    json_response,
    retry_after,
)
from mlxd.api.http.exchange import for_model
from mlxd.api.http.framework import (
    UNBUFFERED,
    Api,
    ApiRequest,
    ApiSocket,
    IncomingRequest,
    Tuning,
    current_incoming,
    current_request,
    current_socket,
)
from mlxd.api.http.health import SERVING, ApiHealth, health_of, health_report
from mlxd.api.http.origins import cors_headers
from mlxd.api.http.refusals import RefusalLog
from mlxd.api.http.request_reader import (
    IGNORED,
    RequestReader,
    ignored_header,
    repaired_header,
)
from mlxd.api.http.url_rules import MatchedRule
from mlxd.api.page.endpoints import PageEndpoints
from mlxd.config.settings import Settings
from mlxd.dialects import DIALECTS
from mlxd.engine.interface import Engine
from mlxd.errors import Forbidden, MlxdError
from mlxd.history import Store

USUAL = Tuning()
HEALTH_RETRY = 5.0
"""Seconds after which asking an unhealthy server again makes sense."""

Endpoint = Callable[..., Awaitable[Response]]


@runtime_checkable
class Configurable(Protocol):
    """A dialect with settings that it takes while it serves."""

    def configure(self, settings: Settings) -> None:
        """Understand and answer calls from now on by these settings."""


def dialects_for(settings: Settings) -> tuple[Dialect, ...]:
    """The enabled dialects, set up as configured, in the order of `mlxd.dialects`."""
    enabled = [build for name, build in DIALECTS.items() if name in settings.dialects]
    return tuple(pkgutil.resolve_name(build)(settings) for build in enabled)


def create_app(
    settings: Settings,
    engine: Engine,
    *,
    dialects: Sequence[Dialect] = (),
    store: Store | None = None,
    tuning: Tuning = USUAL,
    facts: ServerFacts | None = None,
) -> Api:
    """The application for `settings`; `dialects` are the configured ones unless given.

    `store` must be open while the application serves. Without one nothing is remembered, and the
    paths that would need it are not there.
    """
    served = dialects or dialects_for(settings)
    server = ApiServer(settings, engine, served, tuning=tuning, facts=facts or ServerFacts())
    server.add_rules(store)
    return server.app


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
        self._facts = replace(facts, dialects={each.name: each.title for each in dialects})
        self._apis = tuple(ApiHealth(each.name, each.title, each.base_path) for each in dialects)
        self._reader = RequestReader(settings, engine)
        self._refusals = RefusalLog(time.monotonic)
        self.app = self._bare_app()

    def _bare_app(self) -> Api:
        bodies = BodyBudget(self._settings.server.max_bodies)
        invalid = self._settings.server.validation_status

        class BoundRequest(ApiRequest):
            budget = bodies
            tuning = self._tuning
            validation_status = invalid

        class BoundSocket(ApiSocket):
            budget = bodies
            tuning = self._tuning
            validation_status = invalid

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

    def add_rules(self, store: Store | None) -> None:
        """Serve every path there is."""
        app = self.app
        self._gate = AccessGate(self._settings, AdminGate(self._facts.token), self._refusals)
        app.before_request(self._gate.check)
        app.before_websocket(self._gate.check)
        app.register_error_handler(Exception, self._refuse)
        app.refuse_host = self._refuse_host
        app.unread = self._unread
        app.configure = self._configure
        app.after_request(self._finish_headers)
        app.after_websocket(self._finish_handshake)
        greetings = {port: each.greeting for each in self._dialects for port in each.ports}
        PageEndpoints(shown=self._settings.server.page, greetings=greetings).add_rules(app)
        app.add_url_rule("/health", "health", self.health, methods=["GET"])
        self._admin = AdminEndpoints(self._settings, self._engine, self._activity, self._facts)
        if self._settings.admin.enabled:
            self._admin.add_rules(app)
        self._services = services = self._services_with(store)
        claims: list[Claim] = []
        for dialect in self._dialects:
            views = dialect.views(services) if isinstance(dialect, Endpoints) else ()
            claims += self._add_dialect(dialect, views)
        self._owners = PathOwners(self._dialects, claims)
        self._errors = ErrorReplies(
            self._owners,
            max_body=self._settings.server.max_body,
        )

    def _configure(self, settings: Settings) -> None:
        """See `Api.configure`."""
        self._gate.configure(settings)
        self._reader.settings = settings
        self._admin.configure(settings)
        for dialect in self._dialects:
            if isinstance(dialect, Configurable):
                dialect.configure(settings)

    def _services_with(self, store: Store | None) -> Services:
        return Services(
            engine=self._engine,
            store=store,
            reader=self._reader,
            tuning=self._tuning,
            draining=self.app.draining,
            refused=self._activity.refused,
            at_shutdown=self.app.after_serving,
            describe=self._facts.describe,
        )

    def _add_dialect(self, dialect: Dialect, views: Sequence[View | SocketView]) -> list[Claim]:
        for route in dialect.routes:
            self._route(route.rule, route.method, self._endpoint(dialect, route))
        for view in views:
            if isinstance(view, SocketView):
                self._add_socket(view)
            else:
                self._route(view.rule, view.method, self._served(dialect, view.handler))
        return [
            *(Claim(route.rule, dialect, route.header) for route in dialect.routes),
            *(Claim(view.rule, dialect) for view in views),
            *(Claim(rule, dialect) for rule in (dialect.base_path, *dialect.prefixes) if rule),
        ]

    def _route(self, rule: str, method: str, endpoint: Endpoint) -> None:
        """Serve `rule` with and, as many clients write it, without `/v1`; the first one counts."""
        for variant in variants(rule):
            name = f"{method} {variant}"
            if name not in self.app.view_functions:
                self.app.add_url_rule(variant, name, endpoint, methods=[method])

    def _add_socket(self, view: SocketView) -> None:
        async def serve(**path_args: str) -> None:
            await view.handler(current_socket())

        for variant in variants(view.rule):
            self.app.add_websocket(variant, f"socket {variant}", serve)

    def _endpoint(self, dialect: Dialect, route: Route) -> Endpoint:
        match route.operation:
            case Operation.MODELS:
                return self.models
            case Operation.MODEL:
                return self.model
            case Operation.GENERATE:
                return self._served(dialect, partial(self._generate, dialect, route))
            case Operation.COUNT:
                return self._served(dialect, partial(self._count, route))

    def _served(self, dialect: Dialect, handler: Handler) -> Endpoint:
        async def serve(**path_args: str) -> Response:
            request = current_request()
            request.record.dialect = dialect.name
            if dialect.session_headers:
                fields = cast(Mapping[str, str], request.headers)
                request.record.client = client_of(request.client, fields, dialect.session_headers)
            return response_of(await handler(ApiCall(request, request.caller())))

        return serve

    async def health(self) -> Response:
        """200 while requests are taken, 503 otherwise; details for callers with a key."""
        status = self._engine.status()
        health = health_of(status, self._settings.engine.stall_timeout)
        in_detail = current_request().authorized
        body = health_report(status, health, self._apis) if in_detail else {"status": health}
        if health in SERVING:
            return json_response(body)
        return json_response(body, 503, {"retry-after": retry_after(HEALTH_RETRY)})

    async def models(self) -> Response:
        """What can be asked for, in the words of the dialect whose clients use this path."""
        dialect = self._owners.of(current_request())
        return json_response(dialect.model_list(self._engine.models(), self._created))

    async def model(self, name: str) -> Response:
        """One model, by any of its names."""
        dialect = self._owners.of(current_request())
        return json_response(dialect.model(name, self._engine.models(), self._created))

    async def _parsed(self, route: Route, call: ApiCall) -> ParsedCall:
        parse = route.parse
        assert parse is not None, f"{route.rule} has a body that nothing parses"
        parsed = await self._reader.parsed(call.request, lambda body: parse(body, call.caller))
        return for_model(parsed, self._reader.model(parsed.requested_model, call.record))

    async def _count(self, route: Route, call: ApiCall) -> Reply:
        parsed = await self._parsed(route, call)
        call.record.counted = True
        with parsed.in_callers_words():
            tokens = await self._engine.count_tokens(parsed.requests[0])
        return json_reply(parsed.counted(tokens), ignored_header(parsed.ignored))

    async def _generate(self, dialect: Dialect, route: Route, call: ApiCall) -> Reply:
        parsed = await self._parsed(route, call)
        return await generated(self._services, call, parsed, dialect.framing)

    async def _refuse(self, error: Exception) -> Response:
        request = current_incoming()
        if is_admin(request):
            return refusal_of(self._errors.ours(error, request))
        response = self._errors.respond(error, request)
        self._activity.refused(request.record)
        return response

    def _refuse_host(self, request: IncomingRequest) -> Response:
        """For a Host header that can't even be read; nothing else has seen the request."""
        self._refusals.host(request.record, ", ".join(request.headers.getlist("Host")))
        response = self._errors.respond(Forbidden("This Host header is not valid."), request)
        return _with_id(response, request)

    def _unread(self, path: str, error: MlxdError) -> ErrorReply | None:
        """See `Api.unread`."""
        dialect = self._owners.named(path)
        caller = Caller(self._tuning.new_id(), created=int(self._tuning.clock()))
        return None if dialect is None else dialect.error(error, caller)

    async def _finish_handshake(self, response: ResponseTypes | None) -> ResponseTypes | None:
        """A handshake has a response when it is refused."""
        return _with_id(response, current_socket()) if isinstance(response, Response) else response

    async def _finish_headers(self, response: Response) -> Response:
        request = current_request()
        ignored = response.headers.get(IGNORED, "")
        response.headers.update(repaired_header(ignored, request.record.repaired))
        if request.record.model:
            response.headers["x-mlxd-model"] = request.record.model
        response.headers.update(self._owners.of(request).headers(request.caller()))
        if request.allowed_origin:
            response.headers.update(cors_headers(request.allowed_origin))
        response.vary.add("Origin")
        return _with_id(response, request)


def variants(rule: str) -> tuple[str, ...]:
    """A path with and, as many clients write it, without `/v1`, or with two of it."""
    bare = rule.removeprefix("/v1")
    return (rule,) if bare == rule else (rule, bare, f"/v1{rule}")


def response_of(reply: Reply) -> Response:
    """`reply` as Quart sends it."""
    if isinstance(reply.body, bytes):
        return Response(reply.body, 200, dict(reply.headers), content_type=reply.media_type)
    headers = {**reply.headers, **UNBUFFERED}
    response = Response(reply.body, 200, headers, content_type=reply.media_type)
    # Quart would cut a stream that takes longer, with a status that says all is well.
    response.timeout = None
    return response


def _with_id(response: Response, request: IncomingRequest) -> Response:
    """The id under both names that the vendors' clients look for."""
    request.record.status = response.status_code
    response.headers["x-request-id"] = request.id
    response.headers["request-id"] = request.id
    return response
