"""What the rest of mlxd sees of an engine: two protocols and the values they speak in."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from mlxd.events import Event, Failed, Finished
from mlxd.messages import GenerateRequest
from mlxd.status import EngineStatus, ModelInfo, RequestStatus

COMMON_TAGS = ("<think>", "</think>")
"""The tags of thinking that most models have, and that programs write of their own."""


class Markup(msgspec.Struct, frozen=True):
    """How to read a model's text.

    `reasoning` holds (opening, closing) tag pairs; `tool_format` names a notation of
    `mlxd.engine.notations`, and `also_read` others whose markers count too; `structural` are
    control texts that are dropped wherever they appear.
    """

    reasoning: tuple[tuple[str, str], ...] = ()
    tool_format: str | None = None
    structural: tuple[str, ...] = ()
    also_read: tuple[str, ...] = ()

    def of_answer(self, *, opens_reasoning: bool) -> "Markup":
        """How one answer is read: begun thinking ends, though nobody knows the model's tags."""
        if self.reasoning or not opens_reasoning:
            return self
        return msgspec.structs.replace(self, reasoning=(COMMON_TAGS,))


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


@runtime_checkable
class PartlyEnforced(Protocol):
    """A generation that says what of its request is left to the model."""

    left_out: tuple[str, ...]
    """Places in the request, as in `tools.0.function.parameters.required`."""


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
