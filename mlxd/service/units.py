"""The service as text for its manager: a unit of systemd, a property list of launchd. Pure."""

import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

WRITTEN = "Written by `mlxd service install`, which writes it anew."
"""What tells a unit of ours from one that a person has written."""
LABEL = "local.mlxd"
UNIT = "mlxd.service"
CRASHES = "crash.log"
RESTART_WAIT = 10
"""Seconds between two starts that launchd waits at least."""

SYSTEMD = """\
# {written}
[Unit]
Description=mlxd, the local inference server
StartLimitIntervalSec=300
StartLimitBurst=5
[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
{environment}Restart=on-failure
RestartSec=2
# 2 configuration, 3 port or store in use
RestartPreventExitStatus=2 3
TimeoutStopSec={stop_seconds}
# TERM to the server alone, which drains
KillMode=mixed
# an engine that the kernel killed is replaced by the supervisor
OOMPolicy=continue
NoNewPrivileges=yes
[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Service:
    """What is to run: `stop_seconds` are how long it may take to end."""

    command: tuple[str, ...]
    home: Path
    log_folder: Path
    stop_seconds: int
    environment: Mapping[str, str] = field(default_factory=dict)


def systemd_unit(service: Service) -> str:
    """The unit for a user's systemd."""
    words = [_word(each, service.home) for each in service.command]
    # In quotes, as values may have blanks; systemd looks for no `$` there.
    assigned = (_quoted(f"{name}={value}") for name, value in service.environment.items())
    return SYSTEMD.format(
        written=WRITTEN,
        command=" ".join(words),
        environment="".join(f"Environment={each}\n" for each in assigned),
        stop_seconds=service.stop_seconds,
    )


def launchd_plist(service: Service) -> str:
    """The property list for launchd."""
    entries = {
        "Label": LABEL,
        "ProgramArguments": list(service.command),
        "EnvironmentVariables": {"PATH": "/usr/bin:/bin", **service.environment},
        "RunAtLoad": True,
        # After a crash, but not after an end in order.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_WAIT,
        "ExitTimeOut": service.stop_seconds,
        # Else CPU and I/O are held down, as of something that nobody waits for.
        "ProcessType": "Interactive",
        "StandardErrorPath": str(service.log_folder / CRASHES),
    }
    text = plistlib.dumps(entries, sort_keys=False).decode()
    return text.replace("<plist ", f"<!-- {WRITTEN} -->\n<plist ", 1)


def _word(text: str, home: Path) -> str:
    """One word of a command line of systemd, which replaces `%` and `$` in it."""
    folder = f"{home}/"
    below = text.startswith(folder) and home != Path("/")
    escaped = text.removeprefix(folder if below else "").replace("$", "$$")
    word = ("%h/" if below else "") + escaped.replace("%", "%%")
    return word if re.fullmatch(r"[\w./%$@:+=,-]+", word, re.ASCII) else _in_quotes(word)


def _quoted(text: str) -> str:
    return _in_quotes(text.replace("%", "%%"))


def _in_quotes(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
