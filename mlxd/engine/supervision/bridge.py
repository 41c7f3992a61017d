"""The bridge: the one place that knows both the engine's socket and the server's requests."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import assert_never

import msgspec
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
    Refused,
    Reply,
    Stats,
    Step,
)
from mlxd.engine.supervision.call import Call
from mlxd.engine.supervision.last_report import Board
from mlxd.engine.supervision.process import BrokenProtocol
from mlxd.engine.supervision.request import Row
from mlxd.engine.supervision.restarts import Keeper, Loss, RestartPolicy, reason_of
from mlxd.engine.supervision.wait_reasons import wait_note
from mlxd.engine.supervision.watchdog import Watchdog
from mlxd.errors import (
    Cancelled,
    EngineFailed,
    EngineStalled,
    InternalError,
    MlxdError,
    ModelNotFound,
    revive,
)
from mlxd.status import RequestStatus

Work = Row | Call


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds without progress after which the engine process is replaced.

    `load` holds while the process starts or a model loads, `stall` otherwise.
    """

    stall: float
    load: float


class Bridge:
    """What was asked of the engine and has no end yet, and where the replies go."""

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
        self._rows: dict[int, Row] = {}
        self._calls: dict[int, Call] = {}
        # Two, because a step loop that hangs must not be hidden by prompts that are still counted
        # and accepted by the engine's other thread.
        self._steps = Watchdog(self._step_patience, self._stalled)
        self._preparation = Watchdog(self._preparation_patience, self._stalled)
        self.watcher: Watcher = Unwatched()
        self.board = Board(config.models, config.preload)
        self.keeper = Keeper(command, restarts, self)
        self.failing = False
        """Too many failures; until a process has its models again nothing is taken on."""
        self.reason = ""
        """Why the last process was lost, until the next one is ready."""
        self.drained = asyncio.Event()
        self.drained.set()
        """Set while no row is live."""

    @property
    def ready(self) -> bool:
        """Whether a process takes commands."""
        return self.board.hello is not None

    @property
    def rows(self) -> Sequence[Row]:
        """The rows that have not ended, oldest first."""
        return tuple(self._rows.values())

    def statuses(self) -> tuple[RequestStatus, ...]:
        """How the rows stand, oldest first."""
        return tuple(
            replace(row.status(), wait_note=wait_note(row, self.board.model(row.model)))
            for row in self._rows.values()
        )

    @property
    def silence(self) -> float:
        """Seconds since the last progress while something is to be done."""
        return max(self._steps.silence, self._preparation.silence)

    def number(self) -> int:
        """A number for a new row or call; none is used twice, also not by the next process."""
        return next(self._numbers)

    def take_on(self, work: Work) -> None:
        """Send it to the engine, as soon as there is a process that takes commands."""
        match work:
            case Row():
                self._rows[work.number] = work
                self.drained.clear()
            case Call():
                self._calls[work.number] = work
            case _:
                assert_never(work)
        if self.ready:
            self._send(work)
        self._look()

    def leave(self, work: Work) -> None:
        """Nobody waits for it any more; in whatever state it is, and more than once."""
        if self._drop(work) and work.envelope.sent:
            self.keeper.send(Cancel(work.number))

    def end(self, work: Work, error: MlxdError) -> None:
        """Fail it and free what it holds in the engine."""
        work.fail(error)
        self.leave(work)

    def cancel(self, request: str) -> bool:
        """End the request of this id with all its choices; whether there was one."""
        found = [row for row in self._rows.values() if row.request.belongs_to(request)]
        for row in found:
            self.end(row, Cancelled())
        return bool(found)

    def end_all(self, error: MlxdError, *, waiting_only: bool = False) -> None:
        """End everything, or what no process has got yet."""
        for work in list(self._all()):
            if not (waiting_only and work.envelope.sent):
                self.end(work, error)

    def failure(self) -> EngineFailed:
        """What a request gets while the engine is failing."""
        return EngineFailed(reason=self.reason, retry_after=max(1.0, self.keeper.retry_in))

    def spawned(self) -> None:
        """Configure the new process."""
        self.keeper.send(replace(self._config, preload=self.board.preload))
        self._look()

    def lost(self, error: Loss) -> None:
        """Fail what the lost process had; what it never got waits for the next one."""
        self.reason = reason_of(error)
        self.board.forget()
        for work in list(self._all()):
            if work.envelope.sent:
                work.fail(error)
                self._drop(work)
        if self.keeper.too_many_failures:
            self.failing = True
            self.end_all(self.failure())
        self._look()
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
                self.board.figures = reply.figures
            case ModelChanged():
                self._model_changed(reply)
            case Ready():
                self._get_ready(reply)
            case _:
                assert_never(reply)

    def close(self) -> None:
        """The engine is stopped; nothing is watched any more."""
        self.board.forget()
        self._look()
        self.watcher.changed()

    def _step(self, step: Step) -> None:
        if step.prefill or step.decode:
            self._steps.moved()
        self.board.stepped(step)
        prefilled = 0
        for prefill in step.prefill:
            if (row := self._rows.get(prefill.id)) is not None:
                prefilled += row.prefill(prefill)
                self._tidy(row)
        for item in step.waiting:
            if (row := self._rows.get(item.id)) is not None:
                row.waits = item.reason
        self.watcher.computed(prefilled, sum([decode.tokens for decode in step.decode]))
        for decode in step.decode:
            if (row := self._rows.get(decode.id)) is not None:
                row.decode(decode)
                self._tidy(row, over=decode.end is not None)

    def _tidy(self, row: Row, *, over: bool = False) -> None:
        """Let a row go that has ended, or whose reader has; `over` if the engine knows it."""
        if not row.ended and row.overdue():
            row.fail(InternalError(reason="the answer was not read"))
        if row.ended and over:
            self._drop(row)
        elif row.ended:
            self.leave(row)

    def _accept(self, reply: Accepted) -> None:
        self._preparation.moved()
        if (row := self._rows.get(reply.id)) is not None:
            row.accept(reply, self.board.markup(row.model), self.board.reasoning_mode(row.model))
            self._tidy(row)
            self._look()

    def _postpone(self, reply: Postponed) -> None:
        self._moved(reply.id)
        if (work := self._rows.get(reply.id) or self._calls.get(reply.id)) is not None:
            work.envelope.postponed = True
            self._look()

    def _answer(self, reply: Answered) -> None:
        self._moved(reply.id)
        if (call := self._calls.get(reply.id)) is not None:
            call.answer(reply.value)
            self._drop(call)

    def _refuse(self, reply: Refused) -> None:
        self._moved(reply.id)
        work = self._rows.get(reply.id) or self._calls.get(reply.id)
        if work is not None:
            error = _revived(reply)
            self.board.not_loaded(work.model, str(error))
            work.fail(error)
            self._drop(work)

    def _moved(self, number: int) -> None:
        """The engine has dealt with `number`, in the thread whose work that is."""
        call = self._calls.get(number)
        if call is not None and not call.counts:
            self._steps.moved()
        else:
            self._preparation.moved()

    def _model_changed(self, change: ModelChanged) -> None:
        # Preparation may have been waiting for the model.
        self._steps.moved()
        self._preparation.moved()
        try:
            self.board.changed(change)
        except ModelNotFound as error:
            raise BrokenProtocol("it told of a model that is not configured") from error
        for work in self._all():
            if work.model == change.model:
                work.envelope.postponed = False
        self._settle()

    def _get_ready(self, reply: Ready) -> None:
        self._steps.moved()
        self.board.ready(reply)
        for model in self.board.reload:
            self.take_on(Call(Load(self.number(), model)))
        for work in list(self._all()):
            if not work.envelope.sent:
                self._send(work)
        self._settle()

    def _settle(self) -> None:
        if self.board.settled:
            self.failing = False
            self.reason = ""
        self._look()
        self.watcher.changed()

    def _send(self, work: Work) -> None:
        self.keeper.send_frame(work.envelope.open())

    def _drop(self, work: Work) -> bool:
        """Forget it; whether it was known."""
        known = self._rows.pop(work.number, None) or self._calls.pop(work.number, None)
        if not self._rows:
            self.drained.set()
        self._look()
        return known is not None

    def _all(self) -> Iterator[Work]:
        return chain(self._rows.values(), self._calls.values())

    def _look(self) -> None:
        self._steps.update()
        self._preparation.update()

    def _step_patience(self) -> float | None:
        if not self.keeper.alive:
            return None
        if not self.ready or self.board.loading:
            return self._timeouts.load
        busy = any(row.accepted for row in self._rows.values()) or any(
            call.envelope.sent and not call.counts for call in self._calls.values()
        )
        return self._timeouts.stall if busy else None

    def _preparation_patience(self) -> float | None:
        if not self.keeper.alive or not self.ready:
            return None
        waiting = [row.envelope for row in self._rows.values() if not row.accepted]
        waiting += [call.envelope for call in self._calls.values() if call.counts]
        if not any(envelope.sent and not envelope.postponed for envelope in waiting):
            return None
        return self._timeouts.load if self.board.loading else self._timeouts.stall

    def _stalled(self, silence: float) -> None:
        self.keeper.replace(EngineStalled(seconds=silence))


def _revived(reply: Refused) -> MlxdError:
    try:
        return revive(reply.error)
    except TypeError as error:
        raise BrokenProtocol("it refused with facts that do not fit") from error
