"""`/admin` and `/metrics`: what the server is doing, and the few things that may be done to it.

They are for programs of the person who runs the server and need a token of their own. A GET changes
nothing.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from quart import Response

from mlxd import errors
from mlxd.api.admin.activity import Activity
from mlxd.api.admin.event_feed import EventReader
from mlxd.api.admin.log_watch import log_watched
from mlxd.api.admin.metrics import CONTENT_TYPE
from mlxd.api.admin.snapshots import FRESH, ServerFacts, Snapshots
from mlxd.api.dialect import Frame
from mlxd.api.http.admin_gate import ADMIN
from mlxd.api.http.error_replies import json_response, retry_after
from mlxd.api.http.framework import UNBUFFERED, Api, current_request
from mlxd.api.model_names import find_model, listed_names
from mlxd.api.wire.framing import SSE
from mlxd.config.secrets import without_secrets
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine

log = logging.getLogger(__name__)

AdminView = Callable[..., Awaitable[Response]]

RATE = (0.1, 4.0)
"""Fewest and most statuses a second of `/admin/events`."""
UNCHANGED = 1.0
"""Seconds after which a status is sent though nothing has happened."""
AT_ONCE = 1.0
"""Seconds for which an answer waits until a model is loaded or unloaded."""
RESTARTED = "restarted by an administrator"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATUSES: dict[type[errors.MlxdError], int] = {
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.RouteNotFound: 404,
    errors.ModelNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.ModelUnusable: 409,
    errors.RateLimited: 429,
    errors.RequestError: 400,
    errors.Unavailable: 503,
    errors.GenerationError: 503,
    errors.InternalError: 500,
}
STREAM_HEADERS = {"content-type": SSE.media_type, **UNBUFFERED}
UNSEEN = {"cache-control": "no-store"}


class AdminEndpoints:
    """The endpoints."""

    def __init__(
        self, settings: Settings, engine: Engine, activity: Activity, facts: ServerFacts
    ) -> None:
        self._engine = engine
        self._activity = activity
        self._facts = facts
        self._snapshots = Snapshots(settings, engine, activity, facts)
        self._changing: set[asyncio.Task[None]] = set()

    def configure(self, settings: Settings) -> None:
        """Show these settings from now on."""
        self._snapshots.settings = settings
        self._activity.configure(show_text=settings.admin.show_text)

    def add_rules(self, app: Api) -> None:
        """Every path below `/admin` is ours, for every method, so that one gate is before all."""
        rules: list[tuple[str, str, AdminView]] = [
            ("GET", "/admin/status", self.status),
            ("GET", "/admin/events", self.events),
            ("GET", "/admin/history", self.history),
            ("GET", "/admin/config", self.config),
            ("POST", "/admin/requests/<name>/cancel", self.cancel),
            ("POST", "/admin/models/<path:name>/load", self.load),
            ("POST", "/admin/models/<path:name>/unload", self.unload),
            ("POST", "/admin/engine/restart", self.restart),
            ("POST", "/admin/reload", self.reload),
            ("GET", "/metrics", self.metrics),
        ]
        for method, rule, view in rules:
            app.add_url_rule(rule, f"{ADMIN}{rule}", _only(method, view), methods=METHODS)
        app.while_serving(self._watch_log)
        for rule in ("/admin", "/admin/", "/admin/<path:name>"):
            app.add_url_rule(rule, f"{ADMIN}{rule}", _nothing_here, methods=METHODS)

    async def status(self) -> Response:
        """Everything, now."""
        data = self._snapshots.latest(older=0.0).data
        return Response(data, 200, UNSEEN, content_type="application/json")

    async def history(self) -> Response:
        """Tokens second by second."""
        return json_response(self._activity.counts.history(), 200, UNSEEN)

    async def config(self) -> Response:
        """The settings in effect, without secrets."""
        shown = without_secrets(self._snapshots.settings)
        return json_response({"file": self._facts.config_file, "settings": shown}, 200, UNSEEN)

    async def metrics(self) -> Response:
        """The page that Prometheus reads."""
        page = self._activity.metrics.page(self._snapshots.status)
        return Response(page, 200, UNSEEN, content_type=CONTENT_TYPE)

    async def events(self) -> Response:
        """The status again and again, and what happens in between."""
        request = current_request()
        interval = 1.0 / _rate(request.args.get("rate", ""))
        if request.method == "HEAD":
            return Response(b"", 200, STREAM_HEADERS)
        reader = request.stack.enter_context(self._activity.feed.reader())
        response = Response(self._event_stream(reader, interval), 200, STREAM_HEADERS)
        response.timeout = None
        return response

    async def cancel(self, name: str) -> Response:
        """End a request."""
        if not self._engine.cancel(name):
            return _refusal(404, "not_found", "No request of this id waits or runs.")
        loggable = re.sub(r"[^\w-]", "?", name)[:64]
        log.info("request %s was cancelled by an administrator", loggable)
        return json_response({"id": name, "cancelled": True})

    async def load(self, name: str) -> Response:
        """Bring a model into memory: 200 when it is there, 202 while it loads."""
        return await self._change(name, self._engine.load)

    async def unload(self, name: str) -> Response:
        """Drop a model once its requests are done: 200 when it is gone, 202 before."""
        return await self._change(name, self._engine.unload)

    async def restart(self) -> Response:
        """Replace the engine process."""
        self._engine.restart(RESTARTED)
        log.warning("the engine was restarted by an administrator")
        return json_response({"state": self._engine.status().state}, 202)

    async def reload(self) -> Response:
        """Read the configuration again, and take it unless it is only to be checked."""
        check = _flag(current_request().args.get("check", ""))
        try:
            found = await self._facts.reload(check)
        except errors.ConfigError as error:
            return _misconfigured(error)
        return json_response({"changed": [each._asdict() for each in found]}, 200, UNSEEN)

    async def _watch_log(self) -> AsyncGenerator[None, None]:
        with log_watched(self._activity.log):
            yield

    async def _change(
        self, name: str, change: Callable[[str], Coroutine[Any, Any, None]]
    ) -> Response:
        models = self._engine.models()
        model = find_model(name, models)
        if model is None:
            raise errors.ModelNotFound(model=name[:256], available=listed_names(models))
        task = asyncio.create_task(change(model.id), name=f"mlxd admin {model.id}")
        # Kept until it is done: the event loop itself holds tasks weakly.
        self._changing.add(task)
        task.add_done_callback(self._changed)
        done, _ = await asyncio.wait({task}, timeout=AT_ONCE)
        if done:
            await task
        # Meanwhile it may have left the configuration.
        now = find_model(model.id, self._engine.models()) or model
        return json_response({"id": now.id, "state": now.state}, 200 if done else 202)

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("what an administrator asked for failed: %s", type(error).__name__)

    async def _event_stream(
        self, reader: EventReader, interval: float
    ) -> AsyncGenerator[bytes, None]:
        now = asyncio.get_running_loop().time
        seen, sent, due = -1, 0.0, now()
        while True:
            frames = [Frame(msgspec.json.encode(event), "activity") for event in reader.take()]
            over = self._activity.state == "stopped"
            if now() >= due or over:
                due = now() + interval
                if self._activity.version != seen or now() - sent >= UNCHANGED or over:
                    seen, data = self._snapshots.latest(older=0.0 if over else FRESH)
                    sent = now()
                    frames.append(Frame(data, "status"))
            if frames:
                yield SSE.encode(frames)
            if over:
                return
            await reader.wait(max(0.0, due - now()))


def refusal_of(error: errors.MlxdError) -> Response:
    """An error as these endpoints show it."""
    status = next((STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES), 500)
    response = _refusal(
        status, re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower(), str(error)
    )
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if isinstance(error, errors.Unavailable):
        response.headers["retry-after"] = retry_after(error.retry_after)
    return response


def _refusal(status: int, kind: str, message: str) -> Response:
    return json_response({"error": {"type": kind, "message": message}}, status, UNSEEN)


def _misconfigured(error: errors.ConfigError) -> Response:
    problems = [
        {"file": each.file, "line": each.line, "key": each.key, "reason": each.reason}
        | {"hint": each.hint}
        for each in (error, *error.others)
    ]
    shown = {"type": "config_error", "message": str(error), "problems": problems}
    return json_response({"error": shown}, 400, UNSEEN)


def _only(method: str, view: AdminView) -> AdminView:
    """`view` for `method` alone."""

    async def checked(**path_args: str) -> Response:
        request = current_request()
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            raise errors.MethodNotAllowed(request.method[:16], request.path[:200])
        return await view(**path_args)

    return checked


async def _nothing_here(name: str = "") -> Response:
    request = current_request()
    raise errors.RouteNotFound(request.method[:16], request.path[:200])


def _flag(text: str) -> bool:
    if text not in ("", "true", "false", "1", "0"):
        raise errors.InvalidField("check", "value", "check must be true or false.")
    return text in ("true", "1")


def _rate(text: str) -> float:
    """Statuses a second that a reader asks for."""
    slowest, fastest = RATE
    try:
        requested = float(text) if text else fastest
    except ValueError:
        requested = 0.0
    if not requested > 0:
        raise errors.InvalidField("rate", "value", "rate must be a number above 0.")
    return max(slowest, min(fastest, requested))
