"""The engine process's main thread: owns MLX, loads models, runs their schedulers step by step."""

import logging
import os
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import assert_never

import mlx.core as mx
from msgspec.structs import replace

from mlxd.engine.batching.token_text import TokenText
from mlxd.engine.models.loading import LoadedModel, lacks_memory
from mlxd.engine.parsing.blocks import callable_tools, writes_call
from mlxd.engine.parsing.detokenize import Detokenizer, RowText, going_on
from mlxd.engine.process.disk_waits import DiskWaits
from mlxd.engine.process.input_threads import (
    Deferred,
    EngineSocket,
    Job,
    Preparer,
    TokenizedPrompt,
    WaitingPrompt,
)
from mlxd.engine.process.model_pool import ModelPool
from mlxd.engine.process.resident_model import NoRoom, ResidentModel
from mlxd.engine.process.wired_memory import hold_wired_limit
from mlxd.engine.protocol import (
    SAVE_SECONDS,
    Answered,
    Cancel,
    Configure,
    Load,
    Postponed,
    Ready,
    Reconfigure,
    Shutdown,
    Stats,
    Step,
    Unload,
)
from mlxd.engine.scheduling.repetition import RepetitionGuard
from mlxd.engine.scheduling.scheduler import BatchRow
from mlxd.errors import (
    InternalError,
    InvalidLogits,
    MlxdError,
    OutOfMemory,
)
from mlxd.messages import GenerateRequest, NoTools, Reasoning, Sampling, Text
from mlxd.status import EngineFigures

NEVER = -1000.0
"""A bias that no token is drawn with, whatever the request adds to it."""
STATS_SECONDS = 1.0
GATHER_SECONDS = 0.02
"""The longest wait for one more request when the first of several arrives."""
QUIET_SECONDS = 0.006
"""The wait for one more request that nothing is known of: the server reads them one by one."""
GATHER_LIMIT = 0.2
"""The longest that the first request waits for all that come with it."""

log = logging.getLogger(__name__)


class Worker:
    """Takes jobs from the other threads, computes, and reports to the server."""

    def __init__(
        self, server: EngineSocket, jobs: "queue.SimpleQueue[Job]", preparer: Preparer, *, blas: str
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._preparer = preparer
        self._blas = blas
        self._pool = ModelPool(server, preparer, lambda call: jobs.put(Deferred(call)))
        self._disk = DiskWaits(server, preparer, self._pool, self._submit)
        # By the command's id, with the time when it was postponed; in the order of that time, so
        # that the first one's model is the next to get memory.
        self._postponed: dict[int, tuple[WaitingPrompt, float]] = {}
        self._held: list[TokenizedPrompt] = []
        self._reported = 0.0

    def run(self) -> None:
        """The step loop; ends with the process."""
        while True:
            if not self._pool.busy():
                self._report_stats()
                self._wait()
            while not self._jobs.empty():
                self._handle(self._jobs.get_nowait())
            # What was handled may have made models idle, or unloaded them.
            for resident in self._pool.busy():
                self._step(resident)
            self._pool.unload_unwanted()
            self._disk.give_up()
            # Whoever waits for memory goes first: what is held back was to make way for it.
            for waiting, _ in list(self._postponed.values()):
                self._provide(waiting)
            held, self._held = self._held, []
            for prompt in held:
                self._submit(prompt)
            if time.monotonic() - self._reported > STATS_SECONDS:
                self._report_stats()

    def _wait(self) -> None:
        """Take the next job, and those that come with it: the first would hold the others up."""
        with suppress(queue.Empty):
            self._handle(self._next_job())
            end = time.monotonic() + GATHER_LIMIT
            while time.monotonic() < end:
                patience = GATHER_SECONDS if self._preparer.more_to_come else QUIET_SECONDS
                self._handle(self._jobs.get(timeout=patience))

    def _next_job(self) -> Job:
        """Wait for a job; raises `queue.Empty` when something else is due."""
        # A model that others wait for may become idle in the preparing thread, without a job.
        due = self._disk.patience if not self._postponed else GATHER_SECONDS
        if due is None and (idle := self._pool.next_idle) is not None:
            due = max(idle - time.monotonic(), 0.0)
        disk = self._pool.limits.prefix_disk
        while due is None and disk is not None and self._pool.prefixes.unsaved:
            try:
                return self._jobs.get(timeout=disk.idle_seconds)
            except queue.Empty:
                self._pool.save_prefixes()
        return self._jobs.get(timeout=due)

    def _handle(self, job: Job) -> None:
        match job:
            case Configure():
                hold_wired_limit(wired=job.limits.wired)
                self._pool.configure(job)
                self._server.send(Ready(device_name(), self._blas, self._pool.memory_limit))
                if job.preload is not None:
                    # ModelChanged says what went wrong; the first request gets the reason.
                    with suppress(MlxdError):
                        self._pool.provide(job.preload)
            case Reconfigure():
                self._pool.reconfigure(job)
            case TokenizedPrompt():
                self._submit(job)
            case WaitingPrompt():
                self._provide(job)
            case Cancel():
                for resident in self._pool.busy():
                    with self._guarded(resident, "taking a row out of the batch"):
                        resident.scheduler.cancel(job.id)
            case Load() | Unload():
                self._load_or_unload(job)
            case Deferred():
                job.run()
            case Shutdown():
                self._pool.prefixes.save_within(SAVE_SECONDS)
                os._exit(0)
            case _:
                assert_never(job)

    def _submit(self, job: TokenizedPrompt) -> None:
        request = job.command.request
        resident = self._pool.get(request.model)
        # The reading thread drops a command at once; its `Cancel` may still be among the jobs.
        if not self._preparer.is_live(job.command.id):
            return
        # It was unloaded while the prompt was prepared.
        if resident is None:
            self._preparer.again(job.command)
            return
        name = resident.names[request.model]
        if name.unloads or self._must_make_way(resident, job.command.id):
            self._held.append(job)
            return
        if self._disk.hold(resident, job):
            return
        try:
            row = new_row(name.loaded, resident.batch.text, job)
        except BaseException as error:  # What one request's row raises must not cost the others.
            log.exception("beginning a row failed")
            self._preparer.refuse(job.command.id, InternalError(type(error).__name__))
            return
        name.used = time.monotonic()
        resident.awaited.discard(job.command.id)
        resident.scheduler.submit(row)

    def _must_make_way(self, resident: ResidentModel, command_id: int) -> bool:
        """Whether a new command has to wait for those whose model has no room beside `resident`.

        Not at once: two models that are requested in turn would be loaded for each request anew.
        And not what the model was loaded for: that was postponed itself.
        """
        waiting, since = next(iter(self._postponed.values()), (None, 0.0))
        if waiting is None or command_id in resident.awaited:
            return False
        patience = self._pool.limits.swap_patience
        if time.monotonic() - since < patience:
            return False
        return resident in self._pool.in_the_way(waiting.command.request.model)

    def _provide(self, job: WaitingPrompt) -> None:
        """Load the model a command waits for."""
        command = job.command
        if not self._preparer.is_live(command.id):
            self._postponed.pop(command.id, None)
            return
        try:
            resident = self._pool.provide(command.request.model, requested=job.requested)
        except NoRoom:
            if command.id not in self._postponed:
                self._postponed[command.id] = job, time.monotonic()
                self._server.send(Postponed(command.id))
            return
        except MlxdError as error:
            self._preparer.refuse(command.id, error)
        else:
            resident.awaited.add(command.id)
            self._preparer.again(command)
        self._postponed.pop(command.id, None)

    def _load_or_unload(self, job: Load | Unload) -> None:
        if isinstance(job, Unload) and (resident := self._pool.get(job.model)) is not None:
            resident.names[job.model].unloads.append(job.id)
            self._pool.unload_unwanted()
            return
        try:
            if isinstance(job, Load):
                self._pool.provide(job.model)
        except MlxdError as error:
            self._preparer.refuse(job.id, error)
        else:
            self._server.send(Answered(job.id))

    def _step(self, resident: ResidentModel) -> None:
        begun = time.perf_counter()
        result = None
        with self._guarded(resident, "a generation step"):
            # Sent before the step: a piece of prefill can take long, and is no waiting in a queue.
            admitted = resident.scheduler.admit()
            if admitted.prefill or admitted.waiting:
                self._server.send(Step(admitted.prefill, waiting=admitted.waiting))
            result = resident.scheduler.step()
            resident.batch.remember()
        if result is None:
            return
        resident.served = resident.served or bool(result.decode)
        seconds = time.perf_counter() - begun
        self._server.send(Step(result.prefill, result.decode, seconds, result.waiting))
        for row_id in result.broken:
            self._preparer.refuse(row_id, InvalidLogits(self._preparer.model_of(row_id)))
        for row_id, reason in result.faults.items():
            self._preparer.refuse(row_id, InternalError(reason))
        for row in result.decode:
            if row.end is not None:
                self._preparer.drop(row.id)
        with self._guarded(resident, "keeping a prefix"):
            resident.batch.settle()

    @contextmanager
    def _guarded(self, resident: ResidentModel, what: str) -> Iterator[None]:
        """If `what` fails, fail the rows of this batch; the process and other models go on."""
        # Rows that end in a step that fails are among them: their ends were not sent.
        held = resident.scheduler.ids
        try:
            yield
        except BaseException as error:
            log.exception("%s failed", what)
            self._pool.recover(resident, error)
            for row_id in held:
                self._preparer.refuse(row_id, as_reported(error))

    def _report_stats(self) -> None:
        self._reported = time.monotonic()
        self._pool.shrink_prefixes()
        prefixes = self._pool.prefixes
        self._server.send(
            Stats(
                EngineFigures(
                    memory_used=mx.get_active_memory(),
                    memory_peak=mx.get_peak_memory(),
                    prefix_entries=len(prefixes),
                    prefix_bytes=prefixes.nbytes,
                    prefix_limit=prefixes.limit,
                    prefix_hits=prefixes.hits,
                    prefix_hit_tokens=prefixes.hit_tokens,
                    prefix_disk=prefixes.disk,
                )
            )
        )


def new_row(loaded: LoadedModel, text: TokenText, job: TokenizedPrompt) -> BatchRow:
    """The row of a prepared request, held to the model's window."""
    request, prompt = job.command.request, job.prompt
    room = loaded.context_length - len(prompt.tokens)
    wanted = request.max_tokens or loaded.spec.max_tokens
    row = BatchRow(
        id=job.command.id,
        tokens=prompt.tokens,
        max_tokens=max(1, min(wanted, room)),
        window=room < wanted,
        text=RowText(
            detokenizer_for(text, job),
            request.stop,
            markup=loaded.markup,
            opens_reasoning=prompt.opens_reasoning,
            dropped=loaded.dropped,
        ),
        group=request.source.key,
        priority=request.priority,
        boundaries=prompt.boundaries,
        before=prompt.before,
        begins=prompt.begins,
        prompt_note=prompt.note,
        # Now, not when it begins: what is configured meanwhile is for later requests.
        sampling=_sampling(loaded, request).merged(loaded.spec.sampling),
        logprobs=request.logprobs,
    )
    steering = job.recipe.start(row.max_tokens) if job.recipe is not None else None
    row.steering = steering
    watched = loaded.spec.stop_repetition
    if watched == "always" or (watched == "tools" and callable_tools(request)):
        choices = None if steering is None else lambda: steering.choices
        row.guard = RepetitionGuard(lambda tokens: _writes_call(tokens, loaded, job), choices)
    return row


def _sampling(loaded: LoadedModel, request: GenerateRequest) -> Sampling:
    """The request's sampling, without the tokens that open a call where none may be made.

    Such an answer is mostly a summary: a call in its place would be left out, and nothing be said.
    """
    if not request.tools or not isinstance(request.tool_choice, NoTools):
        return request.sampling
    bias = {**(request.sampling.logit_bias or {}), **dict.fromkeys(loaded.call_tokens, NEVER)}
    return replace(request.sampling, logit_bias=bias or None)


def _writes_call(tokens: Sequence[int], loaded: LoadedModel, job: TokenizedPrompt) -> bool:
    text = loaded.tokenizer.decode(list(tokens))
    opens_reasoning = job.prompt.opens_reasoning
    return writes_call(text, loaded.markup, job.command.request, opens_reasoning=opens_reasoning)


def as_reported(error: BaseException) -> MlxdError:
    """What is reported of an exception in a step."""
    if lacks_memory(error):
        return OutOfMemory("the model ran out of memory while generating")
    return InternalError(f"{type(error).__name__} in a generation step")


def detokenizer_for(text: TokenText, job: TokenizedPrompt) -> Detokenizer:
    """A new detokenizer, which knows if the answer goes on with what the caller began."""
    last = job.command.request.messages[-1]
    if last.role == "assistant" and last.parts and isinstance(last.parts[-1], Text | Reasoning):
        return going_on(text.detokenizer, job.prompt.tokens)
    return text.detokenizer()


def device_name() -> str:
    """The device as MLX calls it, with the chip's name where it has one."""
    if mx.default_device().type == mx.cpu:
        return "cpu"
    info = mx.device_info()
    return f"gpu ({info.get('device_name', 'unknown')})"
