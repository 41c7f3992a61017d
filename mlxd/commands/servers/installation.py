"""The service of this account: what its unit says, whether it runs, how it ends and starts."""

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from mlxd import __version__, called, outdated
from mlxd.admin_token import Access, folder
from mlxd.commands.options import fail, load
from mlxd.commands.own_server import fetched
from mlxd.commands.servers.ending import OVERTIME, end
from mlxd.commands.servers.found import servers, statuses
from mlxd.config.load import Loaded
from mlxd.config.places import own_file
from mlxd.service import last_exit
from mlxd.service.environment import copied
from mlxd.service.log_files import server_log
from mlxd.service.managers import Manager, ManagerStep, ServiceState, carry_out
from mlxd.service.units import Service

POLL = 0.2
STARTS = 60.0
"""Seconds in which the service answers after its start."""


class Plan(NamedTuple):
    """The service to install, the configuration that it will read, and what to say about it."""

    service: Service
    loaded: Loaded
    variables: dict[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def planned(environment: Mapping[str, str]) -> Plan:
    """The service as it would be installed from this shell; raises `ConfigError`."""
    loaded = load(None, service=True)
    settings = loaded.settings
    secrets = [*settings.server.api_keys, settings.admin.token]
    variables, left_out = copied(environment, secrets)
    program, notes = entry(Path.home())
    if left_out:
        names = ", ".join(left_out)
        ours = any(name.upper().startswith("MLXD_") for name in left_out)
        instead = f" What the server needs of it goes into {own_file()}." if ours else ""
        notes += (f"{names}: not copied, as a unit is no place for keys.{instead}",)
    if not loaded.file:
        here = "./mlxd.toml is not read by a service. " if Path("mlxd.toml").is_file() else ""
        notes += (f"{here}Without {own_file()} it serves the defaults.",)
    service = Service(
        command=(*program, "serve", "--service"),
        home=Path.home(),
        log_folder=server_log().parent,
        # A little longer than the server gives itself, or it would be killed before.
        stop_seconds=math.ceil(settings.server.drain_seconds + OVERTIME),
        environment=variables,
    )
    return Plan(service, loaded, variables, left_out, notes)


def entry(home: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The program that stays when mlxd is updated, and what is wrong with it."""
    own = Path(sys.prefix).resolve() if sys.prefix != sys.base_prefix else None
    for found in (home / ".local" / "bin" / "mlxd", shutil.which("mlxd")):
        if not found or not os.access(found, os.X_OK):
            continue
        path = Path(os.path.abspath(found))
        # Its folder, not where a link there leads: the link is what stays.
        if own not in path.parent.resolve().parents:
            return (str(path),), _other_version(path)
    script = Path(sys.executable).with_name("mlxd")
    program = (str(script),) if script.is_file() else (sys.executable, "-m", "mlxd")
    return program, (
        f"The service needs {sys.prefix}, which must stay; `make install`, uv or pipx put mlxd "
        "where it can be updated.",
    )


def _other_version(path: Path) -> tuple[str, ...]:
    with suppress(OSError, subprocess.TimeoutExpired):
        shown = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
        said = shown.stdout.strip()
        if said != f"mlxd {__version__}":
            return (f"{path} is {said or 'not able to start'}, and this is mlxd {__version__}.",)
    return ()


def checked(plan: Plan) -> bool:
    """Whether `mlxd doctor` finds nothing wrong, as the service's program and environment are."""
    config = ["--config", str(plan.loaded.file)] if plan.loaded.file else []
    environment = {name: os.environ[name] for name in os.environ if name not in plan.left_out}
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [*plan.service.command[:-2], "doctor", *config]
    # Where there is no ./mlxd.toml.
    return not subprocess.run(command, cwd=folder(), env=environment, check=False).returncode


def write_unit(manager: Manager, service: Service) -> None:
    """Put the unit where its manager looks, and make the folder of the log."""
    service.log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = manager.unit_file
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(manager.unit(service), encoding="utf-8")
    new.replace(path)


def service_access(pid: int = 0) -> Access | None:
    """What the service has left, that with this process if it is given."""
    found = [each for each in servers(None) if each.started_by == "service"]
    return next((each for each in reversed(found) if pid in (0, each.pid)), None)


def end_service(manager: Manager) -> bool:
    """Whether the service has ended, after it was asked to; raises `ManagerFailed`."""
    pid = manager.state().pid
    if not pid:
        return True
    click.echo("Stopping the service.", err=True)
    if access := service_access(pid):
        return not end({access: lambda: carry_out(manager.stop)}, now=False)
    # Its admin endpoint is off: only the manager sees it.
    carry_out(manager.stop)
    until = time.monotonic() + STARTS
    while manager.state().pid and time.monotonic() < until:
        time.sleep(POLL)
    return not manager.state().pid


def start_service(manager: Manager, steps: tuple[ManagerStep, ...], loaded: Loaded) -> bool:
    """Whether the service answers, after these steps; raises `ManagerFailed`."""
    last_exit.clear()
    carry_out(steps)
    settings = loaded.settings
    until = time.monotonic() + STARTS
    while time.monotonic() < until:
        if reason := last_exit.read():
            fail(f"the service does not start: {reason.reason}")
            return False
        access = service_access()
        url = access.url if access else f"http://{settings.server.host}:{settings.server.port}"
        if access or not settings.admin.enabled:
            health = fetched(url, "/health").get("status")
            if health:
                click.echo(f"The service answers at {url} ({health}).")
                return True
        time.sleep(POLL)
    fail(f"the service does not answer; {manager.name} says: {manager.state().words}.")
    fail(f"`{called()} service logs` shows why.")
    return False


def lingers() -> bool:
    """Whether services of this account go on without a login; true where that can't be known."""
    user = str(os.getuid())
    command = ["loginctl", "show-user", user, "--property=Linger", "--value"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.stdout.strip() != "no"


def remove_unit(manager: Manager) -> None:
    """Take the unit away; raises `ManagerFailed`."""
    carry_out(manager.remove)
    manager.unit_file.unlink(missing_ok=True)
    carry_out(manager.removed)


def facts_of(manager: Manager) -> dict[str, Any]:
    """How the service is, as `mlxd service status --json` has it."""
    installed = manager.installed
    state = manager.state() if installed else ServiceState(0, "", known=False)
    last = last_exit.read()
    access = service_access(state.pid) if state.pid else None
    server = statuses([access])[0].get("server", {}) if access else {}
    version = server.get("version", "")
    return {
        "installed": installed,
        "manager": manager.name,
        "unit": str(manager.unit_file),
        "state": state.words,
        "pid": state.pid,
        "url": access.url if access else "",
        "health": server.get("health", ""),
        "uptime": server.get("uptime", 0.0),
        "version": version,
        "installed_version": __version__,
        "restart_needed": outdated(version),
        "last_exit": {"code": last.code, "reason": last.reason, "at": last.at} if last else None,
        "log": str(server_log()),
    }
