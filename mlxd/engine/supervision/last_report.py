"""What the engine process last said about itself and its models."""

import logging
import time
from collections import deque
from statistics import median

from msgspec.structs import replace

from mlxd.engine.interface import Markup
from mlxd.engine.protocol import LoadCrash, ModelChanged, ModelSpec, Ready, Step
from mlxd.errors import ModelNotFound
from mlxd.messages import GenerateRequest, Sampling
from mlxd.status import EngineFigures, ModelInfo

STEPS_REMEMBERED = 64
LOADING_SAID_EVERY = 2.0
"""Seconds after which the log says how far a model is read; a person waits for it."""
GB = 1e9

log = logging.getLogger("mlxd.engine")


class LastReport:
    """The last word of the engine process on everything; survives the process."""

    def __init__(self, specs: tuple[ModelSpec, ...], preload: str | None) -> None:
        self._preload = preload
        self._specs = {spec.id: spec for spec in specs}
        self._configured = tuple(self._specs)
        # Those that were configured stay: answers of theirs may still run.
        self._models = {spec.id: _unloaded(spec) for spec in specs}
        self._markups: dict[str, Markup] = {}
        # In the order they were loaded; a dict because a set has none.
        self._wanted = dict.fromkeys([preload] if preload is not None else [])
        self._sampling = {spec.id: spec.sampling.merged(spec.usual_sampling) for spec in specs}
        self._files: dict[str, str] = {}
        self.crashes: dict[str, LoadCrash] = {}
        """What each model did to a process that loaded it."""
        self._steps: deque[float] = deque(maxlen=STEPS_REMEMBERED)
        self.hello: Ready | None = None
        """What the process that is alive said when it was ready for commands."""
        self.figures = EngineFigures()
        self._ready_at = 0.0
        self._said_at = 0.0

    def configure(self, specs: tuple[ModelSpec, ...], preload: str | None) -> None:
        """Take what is configured from now on."""
        self._preload = preload
        self._configured = tuple(spec.id for spec in specs)
        for spec in specs:
            before = self._models.get(spec.id) or _unloaded(spec)
            self._specs[spec.id] = spec
            self._models[spec.id] = replace(
                before, aliases=spec.aliases, max_tokens=spec.max_tokens
            )
            # Until the engine says what its own files make of that.
            loaded = self._sampling.get(spec.id) if before.state == "loaded" else None
            self._sampling[spec.id] = spec.sampling.merged(loaded or spec.usual_sampling)
        for name in self.retired:
            self._wanted.pop(name, None)

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """The configured models, in the configuration's order."""
        return tuple(self._models[name] for name in self._configured)

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The configured models and, behind them, those that were."""
        return tuple(self._specs[name] for name in (*self._configured, *self.retired))

    @property
    def retired(self) -> tuple[str, ...]:
        """The models that are configured no more."""
        return tuple(name for name in self._models if name not in self._configured)

    @property
    def loading(self) -> bool:
        return any(model.state == "loading" for model in self._models.values())

    @property
    def preload(self) -> str | None:
        """The model that the next process loads first."""
        return self._preload if self._preload in self._wanted else None

    @property
    def reload(self) -> tuple[str, ...]:
        """The other models that the next process has to load."""
        return tuple(model for model in self._wanted if model != self._preload)

    @property
    def models_tried(self) -> bool:
        """Whether every model that is wanted was loaded, or tried, by this process."""
        return self.hello is not None and all(
            self._models[model].state in ("loaded", "failed") for model in self._wanted
        )

    @property
    def step_seconds(self) -> float:
        return median(self._steps) if self._steps else 0.0

    @property
    def uptime(self) -> float:
        """Seconds since the process that is alive was ready."""
        return time.monotonic() - self._ready_at if self.hello is not None else 0.0

    def model(self, name: str) -> ModelInfo:
        """The model with this id; raises `ModelNotFound`."""
        if name not in self._models:
            raise ModelNotFound(model=name, available=list(self._configured))
        return self._models[name]

    def configured(self, name: str) -> ModelInfo:
        """The model that new requests may ask for; raises `ModelNotFound`."""
        if name not in self._configured:
            raise ModelNotFound(model=name, available=list(self._configured))
        return self._models[name]

    def settled(self, request: GenerateRequest) -> GenerateRequest:
        """`request` with what is configured now, so that nothing configured later changes it."""
        name = request.model
        spec, known = self._specs[name], self._models[name].state == "loaded"
        usual = self._sampling[name] if known else spec.sampling
        return replace(
            request,
            sampling=request.sampling.merged(usual),
            max_tokens=request.max_tokens or spec.max_tokens,
            reasoning=replace(
                request.reasoning, mode=request.reasoning.mode or spec.reasoning_mode
            ),
        )

    def markup(self, model: str) -> Markup:
        """How to read the text of a model that was loaded."""
        return self._markups.get(model, Markup())

    def sampling(self, model: str) -> Sampling:
        """How tokens are drawn where a request does not say."""
        return self._sampling[model]

    def changed(self, change: ModelChanged) -> None:
        """Take a model's new state; what is only known of a loaded model is kept."""
        before = self.model(change.model)
        self._models[change.model] = replace(
            before,
            state=change.state,
            # What is configured meanwhile comes with the next load.
            source=self._specs[change.model].source if change.files else before.source,
            reason=change.reason,
            context_length=change.context_length or before.context_length,
            bytes=change.bytes or before.bytes,
            progress=change.progress,
            unbatched=change.unbatched if change.state == "loaded" else before.unbatched,
            answers=change.answers or before.answers,
        )
        if change.state != before.state or self._long_silent(change):
            self._said_at = time.monotonic()
            _log_change(change)
        self._files[change.model] = change.files or self._files.get(change.model, "")
        if change.state == "loaded":
            self.crashes.pop(change.model, None)
            self._markups[change.model] = change.markup
            self._sampling[change.model] = change.sampling.merged(self._sampling[change.model])
            if change.model in self._configured:
                self._wanted[change.model] = None
        elif change.state == "unloaded":
            self._wanted.pop(change.model, None)

    def _long_silent(self, change: ModelChanged) -> bool:
        """Whether it is time to tell a person again that a model is being loaded."""
        silent = time.monotonic() - self._said_at
        return change.state == "loading" and (change.progress == 1 or silent >= LOADING_SAID_EVERY)

    def not_loaded(self, name: str, reason: str) -> None:
        """What needed the model was refused; if it was loading, that has failed."""
        if (model := self._models[name]).state == "loading":
            self._models[name] = replace(model, state="failed", reason=reason)

    def ready(self, hello: Ready) -> None:
        log.info(
            "ready on %s, BLAS %s, %.1f GB for models",
            *(hello.device, hello.blas, hello.memory_limit / GB),
        )
        self.hello = hello
        self._ready_at = time.monotonic()

    def stepped(self, step: Step) -> None:
        if step.decode:
            self._steps.append(step.seconds)

    def forget(self, *, crash: str = "") -> None:
        """The process is gone, and with it every model in memory; `crash` says how, if by itself.

        A model that was just loading is not wanted again: it is what the process died of.
        """
        self.hello = None
        self.figures = EngineFigures()
        self._steps.clear()
        for name, model in self._models.items():
            if model.state == "loading" and name != self._preload:
                self._wanted.pop(name, None)
            if model.state == "loading" and crash:
                reason = f"the engine process was lost while it was loading: {crash}"
                self.crashes[name] = LoadCrash(self._files.get(name, ""), reason)
                log.error("model %s can't be used: %s", name, reason)
            self._models[name] = replace(model, state="unloaded", reason="", progress=0.0)
        for name, known in self.crashes.items():
            self._models[name] = replace(self._models[name], state="failed", reason=known.reason)


def _log_change(change: ModelChanged) -> None:
    match change.state:
        case "loaded":
            log.info(
                "model %s loaded: %.1f GB, window of %d tokens",
                *(change.model, change.bytes / GB, change.context_length),
            )
            if change.unbatched:
                log.warning(
                    "model %s is served one request at a time: %s", change.model, change.unbatched
                )
        case "failed":
            log.error("model %s can't be used: %s", change.model, change.reason)
        case "loading" if change.progress == 1:
            log.info("model %s: %.1f GB read, trying it out", change.model, change.bytes / GB)
        case "loading" if change.progress:
            read = (change.model, 100 * change.progress, change.bytes / GB)
            log.info("model %s: %.0f %% of %.1f GB read", *read)
        case "loading" | "unloaded" as state:
            log.info("model %s: %s", change.model, state)


def _unloaded(spec: ModelSpec) -> ModelInfo:
    return ModelInfo(
        id=spec.id,
        aliases=spec.aliases,
        source=spec.source,
        max_tokens=spec.max_tokens,
    )
