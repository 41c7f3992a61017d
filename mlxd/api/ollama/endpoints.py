"""The endpoints: answers, models in memory, and what is known of them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import msgspec
from msgspec.structs import replace as changed

from mlxd.api.dialect import Caller, JsonObject, ParsedCall
from mlxd.api.endpoints import ApiCall, Handler, Reply, Services, View, generated, json_reply
from mlxd.api.http.exchange import for_model
from mlxd.api.http.request_reader import ignored_header
from mlxd.api.model_names import MAX_ECHO, find_model, listed_names
from mlxd.api.ollama.errors import NOT_PULLED, missing, unsupported
from mlxd.api.ollama.models import Listed, running, shown, tags
from mlxd.api.ollama.renderer import timestamp
from mlxd.api.ollama.requests import ModelCall, chat_call, generate_call, validated
from mlxd.api.ollama.wire import NamedModel
from mlxd.api.wire.base import unknown_fields
from mlxd.api.wire.framing import NDJSON
from mlxd.api.wire.oldest_part import share_that_fits, shortened
from mlxd.errors import ContextTooLong, Forbidden, MlxdError, ModelNotFound
from mlxd.status import ModelInfo

NOT_MANAGED = "Models are not made, copied, pushed or deleted over HTTP here; they are configured."
PULL = "/api/pull"
MANAGING = (
    *(("POST", "/api/create"), ("POST", "/api/copy"), ("POST", "/api/push")),
    *(("DELETE", "/api/delete"), ("GET", "/api/blobs/<path:digest>")),
    ("POST", "/api/blobs/<path:digest>"),
)
Body = TypeVar("Body")
Understand = Callable[[JsonObject, Caller], ModelCall]


def views(services: Services, *, version: str, windows: Mapping[str, int]) -> Sequence[View]:
    """Every endpoint; `version` is the one to pretend, `windows` are configured ones by model."""
    own = OllamaEndpoints(services, windows)
    return (
        View("POST", "/api/chat", own.answering(chat_call)),
        View("POST", "/api/generate", own.answering(generate_call)),
        View("POST", "/api/embed", own.embed),
        View("POST", "/api/embeddings", own.embed),
        View("GET", "/api/version", _always({"version": version})),
        View("GET", "/api/tags", own.tags),
        View("GET", "/api/ps", own.running),
        View("POST", "/api/show", own.show),
        View("POST", PULL, own.pull),
        *(View(method, rule, _unmanaged) for method, rule in MANAGING),
    )


def _always(body: JsonObject) -> Handler:
    async def answer(call: ApiCall) -> Reply:
        return json_reply(body)

    return answer


async def _unmanaged(call: ApiCall) -> Reply:
    raise Forbidden(NOT_MANAGED)


class OllamaEndpoints:
    """Answers calls, and what they say of models in memory."""

    def __init__(self, services: Services, windows: Mapping[str, int]) -> None:
        self._services = services
        self._engine = services.engine
        self._windows = windows
        self._created = int(services.tuning.clock())
        self._unloading: set[asyncio.Task[None]] = set()

    def answering(self, understand: Understand) -> Handler:
        """What answers bodies that `understand` reads."""

        async def answer(call: ApiCall) -> Reply:
            asked = await self._read(call, lambda body: understand(body, call.caller))
            model = self._services.reader.model(asked.model, call.record)
            if asked.answer is None:
                return await self._keep(asked, model, call)
            if asked.unload:
                # Left behind the generation, which is entered later.
                call.stack.callback(self._unload, model)
            return await self._answer(for_model(asked.answer, model), call, asked.truncate)

        return answer

    async def _answer(self, parsed: ParsedCall, call: ApiCall, truncate: bool) -> Reply:
        while True:
            try:
                return await generated(self._services, call, parsed, NDJSON)
            except ContextTooLong as error:
                (request,) = parsed.requests
                share = share_that_fits(error.prompt_tokens, error.context_length)
                rest = shortened(request.messages, share) if truncate else None
                if rest is None:
                    raise
                parsed = replace(parsed, requests=(changed(request, messages=rest),))

    async def _keep(self, asked: ModelCall, model: str, call: ApiCall) -> Reply:
        if asked.unload:
            self._unload(model)
        else:
            await self._engine.load(model)
        said: JsonObject = {"response": ""}
        if asked.chat:
            said = {"message": {"role": "assistant", "content": ""}}
        body = {
            "model": asked.model,
            "created_at": timestamp(call.caller.created),
            **said,
            **{"done": True, "done_reason": "unload" if asked.unload else "load"},
        }
        return (
            _lines([body], asked.ignored)
            if asked.stream
            else json_reply(body, ignored_header(asked.ignored))
        )

    def _unload(self, model: str) -> None:
        """Have a model leave memory once nobody uses it, without waiting for that."""

        async def unload() -> None:
            # An engine that ends or is being replaced has left memory.
            with suppress(MlxdError):
                await self._engine.unload(model)

        task = asyncio.create_task(unload())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def embed(self, call: ApiCall) -> Reply:
        """Embeddings need models of another kind."""
        named = await self._named(call)
        self._services.reader.model(named.model or "", call.record)
        raise unsupported("model", f'"{named.model}" does not support embeddings')

    async def tags(self, call: ApiCall) -> Reply:
        """What can be asked for."""
        return json_reply(tags(await self._listed(self._engine.models()), self._created))

    async def running(self, call: ApiCall) -> Reply:
        """What is in memory."""
        return json_reply(running(await self._listed(self._engine.models())))

    async def show(self, call: ApiCall) -> Reply:
        """One model, by any of its names."""
        named = await self._named(call)
        name = named.model or ""
        models = self._engine.models()
        if (info := find_model(name, models)) is None:
            raise ModelNotFound(name[:MAX_ECHO], listed_names(models))
        (model,) = await self._listed([info])
        return json_reply(
            shown(model, name, self._created), ignored_header(tuple(unknown_fields(named)))
        )

    async def pull(self, call: ApiCall) -> Reply:
        """Nothing is brought here: a model that is served is there already."""
        named = await self._named(call)
        name = named.model or ""
        models = self._engine.models()
        found = find_model(name, models) is not None
        ignored = tuple(unknown_fields(named))
        if named.stream is not False:
            steps: list[JsonObject] = [{"status": "pulling manifest"}]
            return _lines(
                [*steps, {"status": "success"} if found else {"error": NOT_PULLED}], ignored
            )
        if not found:
            raise ModelNotFound(name[:MAX_ECHO], listed_names(models))
        return json_reply({"status": "success"}, ignored_header(ignored))

    async def _read(self, call: ApiCall, understand: Callable[[JsonObject], Body]) -> Body:
        # The samples in Ollama's own documentation name no type.
        return await self._services.reader.parsed(call.request, understand, any_type=True)

    async def _named(self, call: ApiCall) -> NamedModel:
        named = await self._read(call, lambda body: validated(NamedModel, body))
        model = named.model or named.name
        if not model:
            raise missing("model")
        return named.model_copy(update={"model": model})

    async def _listed(self, models: Sequence[ModelInfo]) -> list[Listed]:
        """Models with what their files say: those are read in a thread."""
        describe = self._services.describe
        facts = await asyncio.to_thread(lambda: [describe(each.source) for each in models])
        return [
            Listed(info, found, self._windows.get(info.id, 0))
            for info, found in zip(models, facts, strict=True)
        ]


def _lines(bodies: Sequence[JsonObject], ignored: Sequence[str]) -> Reply:
    """A stream whose end is known already."""
    data = b"".join(msgspec.json.encode(body) + b"\n" for body in bodies)
    return Reply(data, ignored_header(ignored), NDJSON.media_type)
