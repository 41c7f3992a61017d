"""What is logged of a request: one line at its end, with counts and times, never text or keys."""

import logging
import time
from collections.abc import Callable

from mlxd.api.http.client_info import NOBODY, ClientInfo
from mlxd.events import Failed, Finished, Timings, Usage, total_usage

log = logging.getLogger("mlxd.request")

MAX_NAME = 80
"""Characters of a model name that a caller made up."""


class Record:
    """Gathers what is known of one request as it goes."""

    def __init__(
        self,
        request_id: str,
        client: ClientInfo = NOBODY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = request_id
        self._clock = clock
        self._arrived = clock()
        self.client = client
        self.dialect = ""
        self.requested_model = ""
        self.model = ""
        self.stream = False
        self.repaired: list[str] = []
        """Where the body held what is no text, and another character is read in its place."""
        self.counted = False
        """Tokens were counted and nothing is to be generated."""
        self.queued = False
        """The answer is made in the background, and has a line of its own."""
        self.status = 0
        self.error = ""
        self.refused = ""
        """The host or the origin that is not served, and what to set."""
        self.muted = False
        """Others have been logged that were refused for the same reason."""
        self.terminals: dict[int, Finished | Failed] = {}

    def terminal(self, choice: int, event: Finished | Failed) -> None:
        """How the generation numbered `choice` ended."""
        self.terminals[choice] = event

    def usage(self) -> Usage:
        """Tokens of all choices; they share one prompt."""
        return total_usage([event.usage for event in self.terminals.values()])

    def timings(self) -> Timings:
        """The longest of each phase; the choices run side by side."""
        timings = [event.timings for event in self.terminals.values()]
        return Timings(
            queue=max((each.queue for each in timings), default=0.0),
            prefill=max((each.prefill for each in timings), default=0.0),
            decode=max((each.decode for each in timings), default=0.0),
        )

    def finish(self) -> str:
        """How it ended, in one word: a finish reason, an error's name, or `disconnected`."""
        if self.error:
            return self.error
        for _, event in sorted(self.terminals.items()):
            return event.outcome if isinstance(event, Finished) else event.error.kind
        if self.counted or self.queued:
            return "counted" if self.counted else "queued"
        return "disconnected" if self.model else ""

    def notes(self) -> tuple[str, ...]:
        """What the engine had to remark, without repeating it."""
        return tuple(dict.fromkeys(note for event in self._finished() for note in event.notes))

    def facts(self) -> dict[str, str | int | bool]:
        """Name and value of everything that is logged; times in milliseconds."""
        facts: dict[str, str | int | bool] = {"id": self.id, "status": self.status}
        if self.dialect:
            facts["dialect"] = self.dialect
        if self.model or self.requested_model:
            requested, used = printable(self.requested_model), printable(self.model)
            renamed = requested and used and requested != used
            facts["model"] = f"{requested}->{used}" if renamed else used or requested
            facts["stream"] = self.stream
        if self.terminals:
            usage, timings = self.usage(), self.timings()
            facts |= {"prompt": usage.prompt, "cached": usage.cached}
            if (note := usage.cache_note) is not None:
                facts |= {"uncached": note.reason, "uncached_note": note.words}
            facts |= {"completion": usage.completion}
            facts |= {f"{name}_ms": round(1000 * getattr(timings, name)) for name in PHASES}
        # Of every request: one whose client left has nothing else that says how long it took.
        facts["ms"] = round(1000 * (self._clock() - self._arrived))
        facts["finish"] = self.finish()
        if self.refused:
            facts["refused"] = self.refused
        if notes := self.notes():
            facts["notes"] = printable("; ".join(notes))
        return facts

    def write(self) -> None:
        """Log the one line; requests that generate nothing and work are for debugging only."""
        quiet = self.muted or not (self.dialect or self.error)
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            facts = self.facts()
            line = " ".join(_pair(name, value) for name, value in facts.items() if value != "")
            log.log(level, "%s", line, extra={"facts": facts})

    def _finished(self) -> list[Finished]:
        return [event for event in self.terminals.values() if isinstance(event, Finished)]


PHASES = ("queue", "prefill", "decode")


def printable(text: str) -> str:
    """`text` fit for a log line: no control characters, not long."""
    # A line break in it would begin a line that looks like one of the log's own.
    cut = text[:MAX_NAME] + ("..." if len(text) > MAX_NAME else "")
    return "".join(char if char.isprintable() else "?" for char in cut)


def _pair(name: str, value: str | int | bool) -> str:
    # What was refused says itself what it is, and is escaped.
    return str(value) if name == "refused" else f"{name}={_value(value)}"


def _value(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return f'"{text}"' if " " in text or "=" in text else text
