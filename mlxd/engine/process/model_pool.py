"""The models in memory, each with what runs it, and who has to leave for another."""

import logging
import math
import time
from collections.abc import Callable, Sequence

import mlx.core as mx

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.prefix_cache import Prefixes
from mlxd.engine.batching.row_trial import RowAbility
from mlxd.engine.model_files.library import state_of_files
from mlxd.engine.models.fingerprint import state_of_model
from mlxd.engine.models.loading import (
    LoadedModel,
    adopt,
    blaming,
    lacks_memory,
    load,
    renamed,
    unload,
)
from mlxd.engine.prefix_disk.spill import PrefixDisk
from mlxd.engine.process.blas_threads import BlasThreads, openblas
from mlxd.engine.process.device_memory import device_computes, measured_memory
from mlxd.engine.process.input_threads import EngineSocket, Preparer
from mlxd.engine.process.known_trials import KnownTrials
from mlxd.engine.process.resident_model import (
    LoadFailure,
    NoRoom,
    ResidentModel,
    ServedName,
    bytes_of,
    makers_for,
    weights_key,
)
from mlxd.engine.prompt.answers import Answers, scope_of
from mlxd.engine.protocol import (
    Answered,
    Configure,
    EngineLimits,
    ModelChanged,
    ModelSpec,
    Reconfigure,
)
from mlxd.engine.scheduling.fairness import Fairness
from mlxd.engine.scheduling.scheduler import Scheduler
from mlxd.errors import ModelNotFound, ModelUnusable

GB = 1e9
QUEUE_SHARE = 0.05
"""Share of the memory for models that may wait to be written to the disk."""
FAILURE_WINDOW = 60.0
"""A model whose steps fail twice within so many seconds is not trusted any more."""

log = logging.getLogger(__name__)


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
        self._by_name: dict[str, ResidentModel] = {}
        self._specs: dict[str, ModelSpec] = {}
        self._limits = self._next_limits = EngineLimits()
        self._needs: dict[str, int] = {}
        self._failed: dict[str, LoadFailure] = {}
        self._trials = KnownTrials()
        self._threads = BlasThreads(openblas())
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
            name: LoadFailure(crash.reason, crash.files, crashed=True)
            for name, crash in config.crashes.items()
        }
        self.memory_limit = config.limits.memory_bytes or measured_memory()
        self.prefixes = Prefixes(0, self._disk())
        exact = config.limits.exact_history
        self.answers = Answers(stored=self.prefixes.answers) if exact else None

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
        for name, resident in self._by_name.items():
            loaded = resident.names[name].loaded
            adopt(loaded, self._specs[name])
            self._report_loaded(resident, loaded)

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
        """A model if it is loaded; several names may have the same one."""
        return self._by_name.get(name)

    @property
    def _residents(self) -> list[ResidentModel]:
        """The loaded models, each once."""
        return list({id(model): model for model in self._by_name.values()}.values())

    def busy(self) -> list[ResidentModel]:
        """Those that have something to compute."""
        return [resident for resident in self._residents if resident.scheduler.busy]

    def unload_unwanted(self) -> None:
        """Unload what shall be, or has been idle for as long as it may."""
        now = time.monotonic()
        for resident in self._residents:
            if resident.scheduler.busy:
                continue
            for name, served in list(resident.names.items()):
                # Those who wait for it wait for its end, too: it is loaded anew for them.
                idle = served.idle_at() <= now and resident in self._idle()
                if served.unloads or idle:
                    self._remove(resident, (name,))

    @property
    def next_idle(self) -> float | None:
        """When a model will have been idle for as long as it may; None while none can be."""
        names = [name for resident in self._idle() for name in resident.names.values()]
        due = min((name.idle_at() for name in names), default=math.inf)
        return due if due < math.inf else None

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
        specs = [name.loaded.spec for name in resident.names.values()]
        self._remove(resident, list(resident.names))
        # What has served and fails now may be well when it is loaded anew.
        if not resident.served and not lacks_memory(error):
            for spec in specs:
                self._fail(spec, reason)

    def _fail(self, spec: ModelSpec, reason: str, *, lasting: bool = True) -> None:
        """Remember that a model is unusable; if that is `lasting`, until its files change.

        All who wait for it get this failure, and those who ask later: trying it anew for each
        would make all others wait.
        """
        files = state_of_files(spec.source) if lasting else None
        self._failed[spec.id] = LoadFailure(reason, files, time.monotonic())
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
        active = sum(resident.batch.active_bytes for resident in self._residents)
        # A row that goes on from the longest of them will hold a copy of its own.
        copy = max(self.prefixes.longest - active, 0)
        left = max(self.memory_limit - bytes_of(self._residents) - active - copy, 0)
        self.prefixes.allow(left, self.limits.prefix_cache_bytes)

    def provide(self, name: str, *, requested: float | None = None) -> ResidentModel:
        """The loaded model `name`, loading it now if need be.

        One that failed is tried again once its files were changed, or where an administrator wants
        it, whose command is not `requested` at any time.
        """
        if name in self._by_name:
            return self._by_name[name]
        spec = self._specs.get(name)
        if spec is None:
            raise ModelNotFound(name, list(self._specs))
        if (failure := self._failed.get(name)) and failure.holds(spec, requested):
            raise ModelUnusable(name, failure.reason)
        shared = self._with_weights_of(spec)
        # What it needs is known once its files were read; then it is not read in vain again.
        if shared is None and not self._may_fit(self._needs.get(name, 0)):
            raise NoRoom(name)
        self._server.send(ModelChanged(name, "loading", files=state_of_files(spec.source)))
        try:
            resident = self._load(spec) if shared is None else shared
            loaded = self._name(resident, spec)
        except NoRoom as error:
            self._server.send(ModelChanged(name, "unloaded", reason=error.reason))
            raise
        except ModelUnusable as error:
            self._fail(spec, error.reason, lasting=not lacks_memory(error.__cause__))
            raise
        self._report_loaded(resident, loaded)
        return resident

    def _report_loaded(self, resident: ResidentModel, loaded: LoadedModel) -> None:
        self._server.send(
            ModelChanged(
                *(loaded.spec.id, "loaded", loaded.context_length, loaded.bytes),
                markup=loaded.markup,
                answers=loaded.format.answer,
                unbatched=resident.ability.reason,
                sampling=loaded.spec.sampling,
            )
        )

    def _load(self, spec: ModelSpec) -> ResidentModel:
        """Bring a model into memory with all that runs it; raises `ModelUnusable`."""
        self._limits = self._next_limits
        # Before they are read: files that change meanwhile must not name what was read before.
        files = state_of_model(spec.source) if self.limits.prefix_disk else None
        key = weights_key(spec)
        loaded = load(
            spec,
            lambda needed: self._make_room(spec, needed),
            lambda done, total: self._server.send(
                ModelChanged(spec.id, "loading", bytes=total, progress=done / max(total, 1))
            ),
        )
        try:
            with blaming("it can't be run", spec):
                ability, _ = self._trials.ability(loaded)
                resident = self._start(loaded, ability)
                resident.key = key
        except ModelUnusable:
            unload(loaded)
            raise
        if files is not None:
            resident.batch.keep_on_disk(files)
        return resident

    def _with_weights_of(self, spec: ModelSpec) -> ResidentModel | None:
        """The loaded model whose weights another name has too."""
        wanted = weights_key(spec)
        return next((each for each in self._residents if each.key == wanted), None)

    def _name(self, resident: ResidentModel, spec: ModelSpec) -> LoadedModel:
        """Serve a model by one more name; raises `ModelUnusable`."""
        loaded = resident.loaded
        try:
            if spec.id != loaded.spec.id:
                loaded = renamed(loaded, spec)
            with blaming("it can't be run", spec):
                makers = makers_for(loaded, self.answers)
        except ModelUnusable:
            if not resident.names:
                resident.batch.close()
                unload(resident.loaded)
            raise
        resident.names[spec.id] = ServedName(loaded, time.monotonic())
        self._by_name[spec.id] = resident
        self._failed.pop(spec.id, None)
        self._share_memory()
        self._preparer.add_model(spec.id, *makers)
        return loaded

    def _make_room(self, spec: ModelSpec, needed: int) -> None:
        """Unload idle models, the one longest unused first, until there is memory for `spec`."""
        if needed > self.memory_limit:
            sizes = f"{needed / GB:.1f} GB of the {self.memory_limit / GB:.1f} GB for models"
            raise ModelUnusable(spec.id, f"its weights take {sizes}")
        pinned = [resident for resident in self._residents if resident.pinned]
        if needed > self.memory_limit - bytes_of(pinned):
            names = ", ".join(sorted(name for resident in pinned for name in resident.names))
            raise ModelUnusable(spec.id, f"it does not fit beside what is pinned: {names}")
        self._needs[spec.id] = needed
        # Nothing is unloaded in vain.
        if not self._may_fit(needed):
            raise NoRoom(spec.id)
        idle = sorted(self._may_leave(), key=lambda resident: -resident.used)
        while bytes_of(self._residents) + needed > self.memory_limit:
            self.unload(idle.pop())

    def _may_fit(self, needed: int) -> bool:
        """Whether there is memory for so many bytes of weights once idle models are gone."""
        freed = bytes_of(self._may_leave())
        return bytes_of(self._residents) - freed + needed <= self.memory_limit

    def in_the_way(self, name: str) -> list[ResidentModel]:
        """The loaded models that have to leave so that `name` fits; small ones may stay."""
        # From the smallest: as many as possible stay.
        left = self.memory_limit - self._needs.get(name, 0)
        leaving: list[ResidentModel] = []
        # Those that are pinned stay, whatever they take.
        for resident in sorted(
            self._residents, key=lambda each: (not each.pinned, each.loaded.bytes)
        ):
            left -= resident.loaded.bytes
            if left < 0 and not resident.pinned:
                leaving.append(resident)
        return leaving

    def _idle(self) -> list[ResidentModel]:
        """Those that compute nothing, and will not for whom they were loaded."""
        loaded = self._residents
        for resident in loaded:
            resident.awaited = set(filter(self._preparer.is_live, resident.awaited))
        return [model for model in loaded if not (model.scheduler.busy or model.awaited)]

    def _may_leave(self) -> list[ResidentModel]:
        """Those that are idle and not pinned."""
        return [resident for resident in self._idle() if not resident.pinned]

    def _start(self, loaded: LoadedModel, ability: RowAbility) -> ResidentModel:
        limits, fairness = self.limits, Fairness(self.limits.keys)
        max_batch = limits.max_batch if ability.together else 1
        batch = MlxBatch(
            *(loaded, self.prefixes),
            answers=self.answers,
            ability=ability,
            max_batch=max_batch,
            prefill_budget=limits.prefill_budget,
            decode_share=limits.decode_share,
            fairness=fairness,
            after_piece=self._threads.took,
        )
        scheduler = Scheduler(batch, max_batch=max_batch, clock=time.monotonic, fairness=fairness)
        return ResidentModel(loaded, ability, batch, scheduler)

    def unload(self, resident: ResidentModel) -> None:
        assert not resident.scheduler.busy, "rows would end without a word to their callers"
        self._remove(resident, list(resident.names))

    def _remove(self, resident: ResidentModel, names: Sequence[str]) -> None:
        """Serve it by these names no more; without any left it leaves the memory."""
        gone = {name: resident.names.pop(name) for name in names}
        for name in gone:
            del self._by_name[name]
            self._preparer.remove_model(name)
        if not resident.names:
            scope = scope_of(resident.loaded.scope, "")
            self.prefixes.forget(scope)
            if self.answers is not None:
                # The name may come back with other files, whose tokens are others.
                self.answers.forget(scope)
            resident.batch.close()
            unload(resident.loaded)
        self._share_memory()
        for name, served in gone.items():
            self._server.send(ModelChanged(name, "unloaded"))
            for command_id in served.unloads:
                self._server.send(Answered(command_id))

    def _share_memory(self) -> None:
        """What the weights leave is shared evenly between the models' KV caches."""
        residents = self._residents
        left = max(self.memory_limit - bytes_of(residents), 0)
        for resident in residents:
            resident.batch.kv_bytes = left // len(residents)
            for name in resident.names:
                self._preparer.set_room(name, resident.loaded.cache_cost, resident.batch.kv_bytes)
        self.shrink_prefixes()
