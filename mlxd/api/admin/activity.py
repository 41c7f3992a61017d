"""What is going on, gathered as it happens: the engine's watcher, and what was refused.

Nothing here keeps what anyone wrote, unless texts may be shown.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from mlxd.api.admin.conversations import ActiveConversations
from mlxd.api.admin.event_feed import EventFeed
from mlxd.api.admin.metrics import Metrics, outcome_of
from mlxd.api.admin.rates import EventCounts
from mlxd.api.http.request_log import Record
from mlxd.engine.interface import Engine
from mlxd.errors import Cancelled, EngineCrashed, EngineStalled, OutOfMemory
from mlxd.events import Failed, Finished, Usage
from mlxd.messages import GenerateRequest
from mlxd.status import EngineStatus, Lifecycle, RequestStatus, Totals

Level = Literal["info", "warning", "error"]

ENGINE = ("engine", "engine")
TAIL = 200
"""Characters of the end of an answer that are shown where texts may be shown."""
SHOWN_FACTS = (EngineCrashed.__name__, EngineStalled.__name__, OutOfMemory.__name__)
"""Errors whose facts are ours alone, so that they may be shown."""


@dataclass
class LiveRequest:
    """A request that waits or runs: its conversation, and the end of its answer."""

    conversation: str
    tail: str = ""


class Activity:
    """Implements `Watcher`; `now` gives the time in seconds, `wall` the time since 1970."""

    def __init__(
        self,
        engine: Engine,
        *,
        show_text: bool = False,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.wants_text = show_text
        self.feed = EventFeed()
        self.counts = EventCounts(now, wall)
        self.conversations = ActiveConversations(now, show_text=show_text)
        self.metrics = Metrics()
        self.totals = Totals()
        self.live: dict[str, LiveRequest] = {}
        self.version = 0
        """Changes whenever something happens."""
        self._wall = wall
        self._engine = engine
        self._states = _states(engine.status())
        engine.watch(self)

    def configure(self, *, show_text: bool) -> None:
        """Show texts from now on, or hide them."""
        self.wants_text = self.conversations.show_text = show_text
        if not show_text:
            self.conversations.hide_texts()
            for live in self.live.values():
                live.tail = ""

    @property
    def state(self) -> str:
        """The engine's state."""
        return self._states[ENGINE][0]

    def computed(self, prefilled: int, decoded: int) -> None:
        """See `Watcher.computed`."""
        self.version += 1
        if prefilled:
            self.counts.add("prefill", prefilled)
        if decoded:
            self.counts.add("decode", decoded)

    def moved(self, request: GenerateRequest, status: RequestStatus) -> None:
        """See `Watcher.moved`."""
        if request.id not in self.live:
            self.live[request.id] = LiveRequest(self.conversations.joined(request))
            self.counts.add("requests", 1)
            self.counts.add("prompt", status.figures.prompt_tokens)
            self.totals = replace(self.totals, requests=self.totals.requests + 1)
        match status.phase:
            case "queued":
                words = f"{status.figures.prompt_tokens} tokens of prompt"
            case "prefill":
                words = f"waited {status.queued:.1f} s"
            case "decode":
                words = f"first token after {status.first_token:.1f} s"
        self._publish(f"request.{status.phase}", words, request=status.id, model=status.model)

    def wrote(self, request: GenerateRequest, text: str) -> None:
        """See `Watcher.wrote`."""
        if self.wants_text and (live := self.live.get(request.id)) is not None:
            live.tail = (live.tail + text)[-TAIL:]

    def ended(
        self, request: GenerateRequest, status: RequestStatus, end: Finished | Failed | None
    ) -> None:
        """See `Watcher.ended`."""
        if (live := self.live.pop(request.id, None)) is None:
            return
        usage = end.usage if isinstance(end, Finished) else status.figures.usage
        self.conversations.ended(live.conversation, usage)
        self._count(usage, end)
        self.metrics.ended(status, usage, end)
        kind, words, level = _end_event(end)
        words = f"{words}; {usage.completion} tokens in {status.age:.1f} s"
        self._publish(kind, words, request=status.id, model=status.model, level=level, last=status)

    def changed(self) -> None:
        """See `Watcher.changed`."""
        self.version += 1
        before, now = self._states, _states(self._engine.status())
        self._states = now
        for (kind, name), (state, reason) in now.items():
            if before.get((kind, name)) != (state, reason):
                words = f"{name}: {state}" + (f": {reason}" if reason else "")
                level: Level = "error" if state == "failed" else "info"
                model = name if kind == "model" else ""
                self._publish(f"{kind}.{state}", words, model=model, level=level)

    def refused(self, record: Record) -> None:
        """A request ended in an error before anything was generated for it."""
        if record.terminals:
            # Its generations have ended one by one, and were counted then.
            return
        if record.error == Cancelled.__name__:
            self._publish("request.cancelled", "by an administrator", request=record.id)
            return
        self.counts.add("errors", 1)
        totals = self.totals
        self.totals = replace(totals, errors=totals.errors + 1, refused=totals.refused + 1)
        self.metrics.refused(record.error)
        words = f"{record.error} ({record.dialect})" if record.dialect else record.error
        self._publish(
            "request.refused", words, request=record.id, model=record.model, level="warning"
        )

    def log(self, message: str, level: Level) -> None:
        """A line of the log that is worth showing."""
        self._publish("log", message, level=level)

    def _count(self, usage: Usage, end: Finished | Failed | None) -> None:
        totals = self.totals
        outcome = outcome_of(end)
        failed = outcome == "failed"
        if failed:
            self.counts.add("errors", 1)
        self.totals = replace(
            totals,
            finished=totals.finished + (outcome == "finished"),
            failed=totals.failed + failed,
            errors=totals.errors + failed,
            cancelled=totals.cancelled + (outcome == "cancelled"),
            prompt_tokens=totals.prompt_tokens + usage.prompt,
            cached_tokens=totals.cached_tokens + usage.cached,
            completion_tokens=totals.completion_tokens + usage.completion,
        )

    def _publish(
        self,
        kind: str,
        message: str,
        *,
        request: str = "",
        model: str = "",
        level: Level = "info",
        last: RequestStatus | None = None,
    ) -> None:
        self.version += 1
        self.feed.publish(
            Lifecycle(
                kind=kind,
                at=round(self._wall(), 3),
                message=message,
                request=request,
                model=model,
                level=level,
                last=last,
            )
        )


def _states(status: EngineStatus) -> dict[tuple[str, str], tuple[str, str]]:
    """State and reason of the engine and of each model, by kind and name."""
    models = {("model", model.id): (model.state, model.reason) for model in status.models}
    return {ENGINE: (status.state, status.reason), **models}


def _end_event(end: Finished | Failed | None) -> tuple[str, str, Level]:
    """Kind, words and level of the event of a request's end."""
    match end:
        case None:
            return "request.cancelled", "left by its caller", "info"
        case Failed(error=error) if error.kind == Cancelled.__name__:
            return "request.cancelled", "by an administrator", "info"
        case Failed(error=error) if error.kind in SHOWN_FACTS:
            facts = ", ".join(f"{name} {value}" for name, value in error.facts.items())
            return "request.failed", f"{error.kind} ({facts})", "error"
        case Failed(error=error):
            return "request.failed", error.kind, "error"
        case Finished(outcome=outcome):
            return "request.finished", outcome, "info"
