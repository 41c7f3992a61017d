"""Why a service ended for good: `service.json` in the state folder.

It is there between such an end and the next start that works. launchd can't tell exit codes apart,
and starts everything again that has failed; so there the code is only in this file.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from mlxd import __version__
from mlxd.admin_token import OWNER_ONLY, folder

FOR_GOOD = (2, 3)
"""Exit codes that another start would not change: the configuration, or a port or store in use."""


class LastExit(msgspec.Struct, frozen=True):
    """How the service ended; `at` is in seconds since 1970."""

    code: int
    reason: str
    at: float = 0.0
    version: str = ""


def file() -> Path:
    """Where it is written."""
    return folder() / "service.json"


def read() -> LastExit | None:
    """Why the service does not run; None if it did not end for good."""
    try:
        return msgspec.json.decode(file().read_bytes(), type=LastExit)
    except (OSError, msgspec.DecodeError):
        return None


def write(code: int, reason: str) -> None:
    """Leave the reason for `mlxd service status`."""
    last = LastExit(code, reason, round(time.time(), 3), __version__)
    path = file()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    # Where nothing can be written, the log still says it.
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "wb") as opened:
            opened.write(msgspec.json.encode(last))
        new.replace(path)


def clear() -> None:
    """The service has started."""
    with suppress(OSError):
        file().unlink(missing_ok=True)


def exit_code(code: int, platform: str) -> int:
    """With what the process ends, so that its manager leaves it alone where that is right."""
    return 0 if platform == "darwin" and code in FOR_GOOD else code
