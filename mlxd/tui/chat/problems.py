"""What goes wrong in a chat: a name for it, and what the person can do."""

from collections.abc import Sequence

from mlxd import called
from mlxd.tui.chat.safe_text import one_line
from mlxd.tui.problems import (
    ConnectionLost,
    NotAllowed,
    NotRunning,
    NotUnderstood,
    ServerProblem,
    ServerRefused,
)

NOT_RUNNING = "not_running"
NOT_ALLOWED = "not_allowed"
CONNECTION_LOST = "connection_lost"
NOT_UNDERSTOOD = "not_understood"
STORE_UNAVAILABLE = "store_unavailable"
UNKNOWN_URL = "unknown_url"
MODEL_NOT_FOUND = "model_not_found"
CONTEXT_FULL = "context_length_exceeded"

ENDS = (".", "!", "?", "…", ":")
AGAIN = "/retry asks again."
LATER = frozenset(
    {
        *("queue_full", "overloaded", "rate_limit_exceeded", "model_loading", "shutting_down"),
        *("engine_failed", "engine_crashed", "engine_stalled", "out_of_memory", "server_error"),
        *("deadline_exceeded", CONNECTION_LOST, STORE_UNAVAILABLE),
    }
)
"""Problems that may be over when one asks again."""


def code_of(problem: ServerProblem) -> str:
    """One word for a problem: the server's own where it gave one."""
    match problem:
        case NotRunning():
            return NOT_RUNNING
        case NotAllowed():
            return NOT_ALLOWED
        case ConnectionLost():
            return CONNECTION_LOST
        case ServerRefused(code=code, status=status):
            return code or f"status_{status}"
        case NotUnderstood():
            return NOT_UNDERSTOOD
    return type(problem).__name__


def words(problem: ServerProblem) -> str:
    """What happened, in one line that is safe to show."""
    match problem:
        case ServerRefused(code=code) if code == UNKNOWN_URL:
            text = "The server has no Responses API: its `dialects` leave it out."
        case _:
            text = str(problem)
    return one_line(text, 600)


def advised(happened: str, helps: str) -> str:
    """What happened, in the server's words, and what helps: two sentences, whoever wrote them."""
    if not helps:
        return happened
    return f"{happened}{'' if happened.endswith(ENDS) else '.'} {helps}"


def remedy(code: str, *, models: Sequence[str] = ()) -> str:
    """What helps in the app against a problem; empty if nothing is known to."""
    match code:
        case "not_running":
            return f"Start one in another terminal: {called()} serve. Then {AGAIN}"
        case "model_not_found":
            known = f" There are: {', '.join(models)}." if models else ""
            return f"/model NAME takes another one.{known}"
        case "context_length_exceeded":
            return "/clear begins a new conversation; /save FILE keeps this one."
        case _ if code in LATER:
            return AGAIN
    return remedy_in_shell(code)


def remedy_in_shell(code: str) -> str:
    """What helps on the command line."""
    match code:
        case "not_running":
            return f"Start one in another terminal: {called()} serve"
        case "not_allowed":
            return "Give one of its keys with --api-key, or in MLXD_API_KEY."
    return ""
