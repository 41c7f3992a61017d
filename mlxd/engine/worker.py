"""The engine process's main thread: owns MLX, loads models, runs their schedulers turn by turn."""

import logging
import os
import queue
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import mlx.core as mx

from mlxd.engine.batch import MlxBatch
from mlxd.engine.detokenize import Detokenizer, RowText, going_on
from mlxd.engine.grammar import Constrainer
from mlxd.engine.intake import Job, Link, Prepared, Preparer, Wanted, own_copy
from mlxd.engine.models import LoadedModel, load, unload
from mlxd.engine.prefixes import Prefixes
from mlxd.engine.prompt import PromptBuilder
from mlxd.engine.protocol import (
    Answered,
    Cancel,
    Configure,
    Load,
    ModelChanged,
    ModelSpec,
    Ready,
    Stats,
    Step,
    Unload,
)
from mlxd.engine.scheduler import Row, Scheduler
from mlxd.errors import (
    InternalError,
    InvalidLogits,
    MlxdError,
    ModelNotFound,
    ModelUnusable,
    OutOfMemory,
)
from mlxd.messages import Reasoning, Text

STATS_SECONDS = 1.0
GATHER_SECONDS = 0.02
"""The longest wait for one more request when the first of several arrives."""
FAILURE_WINDOW = 60.0
"""A second failed step within so many seconds ends the process; the supervisor starts a new one."""
CPU_SHARE = 0.75
"""Share of the machine's memory that models may use where the device does not say."""


log = logging.getLogger(__name__)


@dataclass
class Host:
    """A loaded model with everything that runs it."""

    loaded: LoadedModel
    batch: MlxBatch
    scheduler: Scheduler
    used: float = 0.0
    unloads: list[int] = field(default_factory=list)
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=2))


class Worker:
    """Takes jobs from the other threads, computes, and reports on the link."""

    def __init__(
        self, link: Link, jobs: "queue.SimpleQueue[Job]", preparer: Preparer, *, blas: str
    ) -> None:
        self._link = link
        self._jobs = jobs
        self._preparer = preparer
        self._blas = blas
        self._hosts: dict[str, Host] = {}
        self._specs: dict[str, ModelSpec] = {}
        self._config = Configure(models=())
        self._memory_limit = 0
        self._prefixes = Prefixes(0)
        self._reported = 0.0

    def run(self) -> None:
        """The step loop; ends with the process."""
        while True:
            if not self._busy():
                self._report_stats()
                self._handle(self._jobs.get())
                self._gather()
            while not self._jobs.empty():
                self._handle(self._jobs.get_nowait())
            # What was handled may have made hosts idle, or unloaded them.
            for host in self._busy():
                self._turn(host)
            for host in [host for host in self._hosts.values() if host.unloads]:
                if not host.scheduler.busy:
                    self._unload(host)
            if time.monotonic() - self._reported > STATS_SECONDS:
                self._report_stats()

    def _gather(self) -> None:
        """Let requests that come together begin together: the first would hold the others up."""
        with suppress(queue.Empty):
            while self._preparer.more_to_come:
                self._handle(self._jobs.get(timeout=GATHER_SECONDS))

    def _busy(self) -> list[Host]:
        return [host for host in self._hosts.values() if host.scheduler.busy]

    def _handle(self, job: Job) -> None:
        match job:
            case Configure():
                self._configure(job)
            case Prepared():
                self._submit(job)
            case Wanted():
                self._provide(job)
            case Cancel():
                for host in self._busy():
                    self._cancel(host, job.id)
            case Load() | Unload():
                self._load_or_unload(job)
            case _:
                assert_never(job)

    def _configure(self, config: Configure) -> None:
        self._config = config
        self._specs = {spec.id: spec for spec in config.models}
        self._memory_limit = config.limits.memory_bytes or measured_memory()
        self._prefixes = Prefixes(config.limits.prefix_cache_bytes)
        self._link.send(Ready(device_name(), self._blas, self._memory_limit))
        if config.preload is not None:
            # ModelChanged tells what went wrong; the first request for the model gets the reason.
            with suppress(MlxdError):
                self._host(config.preload)

    def _submit(self, job: Prepared) -> None:
        request = job.command.request
        host = self._hosts.get(request.model)
        if not self._preparer.is_live(job.command.id):
            return
        if host is None:
            self._preparer.again(job.command)
            return
        try:
            row = new_row(host.loaded, job)
        except Exception as error:  # A bug in one request's row must not cost the others.
            log.exception("beginning a row failed")
            self._preparer.refuse(job.command.id, InternalError(type(error).__name__))
            return
        host.used = time.monotonic()
        host.scheduler.submit(row)

    def _provide(self, job: Wanted) -> None:
        """Load the model a command waits for."""
        if not self._preparer.is_live(job.command.id):
            return
        try:
            self._host(job.command.request.model)
        except MlxdError as error:
            self._preparer.refuse(job.command.id, error)
        else:
            self._preparer.again(job.command)

    def _load_or_unload(self, job: Load | Unload) -> None:
        if isinstance(job, Unload) and (host := self._hosts.get(job.model)) is not None:
            host.unloads.append(job.id)
            if not host.scheduler.busy:
                self._unload(host)
            return
        try:
            if isinstance(job, Load):
                self._host(job.model)
        except MlxdError as error:
            self._preparer.refuse(job.id, error)
        else:
            self._link.send(Answered(job.id))

    def _host(self, name: str) -> Host:
        """The loaded model `name`, loading it now if need be."""
        if name in self._hosts:
            return self._hosts[name]
        spec = self._specs.get(name)
        if spec is None:
            raise ModelNotFound(name, list(self._specs))
        self._link.send(ModelChanged(name, "loading"))
        try:
            host, makers = self._load(spec)
        except ModelUnusable as error:
            self._link.send(ModelChanged(name, "failed", reason=error.reason))
            raise
        loaded = host.loaded
        self._hosts[name] = host
        self._share_memory()
        self._preparer.add_model(name, *makers)
        self._link.send(
            ModelChanged(name, "loaded", loaded.context_length, loaded.bytes, markup=loaded.markup)
        )
        return host

    def _load(self, spec: ModelSpec) -> tuple[Host, tuple[PromptBuilder, Constrainer]]:
        loaded = load(spec)
        makers = makers_for(loaded)
        while self._weights() + loaded.bytes > self._memory_limit:
            idle = [host for host in self._hosts.values() if not host.scheduler.busy]
            if not idle:
                unload(loaded)
                raise ModelUnusable(spec.id, "it does not fit into memory beside what is running")
            self._unload(min(idle, key=lambda host: host.used))
        return self._start(loaded), makers

    def _start(self, loaded: LoadedModel) -> Host:
        limits = self._config.limits
        batch = MlxBatch(
            loaded,
            self._prefixes,
            max_batch=limits.max_batch,
            prefill_budget=limits.prefill_budget,
        )
        return Host(
            loaded, batch, Scheduler(batch, max_batch=limits.max_batch, clock=time.monotonic)
        )

    def _unload(self, host: Host) -> None:
        name = host.loaded.spec.id
        del self._hosts[name]
        self._preparer.remove_model(name)
        self._prefixes.forget(f"{name}\n")
        host.batch.close()
        unload(host.loaded)
        self._share_memory()
        self._link.send(ModelChanged(name, "unloaded"))
        for command_id in host.unloads:
            self._link.send(Answered(command_id))

    def _weights(self) -> int:
        return sum(host.loaded.bytes for host in self._hosts.values())

    def _share_memory(self) -> None:
        """What the weights leave is shared evenly between the models' KV caches."""
        left = max(self._memory_limit - self._weights(), 0)
        for host in self._hosts.values():
            host.batch.kv_bytes = left // len(self._hosts)
            self._preparer.set_capacity(host.loaded.spec.id, host.batch.capacity)

    def _cancel(self, host: Host, row_id: int) -> None:
        held = host.scheduler.ids
        try:
            host.scheduler.cancel(row_id)
        except Exception as error:  # As in a step.
            log.exception("taking a row out of the batch failed")
            self._rebuild(host, error, held)

    def _turn(self, host: Host) -> None:
        begun = time.perf_counter()
        held = host.scheduler.ids
        try:
            turn = host.scheduler.turn()
        except Exception as error:  # One batch failed; the process and other models go on.
            log.exception("a generation step failed")
            self._rebuild(host, error, held)
            return
        seconds = time.perf_counter() - begun
        self._link.send(Step(turn.prefill, turn.decode, seconds))
        for row_id in turn.broken:
            self._preparer.refuse(row_id, InvalidLogits(host.loaded.spec.id))
        for row_id, reason in turn.faults.items():
            self._preparer.refuse(row_id, InternalError(reason))
        for row in turn.decode:
            if row.end is not None:
                self._preparer.drop(row.id)

    def _rebuild(self, host: Host, error: Exception, held: list[int]) -> None:
        """Fail what the broken batch `held` and begin with an empty one.

        It held also rows whose end came in the step that failed: nobody was told of that end.
        """
        host.batch.close()
        fresh = self._start(host.loaded)
        host.batch, host.scheduler = fresh.batch, fresh.scheduler
        self._prefixes.shrink(0)
        mx.clear_cache()
        self._share_memory()
        for row_id in held:
            self._preparer.refuse(row_id, as_reported(error))
        now = time.monotonic()
        host.failures.append(now)
        if len(host.failures) == 2 and now - host.failures[0] < FAILURE_WINDOW:
            raise SystemExit(70)

    def _report_stats(self) -> None:
        self._reported = time.monotonic()
        active = sum(host.batch.active_bytes for host in self._hosts.values())
        self._prefixes.shrink(max(self._memory_limit - self._weights() - active, 0))
        self._link.send(
            Stats(
                memory_used=mx.get_active_memory(),
                memory_peak=mx.get_peak_memory(),
                prefix_entries=len(self._prefixes),
                prefix_bytes=self._prefixes.nbytes,
                prefix_hits=self._prefixes.hits,
                prefix_hit_tokens=self._prefixes.hit_tokens,
            )
        )


def new_row(loaded: LoadedModel, job: Prepared) -> Row:
    """The row of a prepared request, held to the model's window."""
    request, prompt = job.command.request, job.prompt
    room = loaded.context_length - len(prompt.tokens)
    row = Row(
        id=job.command.id,
        tokens=prompt.tokens,
        max_tokens=max(1, min(request.max_tokens or loaded.spec.max_tokens, room)),
        text=RowText(detokenizer_for(loaded.tokenizer, job), request.stop),
        group=request.source.key,
        boundaries=prompt.boundaries,
        sampling=request.sampling,
        logprobs=request.logprobs,
    )
    row.steering = job.recipe.start(row.max_tokens) if job.recipe is not None else None
    return row


def makers_for(loaded: LoadedModel) -> tuple[PromptBuilder, Constrainer]:
    """What the preparing thread needs of a model; raises `ModelUnusable`."""
    spec, size = loaded.spec, loaded.vocab_size
    try:
        tokenizer = own_copy(loaded.tokenizer)
        builder = PromptBuilder(tokenizer, spec, loaded.context_length, vocab_size=size)
        constrainer = Constrainer(tokenizer, builder, ends=sorted(loaded.eos_ids), vocab_size=size)
    except Exception as error:  # Tokenizers raise what they like.
        log.exception("preparing prompts for %s failed", spec.id)
        raise ModelUnusable(
            spec.id, f"its tokenizer can't be used: {type(error).__name__}"
        ) from None
    return builder, constrainer


def as_reported(error: Exception) -> MlxdError:
    """What a caller is told of an exception in a step."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "malloc" in text or "memory" in text:
        return OutOfMemory("the model ran out of memory while generating")
    return InternalError(f"{type(error).__name__} in a generation step")


def detokenizer_for(tokenizer: Any, job: Prepared) -> Detokenizer:
    """A new detokenizer, which knows if the answer goes on with what the caller began."""
    last = job.command.request.messages[-1]
    if last.role == "assistant" and last.parts and isinstance(last.parts[-1], Text | Reasoning):
        return going_on(lambda: tokenizer.detokenizer, job.prompt.tokens)
    detokenizer: Detokenizer = tokenizer.detokenizer
    return detokenizer


def device_name() -> str:
    """The device as MLX calls it, with the chip's name where it has one."""
    if mx.default_device().type == mx.cpu:
        return "cpu"
    info = mx.device_info()
    return f"gpu ({info.get('device_name', 'unknown')})"


def measured_memory() -> int:
    """Bytes that weights and KV cache may take together on this machine."""
    if mx.default_device().type != mx.cpu:
        recommended = mx.device_info().get("max_recommended_working_set_size")
        if recommended:
            return int(recommended)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    container = Path("/sys/fs/cgroup/memory.max")
    if container.exists() and (limit := container.read_text().strip()).isdigit():
        total = min(total, int(limit))
    return int(total * CPU_SHARE)
