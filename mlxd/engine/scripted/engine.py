"""An engine without a model: it plays written event scripts.

For tests, and for people who build a client and want answers that are always the same. A script is
a function from the request to events; what it leaves out is filled in: `Started` if it does not
come first, `Finished` if there is no terminal event, and usage that is left at its default, counted
by the fixed tokenizer of `answers`. As with a real prefix cache, the longest beginning that a
prompt shares with an earlier one of the same model and API key counts as cached, all but its last
token, and a note says why it is not more. `stop` and `max_tokens` of a request do not change a
written answer.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from msgspec.structs import replace

from mlxd.engine.grammar.requested_schemas import is_constrained, requested_schemas
from mlxd.engine.interface import Generation, Unwatched, Watcher
from mlxd.engine.scripted.agent import agent
from mlxd.engine.scripted.answers import prompt_characters, prompt_tokens
from mlxd.engine.scripted.playback import Gate, Pause, Play, Playback, ScriptItem
from mlxd.engine.scripted.script_file import load_script
from mlxd.errors import (
    Cancelled,
    ContextTooLong,
    EngineCrashed,
    EngineStopped,
    MlxdError,
    ModelNotFound,
    QueueFull,
)
from mlxd.events import CacheNote, Usage
from mlxd.messages import GenerateRequest
from mlxd.status import EngineState, EngineStatus, ModelInfo, ModelState, Restart

__all__ = ["Gate", "Pause", "Play", "ScriptItem", "ScriptedEngine", "agent", "load_script"]

REMEMBERED = 64
"""Prompts that a later one may share a beginning with, and requests that tests can see."""
REMEMBERED_TOKENS = 500_000
"""Tokens of all those prompts."""
REMEMBERED_RESTARTS = 20
FIRST_PROMPT = CacheNote("first_prompt", "first prompt of this key")
OTHER_MODEL = CacheNote("other_model", "earlier prompts of this key were for another model")
LARGE_PROMPT = 200_000
"""Characters from which on preparing a prompt would hold up others."""

USUAL_MODELS = (
    ModelInfo(
        id="scripted",
        source="scripted",
        state="loaded",
        context_length=1_000_000,
        max_tokens=4096,
    ),
)


# One after the other, as an engine's preparing thread does: each thread's memory stays its own.
_PREPARING = ThreadPoolExecutor(1, "prepare")


@dataclass(frozen=True)
class _Prepared:
    """A request's prompt, and what of its schemas a grammar would leave out."""

    tokens: list[str]
    left_out: tuple[str, ...]


async def prepared(request: GenerateRequest) -> _Prepared:
    """What a request is before it is played; raises `InvalidField`.

    A large one is prepared in a thread: with a real engine it would not be done in the server.
    """

    def prepare() -> _Prepared:
        left_out = requested_schemas(request).left_out if is_constrained(request) else ()
        return _Prepared(prompt_tokens(request), left_out)

    if prompt_characters(request) <= LARGE_PROMPT:
        return prepare()
    return await asyncio.get_running_loop().run_in_executor(_PREPARING, prepare)


class ScriptedEngine:
    """Implements `Engine`; counts what tests ask about."""

    def __init__(
        self,
        play: Play,
        *,
        models: tuple[ModelInfo, ...] = USUAL_MODELS,
        max_queue: int = 64,
        max_batch: int = 32,
        remembered: int = REMEMBERED,
    ) -> None:
        self.requests: deque[GenerateRequest] = deque(maxlen=remembered)
        """The last `remembered` requests, the refused ones too."""
        self.cancelled = 0
        """Generations that were left before their terminal event."""
        self._play = play
        self._models = {model.id: model for model in models}
        self._max_queue = max_queue
        self._max_batch = max_batch
        self._live: list[Playback] = []
        self._prompts: deque[tuple[str, str, list[str]]] = deque(maxlen=REMEMBERED)
        self._change = asyncio.Event()
        self._watcher: Watcher = Unwatched()
        self._restarts: list[Restart] = []
        self._born = time.monotonic()
        self._stopping = False
        self._stopped = False

    @property
    def running(self) -> int:
        """Generations that are entered or being entered, and have not ended."""
        return len(self._live)

    async def reaches(self, holds: Callable[["ScriptedEngine"], bool]) -> None:
        """Wait until `holds(self)`; it is called again whenever a generation comes or goes."""
        while not holds(self):
            await self._change.wait()

    async def start(self) -> None:
        """There is nothing to start."""

    def configure(self, models: tuple[ModelInfo, ...], *, max_queue: int, max_batch: int) -> None:
        """Take what is configured from now on; scripts that play go on."""
        states = {name: model.state for name, model in self._models.items()}
        self._models = {
            model.id: replace(model, state=states.get(model.id, model.state)) for model in models
        }
        self._max_queue, self._max_batch = max_queue, max_batch
        self._changed()
        self._watcher.changed()

    async def stop(self, drain: float) -> None:
        """See `Engine.stop`."""
        self._stopping = True
        self._watcher.changed()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                await self.reaches(lambda engine: not engine.running)
        for playback in self._live:
            playback.halt(EngineStopped())
        self._stopped = True
        self._watcher.changed()

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        """See `Engine.generate`; also raises what the script raises before its first event."""
        self.requests.append(request)
        playback = self._admit(request, await prepared(request))
        try:
            await self._enter(playback)
            yield playback
        finally:
            # A playback leaves the live ones with its terminal event.
            if playback in self._live:
                self.cancelled += 1
                self._end(playback)
            playback.abandon()

    async def count_tokens(self, request: GenerateRequest) -> int:
        """See `Engine.count_tokens`."""
        self._model(request.model)
        return len((await prepared(request)).tokens)

    async def load(self, model: str) -> None:
        """See `Engine.load`."""
        self._set_state(model, "loaded")

    async def unload(self, model: str) -> None:
        """See `Engine.unload`; scripts go on all the same."""
        self._set_state(model, "unloaded")

    def cancel(self, request: str) -> bool:
        """See `Engine.cancel`."""
        found = [playback for playback in self._live if playback.request.belongs_to(request)]
        for playback in found:
            playback.halt(Cancelled())
        return bool(found)

    def restart(self, reason: str) -> None:
        """See `Engine.restart`: there is no process, but what runs ends as it would with one."""
        if self._stopping:
            raise EngineStopped
        self._restarts.append(Restart(time.time(), reason))
        self._born = time.monotonic()
        for playback in self._live:
            playback.halt(EngineCrashed(reason=reason))
        self._watcher.changed()

    def watch(self, watcher: Watcher) -> None:
        """See `Engine.watch`."""
        self._watcher = watcher

    def models(self) -> tuple[ModelInfo, ...]:
        """See `Engine.models`."""
        return tuple(self._models.values())

    def status(self) -> EngineStatus:
        """See `Engine.status`."""
        state: EngineState = "ready"
        if self._stopping:
            state = "stopped" if self._stopped else "stopping"
        return EngineStatus(
            state=state,
            device="scripted",
            restarts=len(self._restarts),
            last_restarts=tuple(self._restarts[-REMEMBERED_RESTARTS:]),
            uptime=time.monotonic() - self._born,
            models=self.models(),
            requests=tuple(playback.status() for playback in self._live),
        )

    def _admit(self, request: GenerateRequest, prepared: _Prepared) -> Playback:
        if self._stopping:
            raise EngineStopped
        model = self._model(request.model)
        if len(self._live) >= self._max_batch + self._max_queue:
            raise QueueFull(limit=self._max_queue)
        prompt, left_out = prepared.tokens, prepared.left_out
        if 0 < model.context_length <= len(prompt):
            raise ContextTooLong(prompt_tokens=len(prompt), context_length=model.context_length)
        usage = self._prompt_usage(request, prompt)
        playback = Playback(request, self._play, usage, self._watcher)
        playback.left_out = left_out
        playback.on_end = lambda: self._end(playback)
        self._live.append(playback)
        self._changed()
        return playback

    def _prompt_usage(self, request: GenerateRequest, prompt: list[str]) -> Usage:
        owner, model = request.source.key, request.model
        own = [(of, earlier) for whose, of, earlier in self._prompts if whose == owner]
        known = [(shared_beginning(prompt, each), len(each)) for of, each in own if of == model]
        self._prompts.append((owner, model, prompt))
        while sum(len(earlier) for _, _, earlier in self._prompts) > REMEMBERED_TOKENS:
            self._prompts.popleft()
        if not known:
            return Usage(len(prompt), cache_note=OTHER_MODEL if own else FIRST_PROMPT)
        shared = max(shared for shared, _ in known)
        usage = Usage(len(prompt), cached=min(shared, len(prompt) - 1))
        if shared >= len(prompt) - 1 or (shared, shared) in known:
            return usage
        words = f"differs from the closest earlier prompt after token {shared}"
        return replace(usage, cache_note=CacheNote("differs", words))

    async def _enter(self, playback: Playback) -> None:
        try:
            await playback.enter()
        except MlxdError:
            self._end(playback)
            raise

    def _end(self, playback: Playback) -> None:
        """Free its slot, if it still has one."""
        if playback in self._live:
            self._live.remove(playback)
            self._changed()

    def _changed(self) -> None:
        for playback in self._live[: self._max_batch]:
            playback.begin()
        # A new event for each change, so that everyone who waits sees each of them once.
        self._change.set()
        self._change = asyncio.Event()

    def _model(self, name: str) -> ModelInfo:
        if name not in self._models:
            raise ModelNotFound(model=name, available=list(self._models))
        return self._models[name]

    def _set_state(self, name: str, state: ModelState) -> None:
        self._models[name] = replace(self._model(name), state=state)
        self._watcher.changed()


def shared_beginning(one: list[str], other: list[str]) -> int:
    """How many leading elements are the same."""
    # By halving, as comparing slices is far faster than a loop over their elements.
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
