"""What can go wrong between a terminal app and a server, each in words for the person at it.

ServerProblem
├── NotRunning          nothing answers at the address
├── NotAllowed          the token or API key is missing or wrong
├── ServerRefused       the server said no, with its reason
├── NotUnderstood       something answers, but not as this version of mlxd does
└── ConnectionLost      an answer ended before its end
"""

from dataclasses import dataclass


@dataclass(eq=False)
class ServerProblem(Exception):
    """`url` is the server's address, as the caller gave it."""

    url: str


@dataclass(eq=False)
class NotRunning(ServerProblem):
    """`reason` says why no connection was made, in the system's words."""

    reason: str = ""

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"No server answers at {self.url}{reason}."


@dataclass(eq=False)
class NotAllowed(ServerProblem):
    """`status` is 401 or 403; `message` is the server's, empty if it gave none."""

    status: int
    message: str = ""

    def __str__(self) -> str:
        return f"{self.url} refuses: {self.message or 'the token or key is missing or wrong.'}"


@dataclass(eq=False)
class ServerRefused(ServerProblem):
    """`retry_after` is in seconds, 0 when trying again needs no wait or makes no sense."""

    status: int
    message: str
    code: str = ""
    retry_after: float = 0.0

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False)
class NotUnderstood(ServerProblem):
    """`reason` says what is not as expected."""

    reason: str

    def __str__(self) -> str:
        return f"{self.url} answers, but not as mlxd of this version does: {self.reason}"


@dataclass(eq=False)
class ConnectionLost(ServerProblem):
    """`reason` is empty when the stream ended without one."""

    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"The connection to {self.url} was lost{reason}."
