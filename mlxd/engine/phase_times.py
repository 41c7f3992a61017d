"""A request's way from the queue to its tokens: when it came to each phase."""

from collections.abc import Callable
from typing import Literal

from mlxd.events import Phase, Timings
from mlxd.messages import GenerateRequest
from mlxd.status import RequestStatus, RowFigures

BATCH_FULL = "every place in the batch is taken"
"""Why a request is queued, in words, where it is that."""


class PhaseTimes:
    """When a request came to its phases; `now` gives the time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.phase: Phase | Literal["decode"] = "queued"
        self._now = now
        self.born = self._prefill = self._decode = now()

    def prefilling(self) -> bool:
        """It has left the queue; whether that is new."""
        if self.phase != "queued":
            return False
        self.phase = "prefill"
        self._prefill = self._decode = self._now()
        return True

    def decoding(self) -> bool:
        """It has its first token; whether that is new."""
        self.prefilling()
        if self.phase == "decode":
            return False
        self.phase = "decode"
        self._decode = self._now()
        return True

    def timings(self, sent: float) -> Timings:
        """The time since the engine got the request, for an answer that the server ends."""
        return Timings(
            queue=self._prefill - sent,
            prefill=self._decode - self._prefill,
            decode=self._now() - self._decode,
        )

    def spent(self, now: float) -> Timings:
        """The time since its birth in each phase, up to `now`."""
        match self.phase:
            case "queued":
                return Timings(queue=now - self.born)
            case "prefill":
                return Timings(queue=self._prefill - self.born, prefill=now - self._prefill)
            case "decode":
                return Timings(
                    queue=self._prefill - self.born,
                    prefill=self._decode - self._prefill,
                    decode=now - self._decode,
                )

    def status(self, request: GenerateRequest, figures: RowFigures) -> RequestStatus:
        """How `request` stands now, with what the engine counts of it."""
        now, source = self._now(), request.source
        spent = self.spent(now)
        decoding = self.phase == "decode"
        rest = max(0, figures.completion_tokens - 1)
        return RequestStatus(
            id=request.id,
            model=request.model,
            phase=self.phase,
            dialect=source.dialect,
            requested_model=source.requested_model,
            client=source.client,
            agent=source.agent,
            stream=source.stream,
            max_tokens=request.max_tokens or 0,
            figures=figures,
            age=now - self.born,
            queued=spent.queue,
            prefill=spent.prefill,
            decode=spent.decode,
            first_token=self._decode - self.born if decoding else 0.0,
            rate=rest / spent.decode if spent.decode > 0 else 0.0,
        )
