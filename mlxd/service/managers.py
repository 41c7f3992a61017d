"""Who runs services here: systemd or launchd, behind the commands that each of them takes.

A manager is a value: the steps to install, start, stop and remove the service can be shown as well
as run.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mlxd.service.units import LABEL, UNIT, WRITTEN, Service, launchd_plist, systemd_unit

PATIENCE = 60.0
"""Seconds in which a manager answers."""
AGAIN = 0.5
BUSY = (5, 37)
"""Exit codes of `launchctl bootstrap` while it still removes what was there."""


class ManagerFailed(Exception):
    """The manager can't be reached, or has refused; in words."""


class ManagerStep(NamedTuple):
    """A command. `may_fail`: what it does may be done already; `tries`: its manager may be busy."""

    command: tuple[str, ...]
    may_fail: bool = False
    tries: int = 1

    def __str__(self) -> str:
        return shlex.join(self.command)


class ServiceState(NamedTuple):
    """What the manager says of the service; `pid` is 0 when it does not run."""

    pid: int
    words: str
    known: bool


@dataclass(frozen=True)
class Manager:
    """How the service is handled here."""

    name: str
    unit_file: Path
    unit: Callable[[Service], str]
    install: tuple[ManagerStep, ...]
    remove: tuple[ManagerStep, ...]
    """Before the unit's file goes."""
    removed: tuple[ManagerStep, ...]
    start: tuple[ManagerStep, ...]
    stop: tuple[ManagerStep, ...]
    """Asks it to end, and does not wait."""
    state: Callable[[], ServiceState]

    @property
    def installed(self) -> bool:
        """Whether there is a unit of ours."""
        return self.unit_file.is_file() and not self.foreign

    @property
    def foreign(self) -> bool:
        """Whether a unit of this name is there that is not ours to change."""
        try:
            return WRITTEN not in self.unit_file.read_text("utf-8", "replace")
        except FileNotFoundError:
            return False
        except OSError:
            return True


def carry_out(steps: Sequence[ManagerStep]) -> None:
    """Run commands one after the other; raises `ManagerFailed`."""
    for step in steps:
        for left in reversed(range(step.tries)):
            done = _run(step.command)
            if done.returncode not in BUSY or not left:
                break
            time.sleep(AGAIN)
        if done.returncode and not step.may_fail:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise ManagerFailed(f"`{step}`: {said[-1] if said else f'exit {done.returncode}'}")


def manager_for(platform: str, home: Path, *, needed: bool = True) -> Manager:
    """The manager of this system; raises `ManagerFailed` where it is `needed` and not there."""
    program = {"linux": "systemctl", "darwin": "launchctl"}.get(platform)
    if program is None or (needed and shutil.which(program) is None):
        raise ManagerFailed(
            "neither systemd nor launchd is here; let what starts services here run "
            "`mlxd serve --service`"
        )
    return launchd(home) if program == "launchctl" else systemd(home)


def systemd(home: Path) -> Manager:
    """The systemd of this account."""

    def step(*words: str, may_fail: bool = False) -> ManagerStep:
        return ManagerStep(("systemctl", "--user", *words), may_fail)

    # A service that failed too often is only started again after this.
    forgive = step("reset-failed", UNIT, may_fail=True)
    return Manager(
        name="systemd",
        # Whatever XDG_CONFIG_HOME is in a shell: systemd was there before it, and has its own.
        unit_file=home / ".config" / "systemd" / "user" / UNIT,
        unit=systemd_unit,
        install=(step("daemon-reload"), forgive, step("enable", "--now", UNIT)),
        remove=(step("disable", "--now", UNIT),),
        removed=(step("daemon-reload"), forgive),
        start=(forgive, step("start", UNIT)),
        stop=(step("--no-block", "stop", UNIT),),
        state=_systemd_state,
    )


def _systemd_state() -> ServiceState:
    properties = ("LoadState", "ActiveState", "SubState", "MainPID", "UnitFileState", "Result")
    command = ("systemctl", "--user", "show", UNIT, f"--property={','.join(properties)}")
    done = _run(command)
    if done.returncode:
        said = done.stderr.strip() or f"exit {done.returncode}"
        raise ManagerFailed(
            f"systemd has nothing for this account ({said}). It begins with a login, not with su "
            "or sudo, and is not there in containers: run `mlxd serve --service` there."
        )
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    words = [found.get("ActiveState", "unknown"), found.get("SubState", "")]
    if found.get("Result", "success") != "success":
        words.append(found["Result"])
    if found.get("UnitFileState"):
        words.append(found["UnitFileState"])
    pid = found.get("MainPID", "")
    known = found.get("LoadState") == "loaded"
    return ServiceState(int(pid) if pid.isdigit() else 0, ", ".join(filter(None, words)), known)


def launchd(home: Path) -> Manager:
    """The launchd of this account."""
    domain = _domain()
    service = f"{domain}/{LABEL}"
    file = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"

    def step(*words: str, may_fail: bool = False, tries: int = 1) -> ManagerStep:
        return ManagerStep(("launchctl", *words), may_fail, tries)

    take_out = step("bootout", service, may_fail=True)
    return Manager(
        name="launchd",
        unit_file=file,
        unit=launchd_plist,
        # What is there already would be error 5; a service that was disabled once stays so.
        install=(take_out, step("enable", service), step("bootstrap", domain, str(file), tries=20)),
        remove=(take_out,),
        removed=(),
        start=(step("kickstart", service),),
        stop=(step("kill", "SIGTERM", service, may_fail=True),),
        state=lambda: _launchd_state(service),
    )


def _domain() -> str:
    """Whose services: those of the desktop, or over SSH without one those of the account."""
    desktop = f"gui/{os.getuid()}"
    if shutil.which("launchctl") is None or not _run(("launchctl", "print", desktop)).returncode:
        return desktop
    return f"user/{os.getuid()}"


def _launchd_state(service: str) -> ServiceState:
    done = _run(("launchctl", "print", service))
    if done.returncode:
        return ServiceState(0, "not loaded", known=False)
    # The first of each: deeper tables repeat the names.
    found: dict[str, str] = {}
    for name, value in re.findall(r"^\s*(state|pid|last exit code) = (.+)$", done.stdout, re.M):
        found.setdefault(name, value)
    words = [found.get("state", "unknown")]
    if found.get("last exit code", "0") not in ("0", "(never exited)"):
        words.append(f"last exit code {found['last exit code']}")
    pid = found.get("pid", "")
    return ServiceState(int(pid) if pid.isdigit() else 0, ", ".join(words), known=True)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ManagerFailed(f"`{shlex.join(command)}`: {error}") from error
