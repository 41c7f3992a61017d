"""What the rest of mlxd sees of an engine: two protocols and the values they speak in."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from mlxd.events import Event, Failed, Finished, Phase
from mlxd.messages import GenerateRequest, ReasoningMode, Source
from mlxd.status import Restart

ModelState = Literal["unloaded", "loading", "loaded", "failed"]
EngineState = Literal["starting", "ready", "restarting", "failed", "stopping", "stopped"]


class Markup(msgspec.Struct, frozen=True):
    """How to read a model's text.

    `reasoning` holds (opening, closing) tag pairs; `tool_format` names a notation of
    `mlxd.engine.notations`; `structural` are control texts that are dropped wherever they appear.
    """

    reasoning: tuple[tuple[str, str], ...] = ()
    tool_format: str | None = None
    structural: tuple[str, ...] = ()


class ModelInfo(msgspec.Struct, frozen=True):
    """A configured model as callers may know it.

    `context_length` and `bytes` (of weights in memory) are 0 until the model was loaded once;
    `reason` says why the state is `failed`. While it loads, `progress` goes from 0 to 1.
    """

    id: str
    aliases: tuple[str, ...] = ()
    source: str = ""
    state: ModelState = "unloaded"
    context_length: int = 0
    max_tokens: int = 0
    bytes: int = 0
    reason: str = ""
    markup: Markup = Markup()
    reasoning_mode: ReasoningMode = "separate"
    progress: float = 0.0


class RequestStatus(msgspec.Struct, frozen=True):
    """A request that is waiting or running, as a dashboard shows it.

    Times are in seconds: `queued`, `prefill` and `decode` are how long it was in each phase so far,
    `first_token` is the time from its arrival to its first token, 0 before. `rate` is tokens a
    second of decoding; `max_tokens` is 0 where the request leaves it to the model. `wait_note` says
    in words why it is still queued, as far as that is known.
    """

    id: str
    model: str
    dialect: str
    phase: Phase | Literal["decode"]
    age: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    completion_tokens: int = 0
    cache_note: str = ""
    wait_note: str = ""
    queued: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    first_token: float = 0.0
    rate: float = 0.0
    max_tokens: int = 0
    source: Source = Source()


class EngineStatus(msgspec.Struct, frozen=True):
    """The truth about the engine now.

    `idle_seconds` is the time since the last sign of progress while work was queued (0 when idle);
    memory is in bytes; `step_seconds` is the median of the last decode steps.
    """

    state: EngineState
    reason: str = ""
    restarts: int = 0
    pid: int = 0
    device: str = ""
    blas: str = ""
    uptime: float = 0.0
    idle_seconds: float = 0.0
    memory_used: int = 0
    memory_peak: int = 0
    memory_limit: int = 0
    step_seconds: float = 0.0
    prefix_entries: int = 0
    prefix_bytes: int = 0
    prefix_hits: int = 0
    prefix_hit_tokens: int = 0
    models: tuple[ModelInfo, ...] = ()
    requests: tuple[RequestStatus, ...] = ()
    last_restarts: tuple[Restart, ...] = ()


class Watcher(Protocol):
    """Who hears what an engine does, as it happens; called on the event loop, must not wait."""

    def computed(self, prefilled: int, decoded: int) -> None:
        """So many tokens of prompts were computed, and so many were generated."""

    def moved(self, request: GenerateRequest, status: RequestStatus) -> None:
        """A request was accepted (`queued`), or has come to its next phase."""

    def ended(
        self, request: GenerateRequest, status: RequestStatus, end: Finished | Failed | None
    ) -> None:
        """A request that was accepted is over; `end` is None when its caller has left."""

    def wrote(self, request: GenerateRequest, text: str) -> None:
        """An answer has more text; told only where `wants_text`."""

    @property
    def wants_text(self) -> bool:
        """Whether answers' texts are told too."""

    def changed(self) -> None:
        """The state of the engine or of a model may be another now."""


class Unwatched:
    """A watcher that watches nothing."""

    wants_text = False

    def computed(self, prefilled: int, decoded: int) -> None: ...

    def moved(self, request: GenerateRequest, status: RequestStatus) -> None: ...

    def ended(
        self, request: GenerateRequest, status: RequestStatus, end: Finished | Failed | None
    ) -> None: ...

    def wrote(self, request: GenerateRequest, text: str) -> None: ...

    def changed(self) -> None: ...


class Generation(Protocol):
    """One answer on its way: an async iterator over batches of events, never empty.

    A batch is what was there when it was asked for, so a slow reader gets few large batches. The
    batches together are one stream of `mlxd.events`. A wait for the next batch may be given up and
    begun again; no event is lost by it.
    """

    def __aiter__(self) -> AsyncIterator[list[Event]]: ...

    async def __anext__(self) -> list[Event]: ...


class Engine(Protocol):
    """Generates. Shipped twice: the supervised MLX process and `ScriptedEngine`."""

    async def start(self) -> None:
        """Begin; returns at once, models may still be loading."""

    async def stop(self, drain: float) -> None:
        """Take nothing new, give what runs `drain` seconds, fail the rest with `EngineStopped`."""

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[Generation]:
        """Run one request; leaving the context by any door frees its slot.

        Entering waits until the request is validated, tokenised and queued, and raises
        `ModelNotFound`, `InvalidField`, `ContextTooLong`, `ModelUnusable`, `QueueFull`,
        `EngineFailed` or `EngineStopped`: everything that can be known before the first byte.
        """

    async def count_tokens(self, request: GenerateRequest) -> int:
        """Prompt tokens of `request`, rendered as `generate` would; never waits for generation."""

    async def load(self, model: str) -> None:
        """Bring a configured model into memory; raises `ModelNotFound` or `ModelUnusable`."""

    async def unload(self, model: str) -> None:
        """Drop a model's weights once its running requests are done."""

    def cancel(self, request: str) -> bool:
        """End the request of this id, or all choices of it, with `Cancelled`; whether it is known.

        What it holds is freed at once.
        """

    def restart(self, reason: str) -> None:
        """Replace the engine process now; what it has fails with `EngineCrashed` and `reason`."""

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher`, and nobody else, what happens from now on."""

    def models(self) -> tuple[ModelInfo, ...]:
        """The configured models, in the configuration's order."""

    def status(self) -> EngineStatus:
        """The engine's state now; cheap enough for several calls a second."""
