"""A `systemctl --user` with one unit, whose service it runs with a script instead of a model."""

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

HOME = Path(os.environ["HOME"])
CALLS, PID, ENABLED = HOME / "calls", HOME / "service.pid", HOME / "enabled"
UNIT = HOME / ".config" / "systemd" / "user" / "mlxd.service"


def running() -> int:
    """Process id of the service, 0 without one."""
    with suppress(OSError, ValueError):
        pid = int(PID.read_text())
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        return 0 if stat.split()[0] == "Z" else pid
    return 0


def start() -> None:
    """Run what the unit says, in the environment that it says."""
    unit = UNIT.read_text("utf-8").replace("%h", str(HOME)).replace("%%", "%")
    (command,) = re.findall("^ExecStart=(.+)$", unit, re.M)
    given = dict(
        shlex.split(each)[0].split("=", 1) for each in re.findall("^Environment=(.+)$", unit, re.M)
    )
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "PYTHONPATH")}
    with (HOME / "journal").open("ab") as journal:
        process = subprocess.Popen(
            [*shlex.split(command), "--scripted", "agent"],
            cwd=HOME,
            env={**kept, **given},
            stdout=journal,
            stderr=journal,
            start_new_session=True,
        )
    PID.write_text(str(process.pid))


def main(words: list[str]) -> None:
    with CALLS.open("a") as calls:
        calls.write(" ".join(words) + "\n")
    assert words.pop(0) == "--user"
    pid = running()
    match words:
        case ["enable", "--now", "mlxd.service"]:
            ENABLED.touch()
            if not pid:
                start()
        case ["start", "mlxd.service"]:
            if not pid:
                start()
        case ["--no-block", "stop", "mlxd.service"]:
            if pid:
                os.kill(pid, signal.SIGTERM)
        case ["disable", "--now", "mlxd.service"]:
            ENABLED.unlink()
        case ["show", "mlxd.service", _]:
            sys.stdout.write(f"LoadState=loaded\nMainPID={pid}\nResult=success\n")
            sys.stdout.write(f"ActiveState={'active' if pid else 'inactive'}\n")
            sys.stdout.write(f"UnitFileState={'enabled' if ENABLED.exists() else 'disabled'}\n")
        case ["daemon-reload"] | ["reset-failed", "mlxd.service"]:
            pass
        case _:
            sys.exit(f"Unknown command verb {words}.")


if __name__ == "__main__":
    main(sys.argv[1:])
