"""Requests that wait while the beginning of their prompts is read from the disk."""

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from mlxd.engine.process.input_threads import EngineSocket, Preparer, TokenizedPrompt
from mlxd.engine.process.model_pool import ModelPool
from mlxd.engine.process.resident_model import ResidentModel
from mlxd.engine.protocol import Step, WaitRow

PATIENCE = 5.0
"""Seconds after which a prompt is computed, whatever the disk is doing."""
ATTEMPTS = 3
"""How often the disk is asked for one prompt, where some of its files turn out to be damaged."""


class DiskWaits:
    """One prompt is read at a time: the next one may begin as it does, and need nothing more.

    `go_on` gets each request when its prompt is in memory, or was not on the disk after all.
    """

    def __init__(
        self,
        server: EngineSocket,
        preparer: Preparer,
        pool: ModelPool,
        go_on: Callable[[TokenizedPrompt], None],
    ) -> None:
        self._server = server
        self._preparer = preparer
        self._pool = pool
        self._go_on = go_on
        # Each with the time until which it waits.
        self._waiting: OrderedDict[int, tuple[TokenizedPrompt, float]] = OrderedDict()
        self._reading: int | None = None
        self._attempts = 0
        self._done: set[int] = set()

    def hold(self, resident: ResidentModel, job: TokenizedPrompt) -> bool:
        """Whether a request has to wait for the disk; asked once for each."""
        command = job.command
        if command.id in self._done:
            self._done.discard(command.id)
            return False
        if resident.batch.on_disk(command.request.source.key, job.prompt.tokens) is None:
            return False
        # Loaded for it, in a way: it must not leave for another model meanwhile.
        resident.awaited.add(command.id)
        self._waiting[command.id] = job, time.monotonic() + PATIENCE
        self._server.send(Step(waiting=(WaitRow(command.id, "disk"),)))
        self._read_next()
        return True

    @property
    def patience(self) -> float | None:
        """Seconds until the first of them has waited for too long; None while nobody waits."""
        if not self._waiting:
            return None
        _, deadline = next(iter(self._waiting.values()))
        return max(deadline - time.monotonic(), 0)

    def give_up(self) -> None:
        """Go on with those that have waited for too long."""
        while self.patience == 0:
            self._let_go(next(iter(self._waiting)))

    def _read_next(self) -> None:
        while self._reading is None and self._waiting:
            id_, (job, _) = next(iter(self._waiting.items()))
            request, plan = job.command.request, None
            resident = self._pool.get(request.model)
            if resident and self._attempts < ATTEMPTS and self._preparer.is_live(id_):
                plan = resident.batch.on_disk(request.source.key, job.prompt.tokens)
            if resident is None or plan is None:
                self._let_go(id_)
                continue
            self._reading = id_
            self._attempts += 1
            resident.batch.read(plan, partial(self._wanted, id_, resident), self._arrived)

    def _wanted(self, id_: int, resident: ResidentModel) -> bool:
        # A model may have been loaded anew, from other files than those that were asked for.
        waiting = self._waiting.get(id_)
        return (
            waiting is not None
            and self._preparer.is_live(id_)
            and self._pool.get(waiting[0].command.request.model) is resident
        )

    def _arrived(self) -> None:
        self._reading = None
        self._read_next()

    def _let_go(self, id_: int) -> None:
        job, _ = self._waiting.pop(id_)
        self._attempts = 0
        self._done.add(id_)
        self._go_on(job)
        self._done.discard(id_)
