"""How the dashboard stands with its server, in a few words for the header and the notice."""

from dataclasses import dataclass
from typing import assert_never

from mlxd import __version__, called
from mlxd.tui.format import span
from mlxd.tui.problems import (
    ConnectionLost,
    NotAllowed,
    NotRunning,
    NotUnderstood,
    ServerProblem,
    ServerRefused,
)
from mlxd.tui.toned_text import Line

FRESH = 5.0
"""Seconds after which a status is said to be old."""


@dataclass(frozen=True)
class ConnectionState:
    """Times are of one monotonic clock, 0 before anything happened.

    `seen` is when the last status came, `retry` when the next attempt begins, and `paused` when
    the person stopped the picture.
    """

    connected: bool = False
    problem: ServerProblem | None = None
    seen: float = 0.0
    retry: float = 0.0
    paused: float = 0.0

    def is_stale(self, now: float) -> bool:
        """Whether what is shown is of an earlier time without the person wanting that."""
        return not self.connected or (self.seen > 0 and now - self.seen > FRESH)

    def mark(self, now: float) -> Line:
        """For the end of the header."""
        if self.paused:
            return [(f"PAUSED {span(round(now - self.paused))}", "accent")]
        if self.seen and not self.connected:
            return [(f"gone {span(round(now - self.seen))}", "bad")]
        if self.is_stale(now) and self.seen:
            return [(f"{span(round(now - self.seen))} old", "bad")]
        if self.problem is not None:
            return [("not connected", "bad")]
        return [("live", "good")] if self.connected else [("connecting", "warn")]

    def notice(self, now: float) -> Line:
        """What is wrong, what to do, and when it is tried again; empty if all is well."""
        if self.problem is None:
            return []
        again = f" Next attempt in {max(0, round(self.retry - now))} s."
        if self.retry <= now:
            again = " Trying now."
        advice = remedy(self.problem)
        return [
            (str(self.problem), "bad"),
            (f" {advice}" if advice else "", "title"),
            (again, "dim"),
        ]


def remedy(problem: ServerProblem) -> str:
    """What the person can do."""
    match problem:
        case NotRunning():
            return f"Start one with `{called()} serve`, or name another with --url."
        case NotAllowed():
            return "Give its admin token with --token, or run this on the server's account."
        case ServerRefused(status=404):
            return "Its admin endpoint is off (admin.enabled), or it is older than this program."
        case NotUnderstood():
            return f"Use the version of mlxd that the server has; this is {__version__}."
        case ConnectionLost() | ServerRefused() | ServerProblem():
            return ""
    assert_never(problem)
