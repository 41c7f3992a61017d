"""The models in memory, each with what runs it, and who has to leave for another."""

import copy
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import mlx.core as mx

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.batching.row_trial import RowAbility
from mlxd.engine.grammar.constrainer import Constrainer
from mlxd.engine.model_files.library import state_of_files
from mlxd.engine.models.fingerprint import state_of_weights
from mlxd.engine.models.loading import LoadedModel, adopt, blaming, lacks_memory, load, unload
from mlxd.engine.prefix_disk.spill import PrefixDisk
from mlxd.engine.process.device import device_computes, measured_memory
from mlxd.engine.process.input_threads import EngineSocket, Preparer
from mlxd.engine.process.known_trials import KnownTrials
from mlxd.engine.prompt.answers import Answers, scope_of
from mlxd.engine.prompt.builder import PromptBuilder
from mlxd.engine.protocol import (
    Answered,
    Configure,
    EngineLimits,
    ModelChanged,
    ModelSpec,
    Reconfigure,
)
from mlxd.engine.scheduling.scheduler import Scheduler
from mlxd.errors import ErrorReport, ModelNotFound, ModelUnusable

GB = 1e9
QUEUE_SHARE = 0.05
"""Share of the memory for models that may wait to be written to the disk."""
FAILURE_WINDOW = 60.0
"""A model whose steps fail twice within so many seconds is not trusted any more."""

log = logging.getLogger(__name__)


@dataclass
class ResidentModel:
    """A loaded model with everything that runs it."""

    loaded: LoadedModel
    ability: RowAbility
    batch: MlxBatch
    scheduler: Scheduler
    used: float = 0.0
    unloads: list[int] = field(default_factory=list)
    awaited: set[int] = field(default_factory=set)
    """Commands that the model was loaded for, and that are being prepared."""
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    served: bool = False
    """Whether a step has brought a token."""


@dataclass(frozen=True)
class _Failure:
    """Why a model can't be used, since when, and how its files were (None: it may be tried anew).

    `crashed` says that trying costs the process.
    """

    reason: str
    files: str | None
    at: float = 0.0
    crashed: bool = False


class NoRoom(ModelUnusable):
    """There is no memory for a model beside those that work now."""

    def __init__(self, model: str) -> None:
        super().__init__(model, "it does not fit into memory beside what is running")

    def report(self) -> ErrorReport:
        return ModelUnusable(self.model, self.reason).report()


class ModelPool:
    """The loaded models; every change is sent to the server."""

    def __init__(
        self,
        server: EngineSocket,
        preparer: Preparer,
        post: Callable[[Callable[[], None]], None] = lambda call: None,
    ) -> None:
        self._server = server
        self._preparer = preparer
        self._post = post
        self._residents: dict[str, ResidentModel] = {}
        self._specs: dict[str, ModelSpec] = {}
        self._limits = self._next_limits = EngineLimits()
        self._needs: dict[str, int] = {}
        self._failed: dict[str, _Failure] = {}
        self._trials = KnownTrials()
        self.memory_limit = 0
        """Bytes for weights and KV caches together."""
        self.prefixes = Prefixes(0)
        self.answers: Answers | None = None
        """What was said, if prompts go on from that."""

    def configure(self, config: Configure) -> None:
        """Take the models and limits of a new process."""
        self._limits = self._next_limits = config.limits
        self._specs = {spec.id: spec for spec in config.models}
        self._failed = {
            name: _Failure(crash.reason, crash.files, crashed=True)
            for name, crash in config.crashes.items()
        }
        self.memory_limit = config.limits.memory_bytes or measured_memory()
        self.answers = Answers() if config.limits.exact_history else None
        self.prefixes = Prefixes(0, self._disk())

    def reconfigure(self, command: Reconfigure) -> None:
        """Take what is configured from now on."""
        self._next_limits = command.limits
        for spec in command.models:
            if spec != self._specs.get(spec.id):
                # It was right of the model as it was: this one may fit, and be sound.
                self._needs.pop(spec.id, None)
                if (failure := self._failed.get(spec.id)) and not failure.crashed:
                    del self._failed[spec.id]
            self._specs[spec.id] = spec
        for name, resident in self._residents.items():
            adopt(resident.loaded, self._specs[name])
            self._report_loaded(resident)

    def _disk(self) -> PrefixDisk | None:
        """Where prefixes are kept besides, if they are."""
        limits = self.limits.prefix_disk
        if limits is None:
            return None
        return PrefixDisk(limits, int(QUEUE_SHARE * self.memory_limit), self._specs, self._post)

    @property
    def limits(self) -> EngineLimits:
        """The limits of this process."""
        return self._limits

    def get(self, name: str) -> ResidentModel | None:
        """A model if it is loaded."""
        return self._residents.get(name)

    def busy(self) -> list[ResidentModel]:
        """Those that have something to compute."""
        return [resident for resident in self._residents.values() if resident.scheduler.busy]

    def unload_unwanted(self) -> None:
        """Unload what shall be, once it is idle."""
        for resident in list(self._residents.values()):
            if resident.unloads and not resident.scheduler.busy:
                self.unload(resident)

    def recover(self, resident: ResidentModel, error: BaseException) -> None:
        """After a step that failed: go on with an empty batch, or, the second time, without it."""
        self.prefixes.distrust()
        now = time.monotonic()
        resident.failures.append(now)
        if len(resident.failures) < 2 or now - resident.failures[0] > FAILURE_WINDOW:
            try:
                self._restart(resident)
            except BaseException:
                log.exception("beginning anew failed")
            else:
                return
        if not device_computes():
            raise SystemExit(70) from error
        # The error's own words may hold what a caller wrote.
        self._give_up(resident, error, f"its generation steps fail with {type(error).__name__}")

    def _give_up(self, resident: ResidentModel, error: BaseException, reason: str) -> None:
        spec = resident.loaded.spec
        self._remove(resident)
        # What has served and fails now may be well when it is loaded anew.
        if not resident.served and not lacks_memory(error):
            self._fail(spec, reason)

    def _fail(self, spec: ModelSpec, reason: str, *, lasting: bool = True) -> None:
        """Remember that a model is unusable; if that is `lasting`, until its files change.

        All who wait for it get this failure, and those who ask later: trying it anew for each
        would make all others wait.
        """
        files = state_of_files(spec.source) if lasting else None
        self._failed[spec.id] = _Failure(reason, files, time.monotonic())
        self._server.send(ModelChanged(spec.id, "failed", reason=reason))

    def _restart(self, resident: ResidentModel) -> None:
        """Go on with an empty batch; what was computed is not trusted."""
        resident.batch.close()
        fresh = self._start(resident.loaded, resident.ability)
        resident.batch, resident.scheduler = fresh.batch, fresh.scheduler
        mx.clear_cache()
        self._share_memory()

    def save_prefixes(self) -> None:
        """Have what memory has of prompts written to the disk, and go on when there is room."""
        self.prefixes.save(lambda: self._post(self.save_prefixes))

    def shrink_prefixes(self) -> None:
        """Give prefixes no more than weights and running rows leave."""
        active = sum(resident.batch.active_bytes for resident in self._residents.values())
        # A row that goes on from the longest of them will hold a copy of its own.
        copy = max(self.prefixes.longest - active, 0)
        left = max(self.memory_limit - self._weights() - active - copy, 0)
        self.prefixes.allow(left, self.limits.prefix_cache_bytes)

    def provide(self, name: str, *, requested: float | None = None) -> ResidentModel:
        """The loaded model `name`, loading it now if need be.

        One that failed is tried again once its files were changed, or where an administrator wants
        it, whose command is not `requested` at any time.
        """
        if name in self._residents:
            return self._residents[name]
        spec = self._specs.get(name)
        if spec is None:
            raise ModelNotFound(name, list(self._specs))
        if (failure := self._failed.get(name)) and self._still_holds(failure, spec, requested):
            raise ModelUnusable(name, failure.reason)
        # What it needs is known once its files were read; then it is not read in vain again.
        if not self._may_fit(self._needs.get(name, 0)):
            raise NoRoom(name)
        self._server.send(ModelChanged(name, "loading", files=state_of_files(spec.source)))
        try:
            resident = self._load(spec)
        except NoRoom as error:
            self._server.send(ModelChanged(name, "unloaded", reason=error.reason))
            raise
        except ModelUnusable as error:
            self._fail(spec, error.reason, lasting=not lacks_memory(error.__cause__))
            raise
        self._report_loaded(resident)
        return resident

    def _report_loaded(self, resident: ResidentModel) -> None:
        loaded = resident.loaded
        self._server.send(
            ModelChanged(
                *(loaded.spec.id, "loaded", loaded.context_length, loaded.bytes),
                markup=loaded.markup,
                answers=loaded.format.answer,
                unbatched=resident.ability.reason,
                sampling=loaded.spec.sampling,
            )
        )

    def _still_holds(self, failure: _Failure, spec: ModelSpec, requested: float | None) -> bool:
        if requested is None and not failure.crashed:
            return False
        if requested is not None and requested < failure.at:
            return True
        return failure.files is not None and failure.files == state_of_files(spec.source)

    def _load(self, spec: ModelSpec) -> ResidentModel:
        """Bring a model into memory with all that runs it; raises `ModelUnusable`."""
        self._limits = self._next_limits
        # Before they are read: files that change meanwhile must not name what was read before.
        weights = state_of_weights(spec.source) if self.limits.prefix_disk else ""
        loaded = load(
            spec,
            lambda needed: self._make_room(spec, needed),
            lambda done, total: self._server.send(
                ModelChanged(spec.id, "loading", bytes=total, progress=done / max(total, 1))
            ),
        )
        try:
            with blaming("it can't be run", spec):
                makers = makers_for(loaded, self.answers)
                ability, _ = self._trials.ability(loaded)
                resident = self._start(loaded, ability)
        except ModelUnusable:
            unload(loaded)
            raise
        if weights:
            resident.batch.keep_on_disk(weights)
        self._residents[spec.id] = resident
        self._failed.pop(spec.id, None)
        self._share_memory()
        self._preparer.add_model(spec.id, *makers)
        return resident

    def _make_room(self, spec: ModelSpec, needed: int) -> None:
        """Unload idle models, the one longest unused first, until there is memory for `spec`."""
        if needed > self.memory_limit:
            sizes = f"{needed / GB:.1f} GB of the {self.memory_limit / GB:.1f} GB for models"
            raise ModelUnusable(spec.id, f"its weights take {sizes}")
        self._needs[spec.id] = needed
        # Nothing is unloaded in vain.
        if not self._may_fit(needed):
            raise NoRoom(spec.id)
        idle = sorted(self._idle(), key=lambda resident: -resident.used)
        while self._weights() + needed > self.memory_limit:
            self.unload(idle.pop())

    def _may_fit(self, needed: int) -> bool:
        """Whether there is memory for so many bytes of weights once idle models are gone."""
        freed = sum(resident.loaded.bytes for resident in self._idle())
        return self._weights() - freed + needed <= self.memory_limit

    def in_the_way(self, name: str) -> list[ResidentModel]:
        """The loaded models that have to leave so that `name` fits; small ones may stay."""
        # From the smallest: as many as possible stay.
        left = self.memory_limit - self._needs.get(name, 0)
        leaving: list[ResidentModel] = []
        for resident in sorted(self._residents.values(), key=lambda model: model.loaded.bytes):
            left -= resident.loaded.bytes
            if left < 0:
                leaving.append(resident)
        return leaving

    def _idle(self) -> list[ResidentModel]:
        """Those that compute nothing, and will not for whom they were loaded."""
        for resident in self._residents.values():
            resident.awaited = set(filter(self._preparer.is_live, resident.awaited))
        loaded = self._residents.values()
        return [model for model in loaded if not (model.scheduler.busy or model.awaited)]

    def _start(self, loaded: LoadedModel, ability: RowAbility) -> ResidentModel:
        limits = self.limits
        max_batch = limits.max_batch if ability.together else 1
        batch = MlxBatch(
            loaded,
            self.prefixes,
            answers=self.answers,
            ability=ability,
            max_batch=max_batch,
            prefill_budget=limits.prefill_budget,
        )
        scheduler = Scheduler(batch, max_batch=max_batch, clock=time.monotonic)
        return ResidentModel(loaded, ability, batch, scheduler)

    def unload(self, resident: ResidentModel) -> None:
        assert not resident.scheduler.busy, "rows would end without a word to their callers"
        self._remove(resident)

    def _remove(self, resident: ResidentModel) -> None:
        name = resident.loaded.spec.id
        del self._residents[name]
        self._preparer.remove_model(name)
        self.prefixes.forget(scope_of(name, ""))
        if self.answers is not None:
            # The name may come back with other files, whose tokens are others.
            self.answers.forget(scope_of(name, ""))
        resident.batch.close()
        unload(resident.loaded)
        self._share_memory()
        self._server.send(ModelChanged(name, "unloaded"))
        for command_id in resident.unloads:
            self._server.send(Answered(command_id))

    def _weights(self) -> int:
        return sum(resident.loaded.bytes for resident in self._residents.values())

    def _share_memory(self) -> None:
        """What the weights leave is shared evenly between the models' KV caches."""
        left = max(self.memory_limit - self._weights(), 0)
        for resident in self._residents.values():
            resident.batch.kv_bytes = left // len(self._residents)
            self._preparer.set_capacity(resident.loaded.spec.id, resident.batch.capacity)
        self.shrink_prefixes()


def makers_for(loaded: LoadedModel, answers: Answers | None) -> tuple[PromptBuilder, Constrainer]:
    """What the preparing thread needs of a model; raises `ModelUnusable`."""
    spec, size, ends = loaded.spec, loaded.vocab_size, sorted(loaded.eos_ids)
    try:
        # The fast tokenizers must not be shared between threads.
        tokenizer = copy.deepcopy(loaded.tokenizer)
        builder = PromptBuilder(
            tokenizer,
            spec,
            loaded.context_length,
            vocab_size=size,
            known=loaded.format,
            answers=answers,
            ends=ends,
        )
        constrainer = Constrainer(tokenizer, builder, ends=ends, vocab_size=size)
    except BaseException as error:  # Tokenizers raise what they like.
        log.exception("preparing prompts for %s failed", spec.id)
        raise ModelUnusable(
            spec.id, f"its tokenizer can't be used: {type(error).__name__}"
        ) from None
    return builder, constrainer
