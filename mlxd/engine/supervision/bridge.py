"""The bridge: the one place that knows both the engine's socket and the server's requests."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import assert_never

from msgspec.structs import replace

from mlxd.engine.interface import Unwatched, Watcher
from mlxd.engine.protocol import (
    Accepted,
    Answered,
    Cancel,
    Configure,
    Load,
    ModelChanged,
    Postponed,
    Ready,
    Reconfigure,
    Refused,
    Reply,
    Stats,
    Step,
    Unload,
)
from mlxd.engine.supervision.call import EngineCall
from mlxd.engine.supervision.key_accounts import KeyAccounts
from mlxd.engine.supervision.last_report import LastReport
from mlxd.engine.supervision.process import BrokenProtocol
from mlxd.engine.supervision.request import PendingRequest
from mlxd.engine.supervision.restarts import Loss, RestartLoop, RestartPolicy, reason_of
from mlxd.engine.supervision.wait_reasons import wait_note
from mlxd.engine.supervision.watchdog import Timeouts, Watchdog
from mlxd.errors import (
    Cancelled,
    EngineCrashed,
    EngineFailed,
    EngineStalled,
    InternalError,
    MlxdError,
    ModelNotFound,
    revive,
)
from mlxd.status import RequestStatus

Work = PendingRequest | EngineCall


class Bridge:
    """What was sent to the engine and has no end yet, and where the replies go."""

    def __init__(
        self,
        config: Configure,
        timeouts: Timeouts,
        *,
        command: Sequence[str],
        restarts: RestartPolicy,
    ) -> None:
        self._config = config
        self._timeouts = timeouts
        self._numbers = count(1)
        self._requests: dict[int, PendingRequest] = {}
        self._calls: dict[int, EngineCall] = {}
        # Two, because a step loop that hangs must not be hidden by prompts that are still counted
        # and accepted by the engine's other thread.
        self._steps = Watchdog(self._step_patience, self._stalled)
        self._preparation = Watchdog(self._preparation_patience, self._stalled)
        self.watcher: Watcher = Unwatched()
        self.accounts = KeyAccounts(config.limits.keys, time.monotonic)
        self.report = LastReport(config.models, config.preload)
        self.restart_loop = RestartLoop(command, restarts, self)
        self.failing = False
        """Too many failures; until a process has its models again nothing is taken on."""
        self.reason = ""
        """Why the last process was lost, until the next one is ready."""
        self.drained = asyncio.Event()
        self.drained.set()
        """Set while no request is live."""

    @property
    def ready(self) -> bool:
        """Whether a process takes commands."""
        return self.report.hello is not None

    @property
    def requests(self) -> Sequence[PendingRequest]:
        """The requests that have not ended, oldest first."""
        return tuple(self._requests.values())

    def statuses(self) -> tuple[RequestStatus, ...]:
        """How the requests stand, oldest first."""
        return tuple(
            replace(
                pending.status(), wait_note=wait_note(pending, self.report.model(pending.model))
            )
            for pending in self._requests.values()
        )

    @property
    def silence(self) -> float:
        """Seconds since the last progress while something is to be done."""
        return max(self._steps.silence, self._preparation.silence)

    def number(self) -> int:
        """A number for a new request or call; none is used twice, also not by the next process."""
        return next(self._numbers)

    def take_on(self, work: Work) -> None:
        """Send it to the engine, as soon as there is a process that takes commands."""
        match work:
            case PendingRequest():
                self._requests[work.number] = work
                self.drained.clear()
            case EngineCall():
                self._calls[work.number] = work
            case _:
                assert_never(work)
        if self.ready:
            self._send(work)
        self._update_watchdogs()

    def leave(self, work: Work) -> None:
        """Nobody waits for it any more; in whatever state it is, and more than once."""
        if self._drop(work) and work.envelope.sent:
            self.restart_loop.send(Cancel(work.number))

    def end(self, work: Work, error: MlxdError) -> None:
        """Fail it and free what it holds in the engine."""
        work.fail(error)
        self.leave(work)

    def cancel(self, request: str) -> bool:
        """End the request of this id with all its choices; whether there was one."""
        found = [
            pending for pending in self._requests.values() if pending.request.belongs_to(request)
        ]
        for pending in found:
            self.end(pending, Cancelled())
        return bool(found)

    def end_all(self, error: MlxdError, *, waiting_only: bool = False) -> None:
        """End everything, or what no process has got yet."""
        for work in list(self._all()):
            if not (waiting_only and work.envelope.sent):
                self.end(work, error)

    def failure(self) -> EngineFailed:
        """What a request gets while the engine is failing."""
        return EngineFailed(reason=self.reason, retry_after=max(1.0, self.restart_loop.retry_in))

    def spawned(self) -> None:
        """Configure the new process."""
        report = self.report
        self.restart_loop.send(
            replace(
                self._config,
                models=report.specs,
                preload=report.preload,
                crashes=dict(report.crashes),
            )
        )
        self._update_watchdogs()

    def configure(self, config: Configure) -> None:
        """Take what is configured from now on; models that are not leave when they are idle."""
        self._config = config
        self.report.configure(config.models, config.preload)
        self.restart_loop.send(Reconfigure(self.report.specs, config.limits))
        for model in self.report.retired:
            self._unload_retired(model)
        self._after_model_change()

    def _unload_retired(self, model: str) -> None:
        """Have a model that is configured no more leave memory, if nothing runs there."""
        in_memory = self.report.model(model).state in ("loaded", "loading")
        if (
            in_memory
            and model in self.report.retired
            and not any(work.model == model for work in self._all())
        ):
            self.take_on(EngineCall(Unload(self.number(), model)))

    def restart(self, error: EngineCrashed) -> None:
        """Replace the process on purpose; models that were fatal to one are tried again."""
        self.report.crashes.clear()
        self.restart_loop.restart(error)

    def lost(self, error: Loss, *, on_purpose: bool = False) -> None:
        """Fail what the lost process had; what it never got waits for the next one."""
        self.reason = reason_of(error)
        self.report.forget(crash="" if on_purpose else self.reason)
        # Its reader may have seen a part of an answer that was begun, and asking again would tell
        # another one. What no process has got loses nothing by waiting.
        for work in list(self._all()):
            if work.envelope.sent:
                work.fail(error)
                self._drop(work)
        if self.restart_loop.too_many_failures:
            self.failing = True
            self.end_all(self.failure())
        self._update_watchdogs()
        self.watcher.changed()

    def received(self, reply: Reply) -> None:
        """Hand one reply to whom it concerns."""
        match reply:
            case Step():
                self._step(reply)
            case Accepted():
                self._accept(reply)
            case Postponed():
                self._postpone(reply)
            case Answered():
                self._answer(reply)
            case Refused():
                self._refuse(reply)
            case Stats():
                self.report.figures = reply.figures
            case ModelChanged():
                self._model_changed(reply)
            case Ready():
                self._get_ready(reply)
            case _:
                assert_never(reply)

    def close(self) -> None:
        """The engine is stopped; nothing is watched any more."""
        self.report.forget()
        self._update_watchdogs()
        self.watcher.changed()

    def _step(self, step: Step) -> None:
        # A loop that turns and computes nothing has to count as one that hangs.
        if step.prefill or step.decode:
            self._steps.moved()
        self.report.stepped(step)
        prefilled = 0
        for prefill in step.prefill:
            if (pending := self._requests.get(prefill.id)) is not None:
                computed = pending.prefill(prefill)
                prefilled += computed
                self.accounts.spent(pending.request.source.key, computed)
                self._release_if_ended(pending)
        for item in step.waiting:
            if (pending := self._requests.get(item.id)) is not None:
                pending.waits = item.reason
        # Before the ends are passed on, so that no request ends before its tokens are counted.
        self.watcher.computed(prefilled, sum([decode.tokens for decode in step.decode]))
        for decode in step.decode:
            if (pending := self._requests.get(decode.id)) is not None:
                self.accounts.spent(pending.request.source.key, decode.tokens)
                pending.decode(decode)
                self._release_if_ended(pending, over=decode.end is not None)

    def _release_if_ended(self, pending: PendingRequest, *, over: bool = False) -> None:
        """Let a request go that has ended, `over` if in the engine too, or whose reader has left.

        A reader that takes nothing does nothing that could be noticed: it is looked at here,
        whenever there is more for it.
        """
        if not pending.ended and pending.overdue():
            pending.fail(InternalError(reason="the answer was not read"))
        if pending.ended and over:
            self._drop(pending)
        elif pending.ended:
            self.leave(pending)

    def _accept(self, reply: Accepted) -> None:
        self._preparation.moved()
        if (pending := self._requests.get(reply.id)) is not None:
            markup, usual = self.report.markup(pending.model), self.report.sampling(pending.model)
            pending.accept(reply, markup, sampling=pending.request.sampling.merged(usual))
            self._release_if_ended(pending)
            self._update_watchdogs()

    def _postpone(self, reply: Postponed) -> None:
        self._moved(reply.id)
        if (work := self._requests.get(reply.id) or self._calls.get(reply.id)) is not None:
            work.envelope.postponed = True
            self._update_watchdogs()

    def _answer(self, reply: Answered) -> None:
        self._moved(reply.id)
        if (call := self._calls.get(reply.id)) is not None:
            call.answer(reply.value)
            self._drop(call)

    def _refuse(self, reply: Refused) -> None:
        self._moved(reply.id)
        work = self._requests.get(reply.id) or self._calls.get(reply.id)
        if work is not None:
            error = _revived(reply)
            self.report.not_loaded(work.model, str(error))
            work.fail(error)
            self._drop(work)

    def _moved(self, number: int) -> None:
        """The engine has dealt with `number`, in the thread whose work that is."""
        call = self._calls.get(number)
        # Loading and unloading are the step loop's; all else is dealt with where prompts are read.
        if call is not None and not call.counts:
            self._steps.moved()
        else:
            self._preparation.moved()

    def _model_changed(self, change: ModelChanged) -> None:
        # Preparation may have been waiting for the model.
        self._steps.moved()
        self._preparation.moved()
        try:
            self.report.changed(change)
        except ModelNotFound as error:
            raise BrokenProtocol("it reported a model that is not configured") from error
        for work in self._all():
            if work.model == change.model:
                work.envelope.postponed = False
        if change.state == "loaded":
            self._unload_retired(change.model)
        self._after_model_change()

    def _get_ready(self, reply: Ready) -> None:
        self._steps.moved()
        self.report.ready(reply)
        # A process begins with the preloaded model alone; the others were loaded when it was lost.
        for model in self.report.reload:
            self.take_on(EngineCall(Load(self.number(), model)))
        for work in list(self._all()):
            if not work.envelope.sent:
                self._send(work)
        self._after_model_change()

    def _after_model_change(self) -> None:
        if self.report.models_tried:
            self.failing = False
            self.reason = ""
        self._update_watchdogs()
        self.watcher.changed()

    def _send(self, work: Work) -> None:
        self.restart_loop.send_frame(work.envelope.open())

    def _drop(self, work: Work) -> bool:
        """Forget it; whether it was known."""
        known = self._requests.pop(work.number, None) or self._calls.pop(work.number, None)
        if not self._requests:
            self.drained.set()
        if isinstance(known, PendingRequest):
            self._unload_retired(known.model)
        self._update_watchdogs()
        return known is not None

    def _all(self) -> Iterator[Work]:
        return chain(self._requests.values(), self._calls.values())

    def _update_watchdogs(self) -> None:
        self._steps.update()
        self._preparation.update()

    def _step_patience(self) -> float | None:
        if not self.restart_loop.alive:
            return None
        if not self.ready:
            return self._timeouts.start
        if self.report.loading:
            return self._timeouts.load
        busy = any(pending.accepted for pending in self._requests.values()) or any(
            call.envelope.sent and not call.counts for call in self._calls.values()
        )
        return self._timeouts.stall if busy else None

    def _preparation_patience(self) -> float | None:
        if not self.restart_loop.alive or not self.ready:
            return None
        # What waits for memory is not late: models of others have to end their work first.
        waiting = [pending.envelope for pending in self._requests.values() if not pending.accepted]
        waiting += [call.envelope for call in self._calls.values() if call.counts]
        if not any(envelope.sent and not envelope.postponed for envelope in waiting):
            return None
        return self._timeouts.load if self.report.loading else self._timeouts.stall

    def _stalled(self, silence: float) -> None:
        self.restart_loop.replace(EngineStalled(seconds=silence))


def _revived(reply: Refused) -> MlxdError:
    try:
        return revive(reply.error)
    except TypeError as error:
        raise BrokenProtocol("it refused with facts that do not fit") from error
