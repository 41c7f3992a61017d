"""Which process a number means: that of a process that ended may be another's by now."""

import os
import signal
import subprocess
from pathlib import Path

from mlxd.admin_token import Access

PROC = Path("/proc")
STATE, BEGUN = 0, 19
"""Fields of `/proc/PID/stat` behind the program's name."""


def birth(pid: int) -> str:
    """What no other process has; empty for one that is over or not to be seen.

    It is for comparing only: the number, and when the process began in the system's own words.
    """
    if (PROC / "self").exists():
        try:
            # The name, in parentheses, may hold anything.
            words = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2]
        except OSError:
            return ""
        fields = words.split()
        return "" if fields[STATE] in "ZX" else f"{pid} {fields[BEGUN]}"
    # Words and times in this form whatever the language and the time zone of who asks.
    neutral = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    command = ["/bin/ps", "-o", "state=", "-o", "lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=neutral)
    state, _, begun = shown.stdout.strip().partition(" ")
    return "" if not begun or state.startswith("Z") else f"{pid} {' '.join(begun.split())}"


def lives(access: Access) -> bool:
    """Whether the process that left `access` is still there."""
    return bool(access.birth) and birth(access.pid) == access.birth


def send(access: Access, number: signal.Signals) -> bool:
    """Signal the server that left `access`; false if its process is over, or can't be told."""
    if not lives(access):
        return False
    try:
        os.kill(access.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
