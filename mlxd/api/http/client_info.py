"""Who a client is, as far as it says so: its address, its program, its name for a session."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SESSION_HEADERS = (
    *("x-session-id", "x-session-affinity", "session-id", "session_id", "thread-id"),
)
"""Headers in which programs name the session that a request belongs to; the first one counts."""
MAX_SESSION = 200
"""Characters of a session's name that are looked at."""

_PROGRAM = re.compile(r"[A-Za-z][A-Za-z0-9 ._@-]{0,39}")


@dataclass(frozen=True)
class ClientInfo:
    """`address` is empty on a Unix socket, `agent` the name of the program without its version."""

    address: str = ""
    agent: str = ""
    session: str = ""


NOBODY = ClientInfo()


def client_of(
    address: str, headers: Mapping[str, str], session_headers: Sequence[str] = ()
) -> ClientInfo:
    """The client that sent these header fields; names are matched without regard to case.

    `session_headers` come before those that programs of all kinds use.
    """
    named = (headers.get(name, "") for name in (*session_headers, *SESSION_HEADERS))
    session = next(filter(None, named), "")[:MAX_SESSION]
    return ClientInfo(address, program(headers.get("user-agent", "")), session)


def program(user_agent: str) -> str:
    """The name that a User-Agent begins with: `OpenAI` of `OpenAI/Python 2.1`."""
    name = user_agent.partition("/")[0].strip()
    return name if _PROGRAM.fullmatch(name) else ""
